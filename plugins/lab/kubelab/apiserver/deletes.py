"""Deletion: preconditions, grace periods, finalizers, propagation, and what follows from them.

Garbage collection of dependents and the emptying of namespaces run here, in the event loop after the write
that causes them, unless a controller manager does it.
"""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import structlog

from kubelab.clock import now

from . import admission, convert, crds, errors
from .errors import ApiError, Json
from .registry import Resource
from .request import Request
from .state import Cluster
from .store import Change, Collection, Key, Record

log = structlog.get_logger()

_RETURN_OBJECT = frozenset({"pods", "services", "serviceaccounts", "persistentvolumeclaims", "persistentvolumes"})
_ORPHAN_GRACE_SECONDS = 2.0
_DEFAULT_POD_GRACE_SECONDS = 30


class Deletes:
    """The delete verbs, and the background work that deletions cause."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.store
        self._store.listeners.append(self._follow)

    def delete(self, request: Request, resource: Resource, record: Record, options: Json) -> bytes:
        """Delete one object as asked; returns the object or a Status."""
        self._check(resource, record, options)
        if request.dry_run or "All" in (options.get("dryRun") or ()):
            return convert.encoded(resource, record)
        remaining = self.begin(resource.collection, record, options)
        if remaining is not None:
            return convert.encoded(resource, remaining)
        if resource.collection in _RETURN_OBJECT:
            return convert.encoded(resource, record)
        details: Json = {"name": record.name, "kind": resource.plural, "uid": record.uid}
        if resource.group:
            details["group"] = resource.group
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return orjson.dumps(status)

    def _check(self, resource: Resource, record: Record, options: Json) -> None:
        wanted = options.get("preconditions") or {}
        naming = (resource.plural, resource.group, record.name)
        if wanted.get("uid") not in (None, record.uid):
            text = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {record.uid}"
            raise errors.conflict(*naming, text)
        if wanted.get("resourceVersion") not in (None, str(record.revision)):
            text = (
                f"Precondition failed: ResourceVersion in precondition: {wanted['resourceVersion']}, "
                f"ResourceVersion in object meta: {record.revision}"
            )
            raise errors.conflict(*naming, text)
        if resource.collection == "namespaces" and record.name in ("default", "kube-system", "kube-public"):
            raise errors.forbidden("namespaces", "", record.name, "this namespace may not be deleted")

    def begin(self, name: str, record: Record, options: Json) -> Record | None:
        """Delete or mark as deleting; returns the record that remains, None when it is gone."""
        collection = self._store.collection(name)
        obj = record.load()
        metadata = obj["metadata"]
        finalizers = list(metadata.get("finalizers") or [])
        policy = options.get("propagationPolicy") or (
            "Orphan" if options.get("orphanDependents") else "Background"
        )
        extra = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}.get(policy)
        if extra and extra not in finalizers and record.uid in self._store.dependents:
            finalizers.append(extra)
        grace = _grace(name, obj, options)
        held = bool(finalizers) or grace > 0 or name in ("namespaces", crds.CRDS)
        if not held:
            self._store.remove(collection, record)
            return None
        if record.deleting and grace >= metadata.get("deletionGracePeriodSeconds", 0) and grace > 0:
            return record
        if finalizers:
            metadata["finalizers"] = finalizers
        if not record.deleting or grace < metadata.get("deletionGracePeriodSeconds", 0):
            metadata["deletionTimestamp"] = now(grace)
            metadata["deletionGracePeriodSeconds"] = grace
            if "generation" in metadata and not record.deleting:
                metadata["generation"] += 1
        if name == "namespaces":
            obj.setdefault("status", {})["phase"] = "Terminating"
        elif name == crds.CRDS:
            _terminating(obj)
        unchanged = obj == record.load()
        return record if unchanged else self._store.put(collection, obj, record)

    def _follow(self, collection: Collection, change: Change) -> None:
        """Listener of the store: start what follows from a change."""
        loop = _running_loop()
        if loop is None:
            return
        record = change.record
        if collection.name == crds.CRDS and record.deleting and not change.deleted:
            loop.call_soon(self._finish_definition, record.key)
        if self._cluster.settings.controllers:
            self._control(loop, collection, change)

    def _control(self, loop: asyncio.AbstractEventLoop, collection: Collection, change: Change) -> None:
        """Do what a controller manager would do after a change."""
        record = change.record
        if change.deleted:
            if record.uid in self._store.dependents:
                loop.call_soon(self._collect, record.uid)
            if record.namespace:
                loop.call_soon(self._finish_namespace, record.namespace)
            elif collection.name == "namespaces":
                return
        elif collection.name == "namespaces":
            loop.call_soon(self._namespace_changed, record)
        elif collection.name == crds.CRDS and record.deleting:
            return
        elif record.deleting and change.previous is not None and not change.previous.deleting:
            loop.call_soon(self._propagate, collection, record.key)
        if (
            not change.deleted
            and change.previous is None
            and any(o not in self._store.by_uid for o in record.owners)
        ):
            loop.call_later(_ORPHAN_GRACE_SECONDS, self._collect_orphan, collection, record.key)

    def resume(self) -> None:
        """Continue deletions that a restart interrupted, and complete namespaces."""
        for collection in list(self._store.collections()):
            for record in list(collection.objects.values()):
                if record.deleting and collection.name == crds.CRDS:
                    self._finish_definition(record.key)
                elif not self._cluster.settings.controllers:
                    continue
                elif collection.name == "namespaces":
                    self._namespace_changed(record)
                elif record.deleting:
                    self._propagate(collection, record.key)
                elif record.owners and not any(o in self._store.by_uid for o in record.owners):
                    self._collect_orphan(collection, record.key)

    def _dependents(self, uid: str) -> Iterator[tuple[Collection, Record]]:
        for collection, key in list(self._store.dependents.get(uid, {}).values()):
            record = collection.objects.get(key)
            if record is not None:
                yield collection, record

    def _collect(self, uid: str) -> None:
        """Delete the dependents of an owner that is gone, unless they have another one."""
        for collection, record in self._dependents(uid):
            alive = [o for o in record.owners if o in self._store.by_uid]
            if alive:
                self._drop_owner(collection, record, uid)
            elif not record.deleting:
                self.begin(collection.name, record, {})

    def _collect_orphan(self, collection: Collection, key: Key) -> None:
        record = collection.objects.get(key)
        if record is not None and record.owners and not any(o in self._store.by_uid for o in record.owners):
            self.begin(collection.name, record, {})

    def _drop_owner(self, collection: Collection, record: Record, uid: str) -> None:
        obj = record.load()
        kept = [o for o in obj["metadata"]["ownerReferences"] if o["uid"] != uid]
        obj["metadata"]["ownerReferences"] = kept
        if not kept:
            del obj["metadata"]["ownerReferences"]
        self._store.put(collection, obj, record)

    def _propagate(self, collection: Collection, key: Key) -> None:
        """Foreground and orphan deletion of a marked object's dependents."""
        record = collection.objects.get(key)
        if record is None:
            return
        finalizers = record.load()["metadata"].get("finalizers") or []
        if "orphan" in finalizers:
            for owned, dependent in self._dependents(record.uid):
                self._drop_owner(owned, dependent, record.uid)
            self._release(collection, key, "orphan")
        elif "foregroundDeletion" in finalizers:
            waiting = False
            for owned, dependent in self._dependents(record.uid):
                if not dependent.deleting:
                    self.begin(owned.name, dependent, {"propagationPolicy": "Foreground"})
                waiting = waiting or dependent.key in owned.objects
            if waiting:
                asyncio.get_running_loop().call_later(0.1, self._propagate, collection, key)
            else:
                self._release(collection, key, "foregroundDeletion")

    def _release(self, collection: Collection, key: Key, finalizer: str) -> None:
        record = collection.objects.get(key)
        if record is None:
            return
        obj = record.load()
        kept = [f for f in obj["metadata"].get("finalizers") or [] if f != finalizer]
        obj["metadata"]["finalizers"] = kept
        if kept or obj["metadata"].get("deletionGracePeriodSeconds"):
            if not kept:
                del obj["metadata"]["finalizers"]
            self._store.put(collection, obj, record)
        else:
            self._store.remove(collection, record, obj)

    def _namespace_changed(self, record: Record) -> None:
        """Empty a terminating namespace; create the default service account of an active one."""
        if record.key not in self._store.collection("namespaces").objects:
            return
        if record.deleting:
            self._empty(record.name)
            self._finish_namespace(record.name)
            return
        accounts = self._store.collection("serviceaccounts")
        if (record.name, "default") not in accounts.objects:
            self._store.put(accounts, admission.service_account(record.name, str(uuid.uuid4())), None)

    def _empty(self, namespace: str) -> None:
        for collection in self._store.collections():
            for record in list(collection.objects.values()):
                if record.namespace == namespace and not record.deleting:
                    self.begin(collection.name, record, {})

    def _finish_namespace(self, name: str) -> None:
        """Remove a terminating namespace once nothing is left in it."""
        namespaces = self._store.collection("namespaces")
        record = namespaces.objects.get(("", name))
        if record is None or not record.deleting:
            return
        for collection in self._store.collections():
            if any(r.namespace == name for r in collection.objects.values()):
                return
        obj = record.load()
        obj["spec"]["finalizers"] = [f for f in obj["spec"].get("finalizers") or [] if f != "kubernetes"]
        if obj["metadata"].get("finalizers") or obj["spec"]["finalizers"]:
            if obj != record.load():
                self._store.put(namespaces, obj, record)
            return
        self._store.remove(namespaces, record, obj)

    def _finish_definition(self, key: Key) -> None:
        """Delete a CRD's objects, then the CRD."""
        definitions = self._store.collection(crds.CRDS)
        record = definitions.objects.get(key)
        if record is None or not record.deleting:
            return
        objects = self._store.collection(record.name)
        for custom in list(objects.objects.values()):
            if not custom.deleting:
                self.begin(record.name, custom, {})
        if objects.objects or record.load()["metadata"].get("finalizers"):
            asyncio.get_running_loop().call_later(0.1, self._finish_definition, key)
            return
        self._store.remove(definitions, record)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _grace(name: str, obj: Json, options: Json) -> int:
    """Grace period of a pod in seconds; 0 for one that never started or is complete, and for other objects."""
    if name != "pods":
        return 0
    given = options.get("gracePeriodSeconds")
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    if given is None:
        given = spec.get("terminationGracePeriodSeconds", _DEFAULT_POD_GRACE_SECONDS)
    return max(int(given), 0)


def _terminating(crd: Json) -> None:
    conditions: list[Any] = crd.setdefault("status", {}).setdefault("conditions", [])
    if not any(c["type"] == "Terminating" for c in conditions):
        conditions.append(
            {
                "type": "Terminating",
                "status": "True",
                "lastTransitionTime": now(),
                "reason": "InstanceDeletionInProgress",
                "message": "CustomResource deletion is in progress",
            }
        )


def options_of(request: Request) -> Json:
    """The DeleteOptions of a request: its body, overruled by parameters."""
    options: Json = request.decode() if request.body.strip() else {}
    if options.get("kind", "DeleteOptions") != "DeleteOptions":
        options = {}
    if "gracePeriodSeconds" in request.query:
        try:
            options["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
        except ValueError as error:
            raise ApiError(400, "BadRequest", "gracePeriodSeconds must be a number") from error
    if "propagationPolicy" in request.query:
        options["propagationPolicy"] = request.query["propagationPolicy"]
    return options
