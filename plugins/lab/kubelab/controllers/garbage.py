"""The garbage collector: deletes objects whose owners are gone, completes foreground and orphaning deletions.

The rules are those of kube-controller-manager. Each run looks at all objects: such a cluster is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from kubelab.client import METADATA, ApiError, Client
from kubelab.controllers.resources import Metadata, Resource

Json = dict[str, Any]
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


@frozen
class _Graph:
    """All objects by UID, and by the UID of each of their owners."""

    objects: Mapping[str, tuple[Resource, Json]]
    dependents: dict[str, list[tuple[Resource, Json]]] = field(factory=dict)

    @classmethod
    def of(cls, metadata: Metadata) -> _Graph:
        graph = cls({meta["uid"]: (resource, meta) for resource, meta in metadata.objects()})
        for resource, meta in graph.objects.values():
            for owner in meta.get("ownerReferences") or ():
                graph.dependents.setdefault(owner["uid"], []).append((resource, meta))
        return graph

    def is_waiting(self, uid: str) -> bool:
        """Whether an object waits for its dependents to be deleted (foreground deletion)."""
        held = self.objects.get(uid)
        return held is not None and _ends(held[1], FOREGROUND)


def _ends(meta: Json, finalizer: str) -> bool:
    return "deletionTimestamp" in meta and finalizer in (meta.get("finalizers") or ())


class GarbageCollector:
    """Deletes and releases objects whose owners are gone."""

    def __init__(self, client: Client, metadata: Metadata) -> None:
        self._client, self._metadata = client, metadata
        self._absent: set[str] = set()
        self._done: dict[str, str] = {}

    def sync(self) -> bool:
        """Look at all objects once; whether anything was changed. Raises ApiError."""
        if not self._metadata.listed:
            return False
        graph = _Graph.of(self._metadata)
        acted = False
        for resource, meta in graph.objects.values():
            # What was done to this version will show in the next one.
            if self._done.get(meta["uid"]) == meta["resourceVersion"]:
                continue
            try:
                done = self._look_at(graph, resource, meta)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
                continue
            if done:
                self._done[meta["uid"]] = meta["resourceVersion"]
                acted = True
        self._done = {uid: version for uid, version in self._done.items() if uid in graph.objects}
        return acted

    def _look_at(self, graph: _Graph, resource: Resource, meta: Json) -> bool:
        if _ends(meta, ORPHAN):
            return self._orphan(graph, resource, meta)
        if _ends(meta, FOREGROUND):
            return self._foreground(graph, resource, meta)
        if "deletionTimestamp" in meta or not meta.get("ownerReferences"):
            return False
        return self._owned(graph, resource, meta)

    def _owned(self, graph: _Graph, resource: Resource, meta: Json) -> bool:
        """Delete an object unless one of its owners stays; then remove the references to the others."""
        owners = meta["ownerReferences"]
        gone = [owner for owner in owners if self._is_absent(graph, resource, meta, owner)]
        waiting = [owner for owner in owners if graph.is_waiting(owner["uid"])]
        if len(gone) + len(waiting) < len(owners):
            return self._forget(resource, meta, [owner["uid"] for owner in (*gone, *waiting)])
        policy = "Foreground" if waiting and meta["uid"] in graph.dependents else "Background"
        finalizers = meta.get("finalizers") or ()
        if ORPHAN in finalizers:
            policy = "Orphan"
        elif FOREGROUND in finalizers:
            policy = "Foreground"
        body = {"preconditions": {"uid": meta["uid"]}, "propagationPolicy": policy}
        self._client.delete(_path(resource, meta), body)
        return True

    def _foreground(self, graph: _Graph, resource: Resource, meta: Json) -> bool:
        """Release an object once no dependent is left that it must wait for (`_owned` deletes those)."""
        blocking = any(
            owner["uid"] == meta["uid"] and owner.get("blockOwnerDeletion")
            for _, dependent in graph.dependents.get(meta["uid"], ())
            for owner in dependent["ownerReferences"]
        )
        return not blocking and self._release(resource, meta, FOREGROUND)

    def _orphan(self, graph: _Graph, resource: Resource, meta: Json) -> bool:
        for owned, dependent in graph.dependents.get(meta["uid"], ()):
            try:
                self._forget(owned, dependent, [meta["uid"]])
            except ApiError as error:
                if error.status != 404:
                    raise
        return self._release(resource, meta, ORPHAN)

    def _is_absent(self, graph: _Graph, resource: Resource, meta: Json, owner: Json) -> bool:
        """Whether an owner is gone; the API server is asked, since the watch may lag."""
        uid = owner["uid"]
        if uid in graph.objects:
            return False
        if uid in self._absent:
            return True
        kind = self._metadata.find(owner["apiVersion"], owner["kind"])
        if kind is None or (kind.namespaced and not resource.namespaced):
            return False
        try:
            held = self._client.get(kind.path(meta.get("namespace", ""), owner["name"]), accept=METADATA)
        except ApiError as error:
            if error.status != 404:
                raise
            held = {"metadata": {"uid": ""}}
        if held["metadata"]["uid"] == uid:
            return False
        self._absent.add(uid)
        return True

    def _forget(self, resource: Resource, meta: Json, owners: Sequence[str]) -> bool:
        if not owners:
            return False
        kept = [owner for owner in meta["ownerReferences"] if owner["uid"] not in owners]
        self._patch(resource, meta, {"ownerReferences": kept or None})
        return True

    def _release(self, resource: Resource, meta: Json, finalizer: str) -> bool:
        self._patch(resource, meta, {"finalizers": [item for item in meta["finalizers"] if item != finalizer]})
        return True

    def _patch(self, resource: Resource, meta: Json, change: Json) -> None:
        version = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        self._client.patch(_path(resource, meta), {"metadata": {**version, **change}})


def _path(resource: Resource, meta: Json) -> str:
    return resource.path(meta.get("namespace", ""), meta["name"])
