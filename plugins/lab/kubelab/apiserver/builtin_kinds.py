"""The built-in resources that are served, one line each."""

from attrs import frozen


@frozen
class Builtin:
    """A built-in resource: its model in the client, names, scope and subresources."""

    group: str
    version: str
    plural: str
    kind: str
    model: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    create_only: bool = False


_ALL = ("all",)
_SCALABLE = ("status", "scale")

BUILTINS: tuple[Builtin, ...] = (
    Builtin("", "v1", "configmaps", "ConfigMap", "V1ConfigMap", short=("cm",)),
    Builtin("", "v1", "endpoints", "Endpoints", "V1Endpoints", short=("ep",)),
    Builtin("", "v1", "events", "Event", "CoreV1Event", short=("ev",)),
    Builtin("", "v1", "namespaces", "Namespace", "V1Namespace", False, ("ns",), (), ("status", "finalize")),
    Builtin("", "v1", "nodes", "Node", "V1Node", False, ("no",), (), ("status",)),
    Builtin(
        "",
        "v1",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        "V1PersistentVolumeClaim",
        True,
        ("pvc",),
        (),
        ("status",),
    ),
    Builtin(
        "", "v1", "persistentvolumes", "PersistentVolume", "V1PersistentVolume", False, ("pv",), (), ("status",)
    ),
    Builtin(
        "",
        "v1",
        "pods",
        "Pod",
        "V1Pod",
        True,
        ("po",),
        _ALL,
        ("status", "binding", "eviction", "ephemeralcontainers"),
    ),
    Builtin("", "v1", "secrets", "Secret", "V1Secret"),
    Builtin("", "v1", "serviceaccounts", "ServiceAccount", "V1ServiceAccount", True, ("sa",), (), ("token",)),
    Builtin("", "v1", "services", "Service", "V1Service", True, ("svc",), _ALL, ("status",)),
    Builtin(
        "",
        "v1",
        "replicationcontrollers",
        "ReplicationController",
        "V1ReplicationController",
        True,
        ("rc",),
        _ALL,
        _SCALABLE,
    ),
    Builtin("", "v1", "resourcequotas", "ResourceQuota", "V1ResourceQuota", True, ("quota",), (), ("status",)),
    Builtin("", "v1", "limitranges", "LimitRange", "V1LimitRange", True, ("limits",)),
    Builtin("apps", "v1", "daemonsets", "DaemonSet", "V1DaemonSet", True, ("ds",), _ALL, ("status",)),
    Builtin("apps", "v1", "deployments", "Deployment", "V1Deployment", True, ("deploy",), _ALL, _SCALABLE),
    Builtin("apps", "v1", "replicasets", "ReplicaSet", "V1ReplicaSet", True, ("rs",), _ALL, _SCALABLE),
    Builtin("apps", "v1", "statefulsets", "StatefulSet", "V1StatefulSet", True, ("sts",), _ALL, _SCALABLE),
    Builtin("apps", "v1", "controllerrevisions", "ControllerRevision", "V1ControllerRevision"),
    Builtin("batch", "v1", "jobs", "Job", "V1Job", True, (), _ALL, ("status",)),
    Builtin("batch", "v1", "cronjobs", "CronJob", "V1CronJob", True, ("cj",), _ALL, ("status",)),
    Builtin(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        "V2HorizontalPodAutoscaler",
        True,
        ("hpa",),
        _ALL,
        ("status",),
    ),
    Builtin("coordination.k8s.io", "v1", "leases", "Lease", "V1Lease"),
    Builtin("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "V1EndpointSlice"),
    Builtin("events.k8s.io", "v1", "events", "Event", "EventsV1Event", True, ("ev",)),
    Builtin("networking.k8s.io", "v1", "ingresses", "Ingress", "V1Ingress", True, ("ing",), (), ("status",)),
    Builtin("networking.k8s.io", "v1", "ingressclasses", "IngressClass", "V1IngressClass", False),
    Builtin("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "V1NetworkPolicy", True, ("netpol",)),
    Builtin(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        "V1PodDisruptionBudget",
        True,
        ("pdb",),
        (),
        ("status",),
    ),
    Builtin("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", "V1ClusterRole", False),
    Builtin(
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        "V1ClusterRoleBinding",
        False,
    ),
    Builtin("rbac.authorization.k8s.io", "v1", "roles", "Role", "V1Role"),
    Builtin("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", "V1RoleBinding"),
    Builtin("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", "V1PriorityClass", False, ("pc",)),
    Builtin("storage.k8s.io", "v1", "storageclasses", "StorageClass", "V1StorageClass", False, ("sc",)),
    Builtin(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        "V1CustomResourceDefinition",
        False,
        ("crd", "crds"),
        ("api-extensions",),
        ("status",),
    ),
    Builtin(
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        "V1SelfSubjectAccessReview",
        False,
        create_only=True,
    ),
    Builtin(
        "authorization.k8s.io",
        "v1",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        "V1SelfSubjectRulesReview",
        False,
        create_only=True,
    ),
    Builtin(
        "authorization.k8s.io",
        "v1",
        "subjectaccessreviews",
        "SubjectAccessReview",
        "V1SubjectAccessReview",
        False,
        create_only=True,
    ),
    Builtin(
        "authorization.k8s.io",
        "v1",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        "V1LocalSubjectAccessReview",
        True,
        create_only=True,
    ),
    Builtin(
        "authentication.k8s.io", "v1", "tokenreviews", "TokenReview", "V1TokenReview", False, create_only=True
    ),
    Builtin(
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
        "SelfSubjectReview",
        "V1SelfSubjectReview",
        False,
        create_only=True,
    ),
)

EXTRA_MODELS = (
    "V1Scale",
    "V1Eviction",
    "V1Binding",
    "AuthenticationV1TokenRequest",
    "V1DeleteOptions",
    "V1Status",
)
