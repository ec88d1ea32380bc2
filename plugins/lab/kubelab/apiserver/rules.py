"""Validation of names, metadata and the built-in kinds beyond what their schema says."""

import ipaddress
import re
from collections.abc import Callable, Mapping

from . import crds
from .errors import FieldProblem, Json
from .registry import Resource

Problems = list[FieldProblem]
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_LABEL_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_QUALIFIED = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation "
    "is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEY_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def name_problems(resource: Resource, name: str) -> Problems:
    """A name must fit its kind: label for namespaces, DNS-1035 for services, path segment for RBAC."""
    if not name:
        return [FieldProblem.required("metadata.name", "name or generateName is required")]
    if resource.group == "rbac.authorization.k8s.io":
        bad = "/" in name or "%" in name or name in (".", "..")
        return [FieldProblem.invalid("metadata.name", name, "may not contain '/' or '%'")] if bad else []
    if resource.collection == "namespaces":
        fits, text, limit = _LABEL.match(name), _LABEL_TEXT, 63
    elif resource.collection == "services":
        fits, text, limit = _LABEL_1035.match(name), _LABEL_1035_TEXT, 63
    else:
        fits, text, limit = _SUBDOMAIN.match(name), _SUBDOMAIN_TEXT, 253
    found = [] if fits else [FieldProblem.invalid("metadata.name", name, text)]
    if len(name) > limit:
        found.append(FieldProblem.invalid("metadata.name", name, f"must be no more than {limit} characters"))
    return found


def metadata_problems(metadata: Json) -> Problems:
    """Labels, annotations, finalizers and owner references."""
    found: Problems = []
    if metadata.get("labels"):
        found += label_problems(metadata["labels"], "metadata.labels")
    for key in metadata.get("annotations") or {}:
        if not _qualified(key.lower()):
            found.append(FieldProblem.invalid("metadata.annotations", key, _KEY_TEXT))
    for i, owner in enumerate(metadata.get("ownerReferences") or []):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                text = "must not be empty"
                found.append(
                    FieldProblem.invalid(f"metadata.ownerReferences[{i}].{name}", owner.get(name, ""), text)
                )
    return found


def label_problems(labels: Mapping[str, str], path: str) -> Problems:
    """Label keys and values."""
    found: Problems = []
    for key, value in labels.items():
        if not _qualified(key):
            found.append(FieldProblem.invalid(path, key, _KEY_TEXT))
        if value and (len(value) > 63 or not _QUALIFIED.match(value)):
            found.append(FieldProblem.invalid(path, value, _VALUE_TEXT))
    return found


def _qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or len(prefix) > 253 or not _SUBDOMAIN.match(prefix)):
        return False
    return bool(name) and len(name) <= 63 and bool(_QUALIFIED.match(name))


def object_problems(resource: Resource, obj: Json, old: Json | None) -> Problems:
    """Kind-specific rules on create (``old`` is None) and update."""
    rule = _RULES.get(resource.collection)
    return rule(obj, old) if rule is not None else []


def _pod_spec(spec: Json, path: str) -> Problems:
    found: Problems = []
    if not spec.get("containers"):
        found.append(FieldProblem.required(f"{path}.containers"))
    names: set[str] = set()
    for field in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(field) or []):
            here = f"{path}.{field}[{i}]"
            name = container.get("name", "")
            if name and not _LABEL.match(name):
                found.append(FieldProblem.invalid(f"{here}.name", name, _LABEL_TEXT))
            if name in names:
                found.append(FieldProblem.duplicate(f"{here}.name", name))
            names.add(name)
            if not container.get("image"):
                found.append(FieldProblem.required(f"{here}.image"))
            found += _container_ports(container, here)
            again = container.get("restartPolicy")
            if again is not None and field == "containers":
                text = "may not be set for non-init containers"
                found.append(FieldProblem.forbidden(f"{here}.restartPolicy", text))
            elif again not in (None, "Always"):
                found.append(FieldProblem.unsupported(f"{here}.restartPolicy", again, ["Always"]))
    policy = spec.get("restartPolicy")
    if policy not in ("Always", "OnFailure", "Never"):
        found.append(FieldProblem.unsupported(f"{path}.restartPolicy", policy, ["Always", "OnFailure", "Never"]))
    return found


