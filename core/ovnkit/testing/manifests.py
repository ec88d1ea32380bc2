"""Kubernetes objects of tests from YAML, and an API server of memory that holds them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import yaml

from ovnkit.api.items import NOW, Annotation, Condition, Event, Finalizer, KubeItem, Label, Status
from ovnkit.api.kinds import Changes, Kind, Resource, View
from ovnkit.api.text import print_json
from ovnkit.engine.sink import Owner, Sink

Manifest = dict[str, Any]
STAMPED = "2030-01-01T00:00:00Z"
"""The time at which this API server writes everything."""

ObjectKey = tuple[str, str]
"""Name of the kind, and the object's key."""


def objects(text: str) -> list[Manifest]:
    """The objects of a YAML text, with a Namespace for each namespace that has none, and uids."""
    found = [document for document in yaml.safe_load_all(text) if document]
    spaces = {manifest["metadata"].get("namespace") for manifest in found} - {None}
    spaces -= {manifest["metadata"]["name"] for manifest in found if manifest["kind"] == "Namespace"}
    implied = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {_NAME_LABEL: name}}}
        for name in sorted(spaces)
    ]
    for manifest in (*implied, *found):
        meta = manifest["metadata"]
        meta.setdefault("uid", f"uid-{manifest['kind']}-{meta.get('namespace', '')}-{meta['name']}".lower())
        meta.setdefault("resourceVersion", "1")
    return [*implied, *found]


_NAME_LABEL = "kubernetes.io/metadata.name"


