"""All resources of the API server, from discovery, and the metadata of all objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import frozen

from kubelab.client import ApiError, Client, Informer

Json = dict[str, Any]
_NEEDED = frozenset({"list", "watch", "delete"})
_UNOWNED = frozenset({("", "events"), ("events.k8s.io", "events")})
"""Many, short-lived, and nobody's dependents; kube-controller-manager passes over them, too."""


@frozen
class Resource:
    """One resource: `group_version` is as in `apiVersion`."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def group(self) -> str:
        """API group; empty for the core's."""
        return self.group_version.rpartition("/")[0]

    def path(self, namespace: str = "", name: str = "") -> str:
        """REST path of the collection (of all namespaces if none is named), or of an object."""
        prefix = f"/apis/{self.group_version}" if self.group else f"/api/{self.group_version}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{prefix}{place}/{self.plural}" + (f"/{name}" if name else "")


def discover(client: Client) -> list[Resource]:
    """The resources whose objects can be listed and deleted, each in its preferred version. Raises ApiError.

    A group that doesn't answer (its aggregated API server is away) is left out.
    """
    versions = [("", "v1")]
    for group in client.get("/apis").get("groups") or ():
        preferred = group["preferredVersion"]["version"]
        others = [item["version"] for item in group["versions"] if item["version"] != preferred]
        versions += [(group["name"], version) for version in (preferred, *others)]
    found: dict[tuple[str, str], Resource] = {}
    for group, version in versions:
        group_version = f"{group}/{version}" if group else version
        try:
            listed = client.get(f"/apis/{group_version}" if group else f"/api/{version}").get("resources") or ()
        except ApiError as error:
            if error.status in (404, 503):
                continue
            raise
        for item in listed:
            if "/" not in item["name"] and _NEEDED.issubset(item.get("verbs") or ()):
                resource = Resource(group_version, item["name"], item["kind"], bool(item.get("namespaced")))
                found.setdefault((group, item["name"]), resource)
    return list(found.values())


class Metadata:
    """The metadata of all objects, kept up to date by a watch of each resource."""

    def __init__(self, client: Client, changed: Callable[[str], None]) -> None:
        self._client, self._changed = client, changed
        self._informers: dict[Resource, Informer] = {}

    def refresh(self) -> None:
        """Watch new resources, and stop watching those that are gone. Raises ApiError."""
        present = {item for item in discover(self._client) if (item.group, item.plural) not in _UNOWNED}
        for resource in present - self._informers.keys():
            self._informers[resource] = Informer(self._client, resource.path(), self._changed, metadata_only=True)
        for resource in self._informers.keys() - present:
            self._informers.pop(resource).stop()

    @property
    def listed(self) -> bool:
        """Whether everything has been listed."""
        return all(informer.synced.is_set() for informer in self._informers.values())

    def objects(self) -> Iterator[tuple[Resource, Json]]:
        """Every object as last observed: its metadata."""
        for resource, informer in self._informers.items():
            for item in informer.all():
                yield resource, item["metadata"]

    def find(self, api_version: str, kind: str) -> Resource | None:
        """The resource of a kind in any version of its group, None when there is none."""
        group = api_version.rpartition("/")[0]
        return next((item for item in self._informers if item.group == group and item.kind == kind), None)
