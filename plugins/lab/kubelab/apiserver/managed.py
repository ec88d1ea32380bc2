"""Field ownership: who set what, kept in ``metadata.managedFields``; server-side apply on top of it."""

import copy
from typing import Any

import orjson
from attrs import frozen

from kubelab.clock import now

from . import fieldset
from .errors import ApiError, Json, conflict
from .fieldset import FieldSet
from .schema import LIST, Node

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
Manager = tuple[str, str, str, str]


@frozen
class Writer:
    """Who writes: the manager's name, the version it speaks, the subresource it writes to."""

    manager: str
    api_version: str
    subresource: str = ""

    def key(self, operation: str) -> Manager:
        """The identity of the writer's entry."""
        return (self.manager, operation, self.api_version, self.subresource)


class Owners:
    """The managers of one object, decoded; entries that didn't change keep their time."""

    def __init__(self, entries: list[Json]) -> None:
        self.sets: dict[Manager, FieldSet] = {}
        self._times: dict[Manager, str] = {}
        for entry in entries:
            key = (
                entry.get("manager", ""),
                entry.get("operation", "Update"),
                entry.get("apiVersion", ""),
                entry.get("subresource", ""),
            )
            self.sets[key] = entry.get("fieldsV1") or {}
            self._times[key] = entry.get("time", "")

    def set(self, key: Manager, fields: FieldSet) -> None:
        """What a manager owns from now on."""
        if self.sets.get(key) == fields:
            return
        self.sets[key] = fields
        self._times[key] = now()

    def entries(self) -> list[Json]:
        """The ``managedFields`` list; Apply before Update, as kube-apiserver sorts."""
        listed = []
        for key in sorted(self.sets, key=lambda k: (k[1], self._times.get(k, ""), k[0])):
            if not self.sets[key]:
                continue
            manager, operation, version, subresource = key
            entry: Json = {
                "manager": manager,
                "operation": operation,
                "apiVersion": version,
                "time": self._times[key] or now(),
                "fieldsType": "FieldsV1",
                "fieldsV1": self.sets[key],
            }
            if subresource:
                entry["subresource"] = subresource
            listed.append(entry)
        return listed

    def others(self, key: Manager) -> FieldSet:
        """Everything owned by anybody else."""
        total: FieldSet = {}
        for other, fields in self.sets.items():
            if other != key:
                total = fieldset.union(total, fields)
        return total


def track_update(node: Node, old: Json | None, new: Json, writer: Writer) -> None:
    """Record a create or update (anything but apply) in ``new``'s managedFields."""
    metadata = new["metadata"]
    live = (old["metadata"].get("managedFields") if old else None) or []
    given = metadata.get("managedFields")
    if given is not None and given != live and given and not any(given):
        metadata.pop("managedFields")
        return
    owners = Owners(given or live)
    removed: FieldSet = {}
    if old is None:
        written = fieldset.of_object(node, new)
    else:
        written, removed = fieldset.changes(node, old, new)
    key = writer.key("Update")
    for other, fields in list(owners.sets.items()):
        if other != key and (written or removed):
            gone = fieldset.union(removed, written)
            owners.set(other, fieldset.difference(fields, gone))
    mine = owners.sets.get(key, {})
    if written or removed:
        owners.set(key, fieldset.union(fieldset.difference(mine, removed), written))
    _store(new, owners)


def apply(node: Node, live: Json, config: Json, writer: Writer, force: bool, naming: tuple[str, str, str]) -> Json:
    """The object after server-side apply of ``config`` onto ``live`` (a copy the caller owns).

    ``naming`` is (plural, group, name) for the conflict's message.

    Raises :class:`~.errors.ApiError` (409) when fields owned by others would change and ``force`` is off.
    """
    owners = Owners(live.get("metadata", {}).get("managedFields") or [])
    key = writer.key("Apply")
    before = owners.sets.get(key, {})
    mine = fieldset.of_object(node, config)
    live_metadata = live.setdefault("metadata", {})
    live_metadata.pop("managedFields", None)
    new: Json = merge(node, live, config)
    others = owners.others(key)
    dropped = fieldset.difference(before, mine)
    if dropped:
        new = copy.deepcopy(new)
        fieldset.remove(node, new, dropped, fieldset.union(others, mine))
    written, removed = fieldset.changes(node, live, new)
    conflicts = {
        other: both
        for other, fields in owners.sets.items()
        if other != key and (both := fieldset.intersection(fields, written))
    }
    if conflicts and not force:
        mine_before = _last_applied(node, live) if writer.manager == "kubectl" and not before else {}
        conflicts_left = {
            o: left for o, both in conflicts.items() if (left := fieldset.difference(both, mine_before))
        }
        if conflicts_left:
            raise _conflict(conflicts_left, naming)
    for other, both in conflicts.items():
        owners.set(other, fieldset.difference(owners.sets[other], both))
    if removed:
        for other in [k for k in owners.sets if k != key]:
            owners.set(other, fieldset.difference(owners.sets[other], removed))
    owners.set(key, mine)
    _store(new, owners)
    if writer.manager == "kubectl" and LAST_APPLIED in (new["metadata"].get("annotations") or {}):
        new["metadata"]["annotations"][LAST_APPLIED] = orjson.dumps(config).decode() + "\n"
    return new


def _last_applied(node: Node, live: Json) -> FieldSet:
    """The fields of kubectl's last client-side apply, which its server-side apply may take over."""
    text = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        applied = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}
    return fieldset.of_object(node, applied) if isinstance(applied, dict) else {}


def _store(obj: Json, owners: Owners) -> None:
    entries = owners.entries()
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)


def merge(node: Node, live: object, config: object) -> Any:
    """``config`` laid over ``live`` by the schema: maps and keyed lists item by item, the rest replaced."""
    if isinstance(live, dict) and isinstance(config, dict) and not node.atomic:
        merged = dict(live)
        for name, value in config.items():
            if value is None:
                merged.pop(name, None)
            elif name in live:
                merged[name] = merge(node.child(name), live[name], value)
            else:
                merged[name] = value
        return merged
    if isinstance(live, list) and isinstance(config, list) and node.shape == LIST and fieldset.granular_list(node):
        return _merge_items(node, live, config)
    return config


def _merge_items(node: Node, live: list[Any], config: list[Any]) -> list[Any]:
    wanted = {fieldset.item_step(node, item): item for item in config}
    held = {fieldset.item_step(node, item): item for item in live}
    merged = []
    for step, item in held.items():
        merged.append(merge(node.items, item, wanted[step]) if step in wanted else item)
    merged += [item for step, item in wanted.items() if step not in held]
    if set(held) <= set(wanted):
        order = {step: i for i, step in enumerate(wanted)}
        merged.sort(key=lambda item: order[fieldset.item_step(node, item)])
    return merged


def _conflict(conflicts: dict[Manager, FieldSet], naming: tuple[str, str, str]) -> ApiError:
    causes = []
    texts = []
    for (manager, operation, version, subresource), fields in conflicts.items():
        listed = sorted(fieldset.readable(p) for p in fieldset.paths(fields))
        who = f'"{manager}"'
        if subresource:
            who += f' with subresource "{subresource}"'
        if operation == "Update":
            who += f" using {version}"
        texts.append(f"conflict{'s' if len(listed) > 1 else ''} with {who}: " + ", ".join(listed))
        causes += [
            {"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": path} for path in listed
        ]
    count = len(causes)
    error = conflict(*naming)
    message = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {'; '.join(texts)}"
    return ApiError(409, "Conflict", message, {**(error.details or {}), "causes": causes})
