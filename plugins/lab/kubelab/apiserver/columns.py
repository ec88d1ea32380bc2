"""The columns kubectl shows for the built-in kinds."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from kubelab.clock import age, duration
from kubelab.objects import lasting_containers

from .errors import Json


@frozen
class Column:
    """One column; ``priority`` above 0 shows with ``-o wide`` only."""

    name: str
    read: Callable[[Json], Any]
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""


def _wide(name: str, read: Callable[[Json], Any]) -> Column:
    return Column(name, read, "string", 1)


def _number(name: str, read: Callable[[Json], Any]) -> Column:
    return Column(name, read, "integer")


def _age(obj: Json) -> str:
    return age(obj["metadata"].get("creationTimestamp"))


def _get(obj: object, path: str, default: object = None) -> Any:
    for step in path.split("."):
        obj = obj.get(step) if isinstance(obj, dict) else None
        if obj is None:
            return default
    return obj


def _labels(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted((labels or {}).items())) or "<none>"


def _selector(selector: Json | None) -> str:
    if selector is None:
        return "<none>"
    terms = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or []:
        values = ",".join(sorted(term.get("values") or []))
        words = {"In": f"{term['key']} in ({values})", "NotIn": f"{term['key']} notin ({values})"}
        words |= {"Exists": term["key"], "DoesNotExist": f"!{term['key']}"}
        terms.append(words[term["operator"]])
    return ",".join(terms) or "<none>"


def _pod_status(pod: Json) -> str:
    status = pod.get("status") or {}
    reason = status.get("reason") or status.get("phase") or "Unknown"
    for container in reversed(status.get("containerStatuses") or []):
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif ended:
            reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode', 0)}"
    if "deletionTimestamp" in pod["metadata"]:
        reason = "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(reason)


def _pod_ready(pod: Json) -> str:
    total = len(list(lasting_containers(pod.get("spec") or {})))
    ready = sum(bool(c.get("ready")) for c in _lasting_statuses(pod))
    return f"{ready}/{total}"


def _restarts(pod: Json) -> str:
    return str(sum(c.get("restartCount", 0) for c in _lasting_statuses(pod)))


def _lasting_statuses(pod: Json) -> list[Json]:
    """Statuses of the containers that run as long as the pod does, its sidecars among them."""
    names = {c.get("name") for c in lasting_containers(pod.get("spec") or {})}
    found = [*_get(pod, "status.containerStatuses", []), *_get(pod, "status.initContainerStatuses", [])]
    return [c for c in found if c.get("name") in names]


def _pod_ip(pod: Json) -> str:
    ips = _get(pod, "status.podIPs", [])
    return str(ips[0]["ip"] if ips else _get(pod, "status.podIP", "<none>"))


def _gates(pod: Json) -> str:
    gates = [g["conditionType"] for g in _get(pod, "spec.readinessGates", [])]
    if not gates:
        return "<none>"
    true = {c["type"] for c in _get(pod, "status.conditions", []) if c["status"] == "True"}
    return f"{sum(g in true for g in gates)}/{len(gates)}"


def _node_status(node: Json) -> str:
    ready = next((c for c in _get(node, "status.conditions", []) if c["type"] == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"]
    if _get(node, "spec.unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: Json) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels") or {}
    return ",".join(sorted(k[len(prefix) :] for k in labels if k.startswith(prefix))) or "<none>"


def _node_address(kind: str) -> Callable[[Json], str]:
    def read(node: Json) -> str:
        found = (a["address"] for a in _get(node, "status.addresses", []) if a["type"] == kind)
        return next(found, "<none>")

    return read


def _node_info(name: str) -> Callable[[Json], str]:
    return lambda node: _get(node, f"status.nodeInfo.{name}") or "<unknown>"


def _external_ip(service: Json) -> str:
    spec = service["spec"]
    listed = list(spec.get("externalIPs") or [])
    if spec["type"] == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec["type"] == "LoadBalancer":
        ingress = _get(service, "status.loadBalancer.ingress", [])
        listed = [i.get("ip") or i.get("hostname", "") for i in ingress] + listed
        return ",".join(listed) or "<pending>"
    return ",".join(listed) or "<none>"


def _service_ports(service: Json) -> str:
    def show(port: Json) -> str:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        return f"{port['port']}{node}/{port.get('protocol', 'TCP')}"

    return ",".join(show(p) for p in service["spec"].get("ports") or []) or "<none>"


def _endpoints(obj: Json) -> str:
    listed = []
    for subset in obj.get("subsets") or []:
        for address in subset.get("addresses") or []:
            ports = subset.get("ports") or []
            listed += [f"{address['ip']}:{p['port']}" for p in ports] or [address["ip"]]
    return _some(listed)


def _some(values: list[str], most: int = 3) -> str:
    text = ",".join(values[:most]) or "<none>"
    return f"{text} + {len(values) - most} more..." if len(values) > most else text


def _slice_ports(obj: Json) -> str:
    return _some([str(p.get("port", "*")) for p in obj.get("ports") or []]) if obj.get("ports") else "<unset>"


def _slice_addresses(obj: Json) -> str:
    addresses = [a for e in obj.get("endpoints") or [] for a in e.get("addresses") or []]
    return _some(addresses) if addresses else "<unset>"


def _containers(path: str) -> tuple[Column, Column]:
    def names(obj: Json) -> str:
        return ",".join(c["name"] for c in _get(obj, path, []))

    def images(obj: Json) -> str:
        return ",".join(c.get("image", "") for c in _get(obj, path, []))

    return _wide("Containers", names), _wide("Images", images)


def _event_subject(event: Json) -> str:
    subject = event.get("involvedObject") or {}
    return f"{subject.get('kind', '').lower()}/{subject.get('name', '')}"


def _event_seen(event: Json) -> str:
    series = event.get("series") or {}
    return age(
        series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or _created(event)
    )


def _created(obj: Json) -> str:
    return str(obj["metadata"].get("creationTimestamp", ""))


def _job_duration(job: Json) -> str:
    start, end = _get(job, "status.startTime"), _get(job, "status.completionTime")
    if not start:
        return ""
    if not end:
        return age(start)
    return duration((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def _count(path: str) -> Callable[[Json], int]:
    return lambda obj: int(_get(obj, path, 0))


_NAME = Column(
    "Name", lambda o: o["metadata"]["name"], "string", 0, "name", "Name must be unique within a namespace."
)
_AGE = Column("Age", _age)
_POD_SELECTOR = _wide("Selector", lambda o: _selector(_get(o, "spec.selector")))
_TEMPLATE = "spec.template.spec.containers"


def _subjects(kind: str) -> Callable[[Json], str]:
    def read(obj: Json) -> str:
        found = [s for s in obj.get("subjects") or [] if s.get("kind") == kind]
        named = (f"{s['namespace']}/{s['name']}" if s.get("namespace") else s["name"] for s in found)
        return ", ".join(named)

    return read


_BINDING = (
    _NAME,
    Column("Role", lambda o: f"{o['roleRef']['kind']}/{o['roleRef']['name']}"),
    _AGE,
    _wide("Users", _subjects("User")),
    _wide("Groups", _subjects("Group")),
    _wide("ServiceAccounts", _subjects("ServiceAccount")),
)
_CREATED_AT = Column("Created At", _created, "date")

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "": (_NAME, _AGE),
    "pods": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        _wide("IP", _pod_ip),
        _wide("Node", lambda o: _get(o, "spec.nodeName") or "<none>"),
        _wide("Nominated Node", lambda o: _get(o, "status.nominatedNodeName") or "<none>"),
        _wide("Readiness Gates", _gates),
    ),
    "nodes": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", lambda o: _get(o, "status.nodeInfo.kubeletVersion", "")),
        _wide("Internal-IP", _node_address("InternalIP")),
        _wide("External-IP", _node_address("ExternalIP")),
        _wide("OS-Image", _node_info("osImage")),
        _wide("Kernel-Version", _node_info("kernelVersion")),
        _wide("Container-Runtime", _node_info("containerRuntimeVersion")),
    ),
    "namespaces": (_NAME, Column("Status", lambda o: _get(o, "status.phase", "")), _AGE),
    "services": (
        _NAME,
        Column("Type", lambda o: o["spec"]["type"]),
        Column("Cluster-IP", lambda o: o["spec"].get("clusterIP") or "<none>"),
        Column("External-IP", _external_ip),
        Column("Port(s)", _service_ports),
        _AGE,
        _wide("Selector", lambda o: _labels(o["spec"].get("selector"))),
    ),
    "endpoints": (_NAME, Column("Endpoints", _endpoints), _AGE),
    "endpointslices.discovery.k8s.io": (
        _NAME,
        Column("AddressType", lambda o: o["addressType"]),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_addresses),
        _AGE,
    ),
    "deployments.apps": (
        _NAME,
        Column("Ready", lambda o: f"{_get(o, 'status.readyReplicas', 0)}/{_get(o, 'spec.replicas', 0)}"),
        _number("Up-to-date", _count("status.updatedReplicas")),
        _number("Available", _count("status.availableReplicas")),
        _AGE,
        *_containers(_TEMPLATE),
        _POD_SELECTOR,
    ),
    "daemonsets.apps": (
        _NAME,
        _number("Desired", _count("status.desiredNumberScheduled")),
        _number("Current", _count("status.currentNumberScheduled")),
        _number("Ready", _count("status.numberReady")),
        _number("Up-to-date", _count("status.updatedNumberScheduled")),
        _number("Available", _count("status.numberAvailable")),
        Column("Node Selector", lambda o: _labels(_get(o, "spec.template.spec.nodeSelector"))),
        _AGE,
        *_containers(_TEMPLATE),
        _POD_SELECTOR,
    ),
    "replicasets.apps": (
        _NAME,
        _number("Desired", _count("spec.replicas")),
        _number("Current", _count("status.replicas")),
        _number("Ready", _count("status.readyReplicas")),
        _AGE,
        *_containers(_TEMPLATE),
        _POD_SELECTOR,
    ),
    "statefulsets.apps": (
        _NAME,
        Column("Ready", lambda o: f"{_get(o, 'status.readyReplicas', 0)}/{_get(o, 'spec.replicas', 0)}"),
        _AGE,
        *_containers(_TEMPLATE),
    ),
    "jobs.batch": (
        _NAME,
        Column("Completions", lambda o: f"{_get(o, 'status.succeeded', 0)}/{_get(o, 'spec.completions', 1)}"),
        Column("Duration", _job_duration),
        _AGE,
        *_containers(_TEMPLATE),
    ),
    "networkpolicies.networking.k8s.io": (
        _NAME,
        Column("Pod-Selector", lambda o: _selector(_get(o, "spec.podSelector", {}))),
        _AGE,
    ),
    "events": (
        Column("Last Seen", _event_seen),
        Column("Type", lambda o: o.get("type", "")),
        Column("Reason", lambda o: o.get("reason", "")),
        Column("Object", _event_subject),
        _wide("Subobject", lambda o: _get(o, "involvedObject.fieldPath", "")),
        _wide("Source", lambda o: _get(o, "source.component") or o.get("reportingComponent", "")),
        Column("Message", lambda o: str(o.get("message", "")).strip()),
        _wide("First Seen", lambda o: age(o.get("firstTimestamp") or o.get("eventTime") or _created(o))),
        _wide("Count", lambda o: str(_get(o, "series.count") or o.get("count") or 1)),
        Column("Name", lambda o: o["metadata"]["name"], "string", 1, "name"),
    ),
    "configmaps": (
        _NAME,
        Column("Data", lambda o: len(o.get("data") or {}) + len(o.get("binaryData") or {})),
        _AGE,
    ),
    "secrets": (
        _NAME,
        Column("Type", lambda o: o["type"]),
        _number("Data", lambda o: len(o.get("data") or {})),
        _AGE,
    ),
    "serviceaccounts": (_NAME, _number("Secrets", lambda o: len(o.get("secrets") or [])), _AGE),
    "leases.coordination.k8s.io": (_NAME, Column("Holder", lambda o: _get(o, "spec.holderIdentity", "")), _AGE),
    "customresourcedefinitions.apiextensions.k8s.io": (_NAME, _CREATED_AT),
    "roles.rbac.authorization.k8s.io": (_NAME, _CREATED_AT),
    "clusterroles.rbac.authorization.k8s.io": (_NAME, _CREATED_AT),
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
    "poddisruptionbudgets.policy": (
        _NAME,
        Column("Min Available", lambda o: str(_get(o, "spec.minAvailable", "N/A"))),
        Column("Max Unavailable", lambda o: str(_get(o, "spec.maxUnavailable", "N/A"))),
        _number("Allowed Disruptions", _count("status.disruptionsAllowed")),
        _AGE,
    ),
}
