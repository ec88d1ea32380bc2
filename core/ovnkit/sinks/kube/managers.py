"""Field managers: under which names the API server's managedFields show what renderers write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ovnkit.api.hooks import Scope
from ovnkit.api.renderers import Role
from ovnkit.api.text import parse_json
from ovnkit.engine.sink import Owner
from ovnkit.sinks.kube.fields import (
    ANNOTATIONS,
    APPLIED,
    CONDITIONS,
    FIELD_MANAGER,
    FINALIZERS,
    LABELS,
    STATUS,
    Field,
)
from ovnkit.sinks.kube.statuses import KnownStatus

_LONGEST = 128
"""Characters that a field manager may have (k8s.io/apimachinery, validation of options)."""


class FieldManagers:
    """`ovnkit/PLUGIN/ROLE/PLACE`: who wrote a field, and which process may take it away again.

    The place is the zone or the node that the process acts for; the cluster role has none.
    """

    def __init__(self, scope: Scope, role_of: Callable[[Owner], Role | None]) -> None:
        self._places = {Role.CLUSTER: "", Role.ZONE: scope.zone, Role.NODE: scope.node}
        self._role_of = role_of
        self._names: dict[tuple[str, str], str] = {}

    def name(self, owner: Owner) -> str:
        """The manager for what an owner wants."""
        renderer = owner.plugin, owner.renderer
        if renderer not in self._names:
            role = self._role_of(owner)
            self._names[renderer] = FIELD_MANAGER if role is None else self._name(owner.plugin, role)
        return self._names[renderer]

    def _name(self, plugin: str, role: Role) -> str:
        head, place = f"{FIELD_MANAGER}/{plugin}/{role.value}", self._places[role]
        if len(head) + 1 + len(place) > _LONGEST:
            place = hashlib.sha256(place.encode()).hexdigest()[:16]
        return f"{head}/{place}" if place else head

    def place(self, role: Role) -> str:
        """The zone or the node that the process acts for in a role; empty for the cluster."""
        return self._places[role]

    def plugin(self, role: Role, name: str) -> str | None:
        """The plugin whose renderers of `role` write here under this name; None when it isn't one of ours."""
        words = name.split("/", 2)
        if words[0] == FIELD_MANAGER and len(words) == 3 and self._name(words[1], role) == name:
            return words[1]
        return None


def written_fields(raw: Mapping[str, Any], plugin: Callable[[str], str | None]) -> dict[Field, str]:
    """The fields of an object that managers of ours wrote last, with the plugin; see FieldManagers.plugin.

    The format is FieldsV1 of structured-merge-diff. Parts of lists that others share are left out.
    """
    found: dict[Field, str] = {}
    for entry in raw["metadata"].get("managedFields") or ():
        writer = plugin(entry.get("manager", "")) if entry.get("operation") == "Update" else None
        if writer is None:
            continue
        fields = entry.get("fieldsV1") or {}
        meta = fields.get("f:metadata") or {}
        paths: list[Field] = []
        for section in (ANNOTATIONS, LABELS):
            paths += [(section, name[2:]) for name in meta.get(f"f:{section}") or ()]
        paths += [(FINALIZERS, parse_json(name[2:])) for name in meta.get("f:finalizers") or () if name != "."]
        paths += _status_fields((STATUS,), fields.get("f:status"))
        found |= dict.fromkeys((path for path in paths if path[-1]), writer)
    return found


def applied_fields(
    raw: Mapping[str, Any], place: str, ours: Callable[[str, Mapping[str, Any]], bool]
) -> Iterable[Field]:
    """What managers that a plugin named applied to an object (`AppliedStatus`); with a place only that one's."""
    known = KnownStatus.of(raw)
    for manager in sorted(known.managers):
        if (not place or manager == place) and ours(manager, known.content):
            yield (APPLIED, manager)


def _status_fields(path: Field, fields: Mapping[str, Any] | None) -> list[Field]:
    inner = [name for name in fields or () if name != "."]
    if path == (STATUS, CONDITIONS):
        return [(CONDITIONS, parse_json(name[2:]).get("type", "")) for name in inner if name.startswith("k:")]
    if not inner:
        return [path] if len(path) > 1 else []
    return [
        found
        for name in inner if name.startswith("f:")
        for found in _status_fields((*path, name[2:]), (fields or {})[name])
    ]  # fmt: skip
