"""Defaults of the built-in kinds: what kube-apiserver sets before it stores an object."""

from collections.abc import Callable, Mapping

from .errors import Json

Defaulter = Callable[[Json], None]


def _set(obj: Json, **values: object) -> None:
    for name, value in values.items():
        obj.setdefault(name, value)


def pod_spec(spec: Json) -> None:
    """A pod's or a pod template's spec."""
    _set(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        name = spec.get("serviceAccountName") or spec["serviceAccount"]
        spec["serviceAccountName"] = spec["serviceAccount"] = name
    for container in (spec.get("containers") or []) + (spec.get("initContainers") or []):
        _container(container, bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or []:
        _volume(volume)


def _container(container: Json, host_network: bool) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].rpartition(":")[2] if ":" in image.rpartition("/")[2] else "latest"
    _set(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy="Always" if tag == "latest" and "@" not in image else "IfNotPresent",
    )
    for port in container.get("ports") or []:
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if probe is not None:
            _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            if "httpGet" in probe:
                _set(probe["httpGet"], path="/", scheme="HTTP")
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
    limits = container["resources"].get("limits")
    if limits:
        container["resources"]["requests"] = {**limits, **(container["resources"].get("requests") or {})}


def _volume(volume: Json) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "downwardAPI", "projected"):
        if source in volume:
            volume[source].setdefault("defaultMode", 0o644)


def _pod(pod: Json) -> None:
    spec = pod.get("spec")
    if spec is None:
        return
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    pod.setdefault("status", {}).setdefault("phase", "Pending")
    pod["status"].setdefault("qosClass", _qos(spec))


def _qos(spec: Json) -> str:
    resources = [c.get("resources") or {} for c in spec.get("containers") or []]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= set(r.get("limits") or {}) and r.get("requests") == r.get("limits") for r in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _template(obj: Json) -> Json | None:
    spec = obj.get("spec")
    if spec is None:
        return None
    template = spec.get("template")
    if isinstance(template, dict):
        template.setdefault("metadata", {})
        if isinstance(template.get("spec"), dict):
            pod_spec(template["spec"])
    result: Json = spec
    return result


def _deployment(obj: Json) -> None:
    spec = _template(obj)
    if spec is None:
        return
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec.setdefault("strategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")


def _daemon_set(obj: Json) -> None:
    spec = _template(obj)
    if spec is None:
        return
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy.setdefault("rollingUpdate", {}), maxUnavailable=1, maxSurge=0)


def _replica_set(obj: Json) -> None:
    spec = _template(obj)
    if spec is not None:
        spec.setdefault("replicas", 1)
        obj.setdefault("status", {}).setdefault("replicas", 0)


def _stateful_set(obj: Json) -> None:
    spec = _template(obj)
    if spec is None:
        return
    _set(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)


def _job(obj: Json) -> None:
    spec = _template(obj)
    if spec is not None:
        _set(spec, parallelism=1, completions=1, backoffLimit=6, suspend=False, completionMode="NonIndexed")


def _service(obj: Json) -> None:
    spec = obj.get("spec")
    if spec is None:
        return
    _set(spec, type="ClusterIP", sessionAffinity="None")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    for port in spec.get("ports") or []:
        if isinstance(port, dict) and "port" in port:
            port.setdefault("targetPort", port["port"])
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _network_policy(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if "policyTypes" not in spec:
        spec["policyTypes"] = ["Ingress"] + (["Egress"] if spec.get("egress") else [])


def _namespace(obj: Json) -> None:
    obj["spec"] = obj.get("spec") or {}
    obj["spec"].setdefault("finalizers", ["kubernetes"])
    obj["status"] = obj.get("status") or {}
    obj["status"].setdefault("phase", "Active")


def _namespace_label(obj: Json) -> None:
    _namespace(obj)
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def _secret(obj: Json) -> None:
    obj.setdefault("type", "Opaque")


def _role_reference(obj: Json) -> None:
    obj.setdefault("roleRef", {}).setdefault("apiGroup", "rbac.authorization.k8s.io")
    for subject in obj.get("subjects") or []:
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")


def _endpoint_slice(obj: Json) -> None:
    obj.setdefault("endpoints", [])
    for port in obj.get("ports") or []:
        _set(port, name="", protocol="TCP")


def _claim(obj: Json) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    obj.setdefault("status", {}).setdefault("phase", "Pending")


DEFAULTERS: Mapping[str, Defaulter] = {
    "pods": _pod,
    "services": _service,
    "namespaces": _namespace_label,
    "secrets": _secret,
    "persistentvolumeclaims": _claim,
    "deployments.apps": _deployment,
    "daemonsets.apps": _daemon_set,
    "replicasets.apps": _replica_set,
    "statefulsets.apps": _stateful_set,
    "jobs.batch": _job,
    "networkpolicies.networking.k8s.io": _network_policy,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "rolebindings.rbac.authorization.k8s.io": _role_reference,
    "clusterrolebindings.rbac.authorization.k8s.io": _role_reference,
}


def apply_defaults(collection: str, obj: Json) -> None:
    """Fill in the defaults of a built-in object, in place.

    Values of the wrong type are left alone, for validation to report.
    """
    defaulter = DEFAULTERS.get(collection)
    if defaulter is not None:
        defaulter(obj)
