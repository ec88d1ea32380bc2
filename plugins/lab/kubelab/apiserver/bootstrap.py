"""The objects of a new cluster: namespaces, the ``kubernetes`` service, system RBAC objects."""

import uuid
from typing import Any
from urllib.parse import urlsplit

from kubelab.clock import now

from .errors import Json
from .state import Cluster

_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_RBAC = "rbac.authorization.k8s.io"
_ALL = ["*"]
_DISCOVERY_PATHS = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/",
]
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_PUBLIC = ["/healthz", "/livez", "/readyz", "/version"]
_EDITABLE: list[Json] = [
    {
        "apiGroups": [""],
        "resources": [
            "configmaps",
            "endpoints",
            "events",
            "persistentvolumeclaims",
            "pods",
            "services",
            "serviceaccounts",
        ],
    },
    {
        "apiGroups": ["apps"],
        "resources": ["daemonsets", "deployments", "deployments/scale", "replicasets", "statefulsets"],
    },
    {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"]},
]


def populate(cluster: Cluster) -> None:
    """Create those objects of every cluster that are missing."""
    for name in _NAMESPACES:
        metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
        spec = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        _ensure(cluster, "namespaces", "v1", "Namespace", metadata, spec)
    for name, rules in _cluster_roles().items():
        _ensure(cluster, f"clusterroles.{_RBAC}", f"{_RBAC}/v1", "ClusterRole", {"name": name}, {"rules": rules})
    for name, role, group in (
        ("cluster-admin", "cluster-admin", "system:masters"),
        ("system:basic-user", "system:basic-user", "system:authenticated"),
        ("system:discovery", "system:discovery", "system:authenticated"),
        ("system:public-info-viewer", "system:public-info-viewer", "system:unauthenticated"),
    ):
        _ensure(
            cluster,
            f"clusterrolebindings.{_RBAC}",
            f"{_RBAC}/v1",
            "ClusterRoleBinding",
            {"name": name},
            _bind(role, group),
        )
    _kubernetes_service(cluster)


def _ensure(
    cluster: Cluster, collection: str, api_version: str, kind: str, metadata: dict[str, Any], content: Json
) -> None:
    held = cluster.store.collection(collection)
    if (metadata.get("namespace", ""), metadata["name"]) in held.objects:
        return
    identity = {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
    obj = {"apiVersion": api_version, "kind": kind, "metadata": {**metadata, **identity}, **content}
    cluster.store.put(held, obj, None)


def _cluster_roles() -> dict[str, list[Json]]:
    reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    edit = [{**rule, "verbs": _READ + _WRITE} for rule in _EDITABLE]
    secrets = {"apiGroups": [""], "resources": ["secrets"], "verbs": _READ + _WRITE}
    namespaces = {"apiGroups": [""], "resources": ["namespaces"], "verbs": _READ}
    roles = {"apiGroups": [_RBAC], "resources": ["roles", "rolebindings"], "verbs": _READ + _WRITE}
    return {
        "cluster-admin": [
            {"apiGroups": _ALL, "resources": _ALL, "verbs": _ALL},
            {"nonResourceURLs": _ALL, "verbs": _ALL},
        ],
        "admin": [*edit, secrets, namespaces, roles],
        "edit": [*edit, secrets, namespaces],
        "view": [*({**rule, "verbs": _READ} for rule in _EDITABLE), namespaces],
        "system:basic-user": [
            {"apiGroups": ["authorization.k8s.io"], "resources": reviews, "verbs": ["create"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
        ],
        "system:discovery": [{"nonResourceURLs": _DISCOVERY_PATHS, "verbs": ["get"]}],
        "system:public-info-viewer": [{"nonResourceURLs": _PUBLIC, "verbs": ["get"]}],
    }


def _bind(role: str, group: str) -> Json:
    return {
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": group}],
    }


def _kubernetes_service(cluster: Cluster) -> None:
    """The ``kubernetes`` service in ``default`` with the server's own address as endpoint."""
    url = urlsplit(cluster.settings.url)
    port, secure = url.port or 443, url.scheme == "https"
    labels = {"component": "apiserver", "provider": "kubernetes"}
    metadata: dict[str, Any] = {"name": "kubernetes", "namespace": "default", "labels": labels}
    addresses, families = cluster.addresses.first()[:1], cluster.addresses.families[:1]
    name = "https" if secure else "http"
    spec: Json = {
        "type": "ClusterIP",
        "clusterIP": addresses[0],
        "clusterIPs": addresses,
        "ipFamilies": families,
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "ports": [{"name": name, "port": 443, "protocol": "TCP", "targetPort": port}],
    }
    _ensure(cluster, "services", "v1", "Service", metadata, {"spec": spec, "status": {"loadBalancer": {}}})
    slice_metadata = {
        "name": "kubernetes",
        "namespace": "default",
        "labels": {"kubernetes.io/service-name": "kubernetes"},
    }
    host = (url.hostname or "127.0.0.1").strip("[]")
    content: Json = {
        "addressType": "IPv6" if ":" in host else "IPv4",
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": port, "protocol": "TCP"}],
    }
    collection = "endpointslices.discovery.k8s.io"
    _ensure(cluster, collection, "discovery.k8s.io/v1", "EndpointSlice", slice_metadata, content)
