"""Admission: what kube-apiserver's admission plugins refuse or add before an object is stored."""

from kubelab.clock import now

from . import errors
from .errors import Json
from .registry import Resource
from .store import Store

_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATION_SECONDS = 300


def admit_create(store: Store, resource: Resource, obj: Json) -> None:
    """Refuse objects in missing or terminating namespaces; complete pods."""
    if resource.namespaced:
        _check_namespace(store, resource, obj)
    if resource.collection == "pods":
        _complete_pod(obj)


def _check_namespace(store: Store, resource: Resource, obj: Json) -> None:
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    held = store.collection("namespaces").objects.get(("", namespace))
    if held is None:
        raise errors.not_found("namespaces", "", namespace)
    if held.deleting:
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        error = errors.forbidden(resource.plural, resource.group, name, why)
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        details = {**(error.details or {}), "causes": [cause]}
        raise errors.ApiError(403, "Forbidden", error.message, details)


def _complete_pod(pod: Json) -> None:
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    held = spec.get("tolerations") or []
    for key in _TOLERATED:
        if not any(t.get("key", key) == key and t.get("effect", "NoExecute") == "NoExecute" for t in held):
            toleration = {"key": key, "operator": "Exists", "effect": "NoExecute"}
            held.append({**toleration, "tolerationSeconds": _TOLERATION_SECONDS})
    spec["tolerations"] = held


def service_account(namespace: str, uid: str) -> Json:
    """The ``default`` service account that every namespace has."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace, "uid": uid, "creationTimestamp": now()},
    }
