"""What the controllers share: the objects as last observed, and the client that changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubelab.client import ApiError, Client, Informer
from kubelab.objects import completed, controller_uid, deleting, owner_reference, selects

Json = dict[str, Any]

PATHS = {
    "pods": "/api/v1/pods",
    "nodes": "/api/v1/nodes",
    "namespaces": "/api/v1/namespaces",
    "serviceaccounts": "/api/v1/serviceaccounts",
    "services": "/api/v1/services",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "deployments": "/apis/apps/v1/deployments",
    "replicasets": "/apis/apps/v1/replicasets",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "poddisruptionbudgets": "/apis/policy/v1/poddisruptionbudgets",
}


class ControllerContext:
    """The objects of all kinds in `PATHS`, and the client that changes them.

    `changed(key)` is called, in some thread, whenever one of them changes.
    """

    def __init__(self, client: Client, changed: Callable[[str], None]) -> None:
        self.client = client
        self._informers = {name: Informer(client, path, changed) for name, path in PATHS.items()}

    def wait(self) -> None:
        """Wait until everything has been listed."""
        for informer in self._informers.values():
            informer.synced.wait()

    def all(self, kind: str) -> list[Json]:
        """Every object of a kind as last observed."""
        return self._informers[kind].all()

    def claimed(self, kind: str, owner: Json, owner_kind: str) -> list[Json]:
        """The objects of a kind whose controller is `owner`.

        Objects that its selector matches and that have no controller are adopted, as after `--cascade=orphan`;
        those that it no longer matches are released. An owner that is being deleted does neither.
        """
        uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
        claimed = []
        for item in self.all(kind):
            controller = controller_uid(item)
            if item["metadata"]["namespace"] != namespace or controller not in ("", uid):
                continue
            chosen = selects(owner["spec"]["selector"], item["metadata"].get("labels") or {})
            references = item["metadata"].get("ownerReferences") or []
            if controller == uid:
                if not chosen and not deleting(owner):
                    self._refer(kind, item, [entry for entry in references if entry["uid"] != uid])
                else:
                    claimed.append(item)
            elif chosen and not deleting(owner) and not deleting(item) and not completed(item):
                ours = owner_reference(owner, "apps/v1", owner_kind)
                claimed.append(self._refer(kind, item, [*references, ours]))
        return claimed

    def _refer(self, kind: str, item: Json, references: list[Json]) -> Json:
        """Change the owners of an object; raises ApiError 409 when it has changed meanwhile."""
        meta = {"resourceVersion": item["metadata"]["resourceVersion"], "ownerReferences": references}
        answer = self.client.patch(self.path(kind, item), {"metadata": meta})
        self._informers[kind].put(answer)
        return answer

    def create(self, kind: str, namespace: str, body: Json) -> None:
        """Create an object and count it as observed."""
        self._informers[kind].put(self.client.create(self.collection(kind, namespace), body))

    def patch(self, kind: str, item: Json, body: Json) -> None:
        """Patch an object and count the change as observed."""
        self._informers[kind].put(self.client.patch(self.path(kind, item), body))

    def delete(self, kind: str, item: Json) -> None:
        """Delete an object and count it as being deleted."""
        answer = self.client.delete(self.path(kind, item))
        if "deletionTimestamp" in answer.get("metadata", {}):
            self._informers[kind].put(answer)

    def path(self, kind: str, item: Json) -> str:
        """REST path of a namespaced object."""
        return f"{self.collection(kind, item['metadata']['namespace'])}/{item['metadata']['name']}"

    def collection(self, kind: str, namespace: str) -> str:
        """REST path of the collection in a namespace."""
        prefix, _, plural = PATHS[kind].rpartition("/")
        return f"{prefix}/namespaces/{namespace}/{plural}"

    def status(self, kind: str, item: Json, status: Json) -> None:
        """Write a status if it differs from the object's; conditions keep their transition times."""
        present = item.get("status") or {}
        if all(present.get(key) == value for key, value in status.items() if value or key in present):
            return
        try:
            self.client.patch(f"{self.path(kind, item)}/status", {"status": status})
        except ApiError as error:
            if error.status != 404:
                raise
