"""What the client's models don't say about built-in types: how lists merge, which strings are quantities.

Keys are ``Type.field``. The facts are those of the published Kubernetes API (``x-kubernetes-list-type`` and
``x-kubernetes-patch-*`` of its OpenAPI document).
"""

from collections.abc import Mapping

# Server-side apply: lists that are maps, by these keys.
LIST_MAPS: Mapping[str, tuple[str, ...]] = {
    "ObjectMeta.ownerReferences": ("uid",),
    "PodSpec.containers": ("name",),
    "PodSpec.initContainers": ("name",),
    "PodSpec.ephemeralContainers": ("name",),
    "PodSpec.volumes": ("name",),
    "PodSpec.imagePullSecrets": ("name",),
    "PodSpec.hostAliases": ("ip",),
    "PodSpec.schedulingGates": ("name",),
    "PodSpec.resourceClaims": ("name",),
    "PodSpec.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "PodStatus.conditions": ("type",),
    "PodStatus.podIPs": ("ip",),
    "PodStatus.hostIPs": ("ip",),
    "Container.env": ("name",),
    "Container.ports": ("containerPort", "protocol"),
    "Container.volumeMounts": ("mountPath",),
    "Container.volumeDevices": ("devicePath",),
    "EphemeralContainer.env": ("name",),
    "EphemeralContainer.ports": ("containerPort", "protocol"),
    "EphemeralContainer.volumeMounts": ("mountPath",),
    "ServiceSpec.ports": ("port", "protocol"),
    "ServiceStatus.conditions": ("type",),
    "ServiceAccount.secrets": ("name",),
    "NamespaceStatus.conditions": ("type",),
    "NodeStatus.addresses": ("type",),
    "NodeStatus.conditions": ("type",),
    "DeploymentStatus.conditions": ("type",),
    "DaemonSetStatus.conditions": ("type",),
    "ReplicaSetStatus.conditions": ("type",),
    "StatefulSetStatus.conditions": ("type",),
    "PodDisruptionBudgetStatus.conditions": ("type",),
    "PersistentVolumeClaimStatus.conditions": ("type",),
    "CustomResourceDefinitionStatus.conditions": ("type",),
    "NetworkPolicyStatus.conditions": ("type",),
}
LIST_SETS = frozenset({"ObjectMeta.finalizers", "NodeSpec.podCIDRs"})
ATOMIC_MAPS = frozenset(
    {
        "LabelSelector",
        "ObjectReference",
        "LocalObjectReference",
        "TypedLocalObjectReference",
        "NodeSelector",
        "NodeSelectorTerm",
        "RoleRef",
        "Subject",
        "ObjectFieldSelector",
        "ResourceFieldSelector",
        "ConfigMapKeySelector",
        "SecretKeySelector",
        "PodSpec.nodeSelector",
        "ServiceSpec.selector",
    }
)
# Strategic merge patch: lists that merge by this key (empty: lists of plain values).
PATCH_MERGE: Mapping[str, str] = {
    "ObjectMeta.finalizers": "",
    "ObjectMeta.ownerReferences": "uid",
    "PodSpec.containers": "name",
    "PodSpec.initContainers": "name",
    "PodSpec.ephemeralContainers": "name",
    "PodSpec.volumes": "name",
    "PodSpec.imagePullSecrets": "name",
    "PodSpec.hostAliases": "ip",
    "PodSpec.schedulingGates": "name",
    "PodSpec.resourceClaims": "name",
    "PodSpec.topologySpreadConstraints": "topologyKey",
    "PodStatus.conditions": "type",
    "PodStatus.podIPs": "ip",
    "PodStatus.hostIPs": "ip",
    "Container.env": "name",
    "Container.ports": "containerPort",
    "Container.volumeMounts": "mountPath",
    "Container.volumeDevices": "devicePath",
    "EphemeralContainer.env": "name",
    "EphemeralContainer.ports": "containerPort",
    "EphemeralContainer.volumeMounts": "mountPath",
    "ServiceSpec.ports": "port",
    "ServiceStatus.conditions": "type",
    "ServiceAccount.secrets": "name",
    "NamespaceStatus.conditions": "type",
    "NodeSpec.podCIDRs": "",
    "NodeStatus.addresses": "type",
    "NodeStatus.conditions": "type",
    "DeploymentStatus.conditions": "type",
    "DaemonSetStatus.conditions": "type",
    "ReplicaSetStatus.conditions": "type",
    "StatefulSetStatus.conditions": "type",
    "PodDisruptionBudgetStatus.conditions": "type",
    "PersistentVolumeClaimStatus.conditions": "type",
}
# The patch of these replaces what it doesn't name (a volume's source, a strategy's parameters).
RETAIN_KEYS = frozenset({"PodSpec.volumes", "DeploymentSpec.strategy"})
INT_OR_STRING = frozenset({"targetPort", "port", "maxUnavailable", "maxSurge", "minAvailable"})
QUANTITY_MAPS = frozenset(
    {"limits", "requests", "capacity", "allocatable", "overhead", "hard", "used", "allocatedResources"}
)
QUANTITIES = frozenset({"sizeLimit", "divisor"})
# Required by the models, but kube-apiserver accepts objects without them.
NOT_ENFORCED = frozenset(
    {"EndpointSlice.endpoints", "Event.metadata", "Event.involvedObject", "Event.eventTime", "ServiceSpec.ports"}
)
DEFAULTS: Mapping[str, object] = {
    "ContainerPort.protocol": "TCP",
    "ServicePort.protocol": "TCP",
    "NetworkPolicyPort.protocol": "TCP",
    "EndpointPort.protocol": "TCP",
}