def ready_node(name: str, family: str, number: int = 2) -> Manifest:
    """A Node as the cluster role leaves it: id, subnets and chassis are there, in `family` ipv4, ipv6 or dual.

    `number` is its id, and tells its subnets from those of other nodes.
    """
    subnets = {"ipv4": [f"10.128.{2 * number}.0/23"], "ipv6": [f"fd01:0:0:{number:x}::/64"]}
    addresses = {"ipv4": [f"192.0.2.{number}"], "ipv6": [f"2001:db8::{number:x}"]}
    families = ("ipv4", "ipv6") if family == "dual" else (family,)
    annotations = {
        "k8s.ovn.org/node-id": str(number),
        "k8s.ovn.org/node-chassis-id": f"chassis-{name}",
        "k8s.ovn.org/node-subnets": print_json({"default": [subnet for f in families for subnet in subnets[f]]}),
    }
    internal = [{"type": "InternalIP", "address": address} for f in families for address in addresses[f]]
    metadata = {"name": name, "uid": f"{name}-uid", "resourceVersion": "1", "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"addresses": internal}}


def key_of(manifest: Manifest) -> str:
    """`namespace/name` or `name`."""
    meta = manifest["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


class MemoryKube(Sink[KubeItem]):
    """Holds objects, and is the sink that changes them: annotations, labels, finalizers, status, conditions.

    `changed(kind, changes)` gets the views of what a flush changed. `writes` counts changed objects.
    """

    name = "kube"
    item_types: tuple[type, ...] = (Annotation, Label, Finalizer, Status, Condition, Event)
    idle = True
    ready = True

    def __init__(
        self,
        manifests: Iterable[Manifest],
        kinds: Iterable[Kind[View]],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._kinds = {
            (kind.source.api_version, kind.source.kind): kind
            for kind in kinds
            if isinstance(kind.source, Resource)
        }
        self.objects: dict[ObjectKey, Manifest] = {}
        self.events: list[Event] = []
        self.writes = 0
        self.changed: Callable[[Kind[View], Changes], None] = lambda _kind, _changes: None
        self._post = post
        self._wanted: dict[Owner, tuple[KubeItem, ...]] = {}
        self._dropped: list[KubeItem] = []
        self._dirty = False
        for manifest in manifests:
            # An object nobody here watches is kept all the same, for who comes after.
            known = self._kinds.get((manifest["apiVersion"], manifest["kind"]))
            name = known.name if known is not None else f"{manifest['apiVersion']} {manifest['kind']}"
            self.objects[name, key_of(manifest)] = copy.deepcopy(manifest)

    def kind_of(self, manifest: Manifest) -> Kind[View]:
        """The kind of a manifest; raises LookupError when no plugin here declares it."""
        name = manifest["apiVersion"], manifest["kind"]
        if name not in self._kinds:
            raise LookupError(f"{' '.join(name)}: none of the plugins declares this kind")
        return self._kinds[name]

    def views(self) -> list[tuple[Kind[View], str, View]]:
        """The views of all objects, as a list and watch would bring them."""
        found = []
        for (_, key), manifest in self.objects.items():
            kind = self._kinds.get((manifest["apiVersion"], manifest["kind"]))
            if kind is not None:
                found.append((kind, key, kind.view(manifest)))
        return found

    def want(self, owner: Owner, items: Sequence[KubeItem]) -> None:
        """See `ovnkit.engine.sink.Sink`."""
        before = self._wanted.pop(owner, ())
        if items:
            self._wanted[owner] = tuple(items)
        self.events += [item for item in items if isinstance(item, Event) and item not in before]
        self._dropped += [item for item in before if item not in items]
        self._dirty = True

    def flush(self) -> None:
        """Apply what differs, and post the new views."""
        if not self._dirty:
            return
        self._dirty = False
        wanted = [item for items in self._wanted.values() for item in items]
        targets = {_target(item) for item in wanted}
        dropped, self._dropped = self._dropped, []
        for item in dropped:
            if _target(item) not in targets:
                self._apply(item, withdrawn=True)
        for item in wanted:
            self._apply(item, withdrawn=False)

    def settle(self) -> None:
        """Nothing to do."""

    def status(self) -> dict[str, Any]:
        """Nothing to say."""
        return {}

    def _apply(self, item: KubeItem, *, withdrawn: bool) -> None:
        manifest = self.objects.get((getattr(item.kind, "name", ""), getattr(item, "object", "")))
        if manifest is None or isinstance(item, Event):
            return
        before = copy.deepcopy(manifest)
        _edit(manifest, item, withdrawn)
        if manifest != before:
            self.writes += 1
            meta = manifest["metadata"]
            meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
            change = (item.object, item.kind.view(copy.deepcopy(manifest)))
            self._post(lambda: self.changed(item.kind, [change]))


def _target(item: KubeItem) -> tuple[Any, ...]:
    name = getattr(item, "name", "") or getattr(item, "type", "")
    return type(item), item.kind.name, item.object, name or getattr(item, "manager", "")


def _edit(manifest: Manifest, item: KubeItem, withdrawn: bool) -> None:
    meta = manifest["metadata"]
    if isinstance(item, Annotation | Label):
        field = "annotations" if isinstance(item, Annotation) else "labels"
        value = item.value
        if value is NOW:
            value = (meta.get(field) or {}).get(item.name, STAMPED)
        _put(meta, field, item.name, None if withdrawn else value)
    elif isinstance(item, Finalizer):
        kept = [name for name in meta.get("finalizers", ()) if name != item.name]
        meta["finalizers"] = kept if withdrawn else [*kept, item.name]
    elif isinstance(item, Status) and item.manager:
        _apply_status(manifest, item.manager, {} if withdrawn else item.content)
    elif isinstance(item, Status) and not withdrawn:
        _merge(manifest.setdefault("status", {}), item.content)
    elif isinstance(item, Condition) and not withdrawn:
        status = manifest.setdefault("status", {})
        others = [found for found in status.get("conditions", ()) if found["type"] != item.type]
        mine = {"type": item.type, "status": str(item.status), "reason": item.reason, "message": item.message}
        status["conditions"] = [*others, mine]


def _apply_status(manifest: Manifest, manager: str, content: Mapping[str, Any]) -> None:
    """Server-side apply of a status whose lists are sets, as far as plugins need it: `content` is flat."""
    meta, status = manifest["metadata"], manifest.setdefault("status", {})
    entries = {entry["manager"]: entry["applied"] for entry in meta.get("managedFields", ())}
    for name, value in entries.pop(manager, {}).items():
        if isinstance(value, list):
            kept = [item for item in status.get(name, ()) if item not in value or item in content.get(name, ())]
            status[name] = kept
        else:
            status.pop(name, None)
    for name, value in content.items():
        known = status.get(name, [])
        status[name] = [*known, *(v for v in value if v not in known)] if isinstance(value, list) else value
    if content:
        entries[manager] = copy.deepcopy(dict(content))
    managed = [
        {"manager": name, "operation": "Apply", "subresource": "status", "applied": applied}
        for name, applied in sorted(entries.items())
    ]
    meta.pop("managedFields", None)
    if managed:
        meta["managedFields"] = managed


def _put(meta: dict[str, Any], field: str, name: str, value: str | None) -> None:
    values = meta.get(field) or {}
    if value is None:
        if name in values:
            meta[field] = {key: text for key, text in values.items() if key != name}
    else:
        meta[field] = {**values, name: value}


def _merge(target: dict[str, Any], patch: Mapping[str, object]) -> None:
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, Mapping):
            _merge(target.setdefault(name, {}), value)
        else:
            target[name] = value