def _container_ports(container: Json, path: str) -> Problems:
    found: Problems = []
    for i, port in enumerate(container.get("ports") or []):
        found += _port_number(port.get("containerPort", 0), f"{path}.ports[{i}].containerPort")
        found += _protocol(port, f"{path}.ports[{i}].protocol")
    return found


def _port_number(value: object, path: str) -> Problems:
    if isinstance(value, int) and not 1 <= value <= 65535:
        return [FieldProblem.invalid(path, value, "must be between 1 and 65535, inclusive")]
    return []


def _protocol(port: Json, path: str) -> Problems:
    protocol = port.get("protocol", "TCP")
    if protocol in ("TCP", "UDP", "SCTP"):
        return []
    return [FieldProblem.unsupported(path, protocol, ["SCTP", "TCP", "UDP"])]


_MUTABLE_POD = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")


def _pod(obj: Json, old: Json | None) -> Problems:
    spec = obj.get("spec")
    if not spec:
        return [FieldProblem.required("spec.containers")]
    found = _pod_spec(spec, "spec")
    if old is not None and _frozen_pod(spec) != _frozen_pod(old["spec"]):
        text = (
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
            "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
            "previously negative)"
        )
        found.append(FieldProblem.forbidden("spec", text))
    return found


def _frozen_pod(spec: Json) -> Json:
    fixed = {k: v for k, v in spec.items() if k not in _MUTABLE_POD and k != "ephemeralContainers"}
    for field in ("containers", "initContainers"):
        if field in fixed:
            loose = ("image", "resources")
            fixed[field] = [{k: v for k, v in c.items() if k not in loose} for c in fixed[field]]
    return fixed


def _workload(obj: Json, old: Json | None) -> Problems:
    spec = obj.get("spec") or {}
    found: Problems = []
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    selector = spec.get("selector") or {}
    if not selector:
        found.append(FieldProblem.required("spec.selector"))
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(k) != v for k, v in wanted.items()):
        text = "`selector` does not match template `labels`"
        found.append(FieldProblem.invalid("spec.template.metadata.labels", labels, text))
    if old is not None and old["spec"].get("selector") != selector:
        found.append(FieldProblem.invalid("spec.selector", selector, "field is immutable"))
    replicas = spec.get("replicas", 0)
    if isinstance(replicas, int) and replicas < 0:
        text = "must be greater than or equal to 0"
        found.append(FieldProblem.invalid("spec.replicas", replicas, text))
    return found + _pod_spec(template.get("spec") or {}, "spec.template.spec")


def _service(obj: Json, old: Json | None) -> Problems:
    spec = obj.get("spec") or {}
    found: Problems = []
    kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
    if spec.get("type") not in kinds:
        found.append(FieldProblem.unsupported("spec.type", spec.get("type", ""), kinds))
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        found.append(FieldProblem.required("spec.ports"))
    names: set[str] = set()
    for i, port in enumerate(ports):
        path = f"spec.ports[{i}]"
        found += _port_number(port.get("port", 0), f"{path}.port")
        found += _port_number(port.get("targetPort"), f"{path}.targetPort")
        found += _protocol(port, f"{path}.protocol")
        name = port.get("name", "")
        if not name and len(ports) > 1:
            found.append(FieldProblem.required(f"{path}.name"))
        elif name and name in names:
            found.append(FieldProblem.duplicate(f"{path}.name", name))
        names.add(name)
    before = (old or {}).get("spec") or {}
    if before.get("clusterIP") and "ExternalName" not in (before.get("type"), spec.get("type")):
        current = spec.get("clusterIP")
        if current and current != before["clusterIP"]:
            text = "may not change once set"
            found.append(FieldProblem.invalid("spec.clusterIPs[0]", [current], text))
    return found


