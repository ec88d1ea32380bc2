"""What schemas of built-in types tell readers (``kubectl explain``) beyond what is validated.

That is the names of types that are more than one scalar, and the values that a field takes. The rules of
:mod:`.rules` enforce the values, with the messages of kube-apiserver.
"""

from collections.abc import Mapping, Sequence

from .errors import Json

_PREFIX = "#/components/schemas/"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
TYPES: Mapping[str, Json] = {
    _INT_OR_STRING: {
        "description": "IntOrString is a type that can hold an int32 or a string.",
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
    _QUANTITY: {
        "description": "Quantity is a fixed-point representation of a number, such as 100m, 1.5 or 2Gi.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    },
}
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_POLICIES = ("Cluster", "Local")
ENUMS: Mapping[str, Sequence[str]] = {
    "Container.imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "Container.terminationMessagePolicy": ("FallbackToLogsOnError", "File"),
    "ContainerPort.protocol": _PROTOCOLS,
    "CronJobSpec.concurrencyPolicy": ("Allow", "Forbid", "Replace"),
    "DaemonSetUpdateStrategy.type": ("OnDelete", "RollingUpdate"),
    "DeploymentStrategy.type": ("Recreate", "RollingUpdate"),
    "EndpointPort.protocol": _PROTOCOLS,
    "EndpointSlice.addressType": ("FQDN", "IPv4", "IPv6"),
    "HTTPGetAction.scheme": ("HTTP", "HTTPS"),
    "HTTPIngressPath.pathType": ("Exact", "ImplementationSpecific", "Prefix"),
    "JobSpec.completionMode": ("Indexed", "NonIndexed"),
    "NamespaceStatus.phase": ("Active", "Terminating"),
    "NetworkPolicyPort.protocol": _PROTOCOLS,
    "NetworkPolicySpec.policyTypes": ("Egress", "Ingress"),
    "NodeSelectorRequirement.operator": ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"),
    "PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy": ("AlwaysAllow", "IfHealthyBudget"),
    "PodSpec.dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "PodSpec.preemptionPolicy": ("Never", "PreemptLowerPriority"),
    "PodSpec.restartPolicy": ("Always", "Never", "OnFailure"),
    "PodStatus.phase": ("Failed", "Pending", "Running", "Succeeded", "Unknown"),
    "PodStatus.qosClass": ("BestEffort", "Burstable", "Guaranteed"),
    "SeccompProfile.type": ("Localhost", "RuntimeDefault", "Unconfined"),
    "ServicePort.protocol": _PROTOCOLS,
    "ServiceSpec.externalTrafficPolicy": _POLICIES,
    "ServiceSpec.internalTrafficPolicy": _POLICIES,
    "ServiceSpec.ipFamilies": ("", "IPv4", "IPv6"),
    "ServiceSpec.ipFamilyPolicy": ("PreferDualStack", "RequireDualStack", "SingleStack"),
    "ServiceSpec.sessionAffinity": ("ClientIP", "None"),
    "ServiceSpec.type": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    "StatefulSetSpec.podManagementPolicy": ("OrderedReady", "Parallel"),
    "StatefulSetUpdateStrategy.type": ("OnDelete", "RollingUpdate"),
    "Taint.effect": _EFFECTS,
    "Toleration.effect": _EFFECTS,
    "Toleration.operator": ("Equal", "Exists"),
    "TopologySpreadConstraint.nodeAffinityPolicy": ("Honor", "Ignore"),
    "TopologySpreadConstraint.nodeTaintsPolicy": ("Honor", "Ignore"),
    "TopologySpreadConstraint.whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    "VolumeMount.mountPropagation": ("Bidirectional", "HostToContainer", "None"),
}


def presented(name: str, schema: Json) -> Json:
    """The schema of a component as documents show it."""
    fields = schema.get("properties")
    if not fields:
        return schema
    owner = name.rpartition(".")[2]
    shown = {key: _field(field, ENUMS.get(f"{owner}.{key}", ())) for key, field in fields.items()}
    return {**schema, "properties": shown}


def _field(field: Json, values: Sequence[str]) -> Json:
    named = _named(field)
    if named:
        return {"allOf": [{"$ref": _PREFIX + named}], "description": field.get("description", "")}
    inner = field.get("additionalProperties")
    if isinstance(inner, dict) and _named(inner):
        return {**field, "additionalProperties": {"$ref": _PREFIX + _named(inner)}}
    if values and field.get("type") == "array":
        return {**field, "items": {**field["items"], "enum": list(values)}}
    return {**field, "enum": list(values)} if values else field


def _named(field: Json) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return _INT_OR_STRING
    return _QUANTITY if field.get("x-kubelab-quantity") else ""
