"""Subresources that aren't the object itself: scale, binding, eviction, token, finalize."""

import copy
from typing import Any

import orjson

from kubelab import clock
from kubelab.objects import selects

from . import convert, errors, writes
from .deletes import Deletes
from .errors import Json
from .registry import Resource
from .request import Request
from .state import Cluster
from .store import Record
from .writes import Writes

_TOKEN_SECONDS = 3600


class Subresources:
    """Serves the special subresources; ``status`` is a plain write and handled with those."""

    def __init__(self, cluster: Cluster, writer: Writes, deletes: Deletes) -> None:
        self._cluster = cluster
        self._writes = writer
        self._deletes = deletes

    def serve(self, request: Request, resource: Resource, record: Record) -> tuple[int, bytes]:
        """Answer a request to one of ``resource.subresources``."""
        match request.subresource:
            case "scale":
                return 200, self._scale(request, resource, record)
            case "binding" if request.method == "POST":
                return 201, self._bind(request, resource, record)
            case "eviction" if request.method == "POST":
                return 201, self._evict(request, resource, record)
            case "token" if request.method == "POST":
                return 201, self._token(request, record)
            case "finalize" if request.method == "PUT":
                return 200, self._finalize(request, resource, record)
            case "ephemeralcontainers" if request.method in ("GET", "PUT", "PATCH"):
                return 200, self._ephemeral(request, resource, record)
        raise errors.method_not_allowed()

    def _scale(self, request: Request, resource: Resource, record: Record) -> bytes:
        obj = convert.to_served(resource, record.load())
        scale = _scale_of(resource, obj)
        if request.method in ("GET", "HEAD"):
            return orjson.dumps(scale)
        if request.method == "PUT":
            wanted = request.decode()
        elif request.method == "PATCH":
            simple = {"application/strategic-merge-patch+json": "application/merge-patch+json"}
            kind = simple.get(request.content_type, request.content_type)
            wanted = writes.apply_patch(resource, kind, copy.deepcopy(scale), request.decode_any())
        else:
            raise errors.method_not_allowed()
        replicas = (wanted.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or replicas < 0:
            problem = errors.FieldProblem.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise errors.invalid("Scale", "autoscaling", record.name, [problem])
        version = (wanted.get("metadata") or {}).get("resourceVersion")
        if version:
            obj["metadata"]["resourceVersion"] = version
        path = (resource.scale or {})["specReplicasPath"]
        _write(obj, path, replicas)
        data = self._writes.replace(request, resource, record, obj)
        return orjson.dumps(_scale_of(resource, orjson.loads(data)))

    def _evict(self, request: Request, resource: Resource, record: Record) -> bytes:
        """Delete a pod unless its disruption budget has nothing left; one that isn't ready costs nothing."""
        pod = record.load()
        conditions = (pod.get("status") or {}).get("conditions") or []
        counts = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) and not record.deleting
        for budget in list(self._cluster.store.collection("poddisruptionbudgets.policy").objects.values()):
            obj = budget.load()
            selector = obj["spec"].get("selector")
            chosen = selector is not None and selects(selector, record.labels)
            if budget.namespace == record.namespace and chosen and counts:
                self._spend(budget, obj)
        self._deletes.delete(request, resource, record, request.decode().get("deleteOptions") or {})
        return _success()

    def _spend(self, budget: Record, obj: Json) -> None:
        status = obj.setdefault("status", {})
        if (status.get("disruptionsAllowed") or 0) <= 0:
            raise errors.disruption_budget(budget.name)
        status["disruptionsAllowed"] -= 1
        self._cluster.store.put(self._cluster.store.collection("poddisruptionbudgets.policy"), obj, budget)

    def _bind(self, request: Request, resource: Resource, record: Record) -> bytes:
        target = (request.decode().get("target") or {}).get("name", "")
        obj = record.load()
        if obj["spec"].get("nodeName"):
            text = f'pod {record.name} is already assigned to node "{obj["spec"]["nodeName"]}"'
            raise errors.conflict("pods/binding", "", record.name, text)
        if record.deleting:
            raise errors.conflict("pods/binding", "", record.name, f"pod {record.name} is being deleted")
        obj["spec"]["nodeName"] = target
        conditions: list[Any] = obj.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [c for c in conditions if c["type"] != "PodScheduled"]
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": clock.now()})
        if not request.dry_run:
            self._cluster.store.put(self._cluster.store.collection(resource.collection), obj, record)
        return _success()

    def _token(self, request: Request, record: Record) -> bytes:
        review = request.decode()
        spec = review.setdefault("spec", {})
        seconds = int(spec.get("expirationSeconds") or _TOKEN_SECONDS)
        token = self._cluster.authenticator.issue(record.namespace, record.name, record.uid, seconds)
        spec["expirationSeconds"] = seconds
        review.setdefault("metadata", {"name": record.name, "namespace": record.namespace})
        review |= {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        review["status"] = {"token": token, "expirationTimestamp": clock.now(seconds)}
        return orjson.dumps(review)

    def _finalize(self, request: Request, resource: Resource, record: Record) -> bytes:
        wanted = request.decode()
        obj = record.load()
        obj.setdefault("spec", {})["finalizers"] = (wanted.get("spec") or {}).get("finalizers") or []
        store = self._cluster.store
        collection = store.collection(resource.collection)
        if record.deleting and not obj["spec"]["finalizers"] and not obj["metadata"].get("finalizers"):
            return store.remove(collection, record, obj).data
        return store.put(collection, obj, record).data

    def _ephemeral(self, request: Request, resource: Resource, record: Record) -> bytes:
        obj = record.load()
        if request.method == "GET":
            return record.data
        if request.method == "PUT":
            wanted = request.decode()
        else:
            wanted = writes.apply_patch(resource, request.content_type, record.load(), request.decode_any())
        obj["spec"]["ephemeralContainers"] = (wanted.get("spec") or {}).get("ephemeralContainers") or []
        return self._writes.replace(request, resource, record, obj)


def _scale_of(resource: Resource, obj: Json) -> Json:
    paths = resource.scale or {}
    metadata = obj["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    scale: Json = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {n: metadata[n] for n in names if n in metadata},
        "spec": {},
        "status": {"replicas": _read(obj, paths.get("statusReplicasPath", "")) or 0},
    }
    replicas = _read(obj, paths.get("specReplicasPath", ""))
    if replicas is not None:
        scale["spec"]["replicas"] = replicas
    selector = _read(obj, paths.get("labelSelectorPath", ""))
    if isinstance(selector, dict):
        selector = ",".join(f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or selector).items()))
    if selector:
        scale["status"]["selector"] = selector
    return scale


def _read(obj: Json, path: str) -> Any:
    value: Any = obj
    for step in path.lstrip(".").split(".") if path else ():
        value = value.get(step) if isinstance(value, dict) else None
    return value if path else None


def _write(obj: Json, path: str, value: object) -> None:
    *parents, last = path.lstrip(".").split(".")
    for step in parents:
        obj = obj.setdefault(step, {})
    obj[last] = value


def _success() -> bytes:
    return orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