def _network_policy(obj: Json, _old: Json | None) -> Problems:
    spec = obj.get("spec") or {}
    found: Problems = []
    for i, kind in enumerate(spec.get("policyTypes") or []):
        if kind not in ("Ingress", "Egress"):
            found.append(FieldProblem.unsupported(f"spec.policyTypes[{i}]", kind, ["Egress", "Ingress"]))
    for field, side in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(field) or []):
            for j, peer in enumerate(rule.get(side) or []):
                found += _peer(peer, f"spec.{field}[{i}].{side}[{j}]")
            for j, port in enumerate(rule.get("ports") or []):
                path = f"spec.{field}[{i}].ports[{j}]"
                found += _port_number(port.get("port"), f"{path}.port")
                found += _protocol(port, f"{path}.protocol")
                end = port.get("endPort")
                if end is not None and (not isinstance(port.get("port"), int) or end < port["port"]):
                    text = "must be greater than or equal to `port`"
                    found.append(FieldProblem.invalid(f"{path}.endPort", end, text))
    return found


def _peer(peer: Json, path: str) -> Problems:
    if not peer:
        return [FieldProblem.required(path, "must specify a peer")]
    block = peer.get("ipBlock")
    if block is None:
        return []
    if len(peer) > 1:
        text = "may not specify both ipBlock and another peer"
        return [FieldProblem.forbidden(path, text)]
    found: Problems = []
    cidr = _network(block.get("cidr", ""))
    if cidr is None:
        text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        return [FieldProblem.invalid(f"{path}.ipBlock.cidr", block.get("cidr", ""), text)]
    for i, text in enumerate(block.get("except") or []):
        hole = _network(text)
        if hole is None or hole.version != cidr.version or not _inside(hole, cidr):
            why = "must be a strict subset of `cidr`"
            found.append(FieldProblem.invalid(f"{path}.ipBlock.except[{i}]", text, why))
    return found


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None


def _inside(hole: _Network, cidr: _Network) -> bool:
    return hole.prefixlen > cidr.prefixlen and hole.network_address in cidr


def _binding(obj: Json, old: Json | None) -> Problems:
    reference = obj.get("roleRef") or {}
    found: Problems = []
    if reference.get("kind") not in ("Role", "ClusterRole"):
        kinds = ["ClusterRole", "Role"]
        found.append(FieldProblem.unsupported("roleRef.kind", reference.get("kind", ""), kinds))
    if not reference.get("name"):
        found.append(FieldProblem.required("roleRef.name"))
    if old is not None and old["roleRef"] != reference:
        found.append(FieldProblem.invalid("roleRef", reference, "cannot change roleRef"))
    return found


def _config(obj: Json, old: Json | None) -> Problems:
    if old is not None and old.get("immutable"):
        changed = [n for n in ("data", "binaryData", "immutable") if old.get(n) != obj.get(n)]
        return [FieldProblem.forbidden(n, "field is immutable when `immutable` is set") for n in changed]
    return []


def _endpoint_slice(obj: Json, old: Json | None) -> Problems:
    kinds = ["FQDN", "IPv4", "IPv6"]
    if not obj.get("addressType"):
        return [FieldProblem.required("addressType")]
    if obj["addressType"] not in kinds:
        return [FieldProblem.unsupported("addressType", obj["addressType"], kinds)]
    if old is not None and old["addressType"] != obj["addressType"]:
        return [FieldProblem.invalid("addressType", obj["addressType"], "field is immutable")]
    return []


def _definition(obj: Json, _old: Json | None) -> Problems:
    return crds.problems(obj)


_RULES: Mapping[str, Callable[[Json, Json | None], Problems]] = {
    "pods": _pod,
    "services": _service,
    "configmaps": _config,
    "secrets": _config,
    "deployments.apps": _workload,
    "daemonsets.apps": _workload,
    "replicasets.apps": _workload,
    "statefulsets.apps": _workload,
    "networkpolicies.networking.k8s.io": _network_policy,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "rolebindings.rbac.authorization.k8s.io": _binding,
    "clusterrolebindings.rbac.authorization.k8s.io": _binding,
    crds.CRDS: _definition,
}
