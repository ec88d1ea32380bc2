"""The status of one Kubernetes object: what is known of it, and the patches that make it what is wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import frozen

from ovnkit.sinks.kube.fields import APPLIED, CONDITIONS, STATUS, Field, Fields, version


@frozen
class KnownStatus:
    """The status of an object as of a resourceVersion; `managers` are those that applied parts of it."""

    uid: str
    resource_version: str
    content: Mapping[str, Any]
    managers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> KnownStatus:
        """From the raw object."""
        meta = raw["metadata"]
        managers = frozenset(
            str(entry.get("manager"))
            for entry in meta.get("managedFields") or ()
            if entry.get("operation") == "Apply" and entry.get("subresource") == "status"
        )
        return cls(meta.get("uid", ""), meta.get("resourceVersion", ""), raw.get("status") or {}, managers)

    def newer_than(self, other: KnownStatus | None) -> bool:
        """Whether this one is to be kept rather than `other`; of two objects, the one seen last is."""
        if other is None or other.uid != self.uid:
            return True
        return version(self.resource_version) >= version(other.resource_version)


def status_patch(
    wanted: Fields, leaving: Mapping[Field, Collection[Any]], status: Mapping[str, Any], now: str
) -> dict[str, Any]:
    """The merge patch that brings a status to what is wanted; empty when it is so already.

    `now` is the RFC 3339 time for conditions whose status changes.
    """
    patch: dict[str, Any] = {}
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    changed = False
    for path, value in wanted.items():
        if path[0] == STATUS:
            if not _holds(_at(status, path), value):
                _put(patch, path, value)
            continue
        if path[0] == APPLIED:
            continue
        merged = _condition(path[1], value, conditions.get(path[1]), now)
        if merged is not None:
            conditions[path[1]], changed = merged, True
    for path, ours in leaving.items():
        if path[0] == STATUS:
            if any(_at(status, path) == value for value in ours):
                _put(patch, path, None)
        elif path[0] == CONDITIONS and path[1] in conditions and _content(conditions[path[1]]) in ours:
            del conditions[path[1]]
            changed = True
    if changed:
        patch["conditions"] = list(conditions.values())
    return patch


def applications(wanted: Fields, leaving: Iterable[Field], known: KnownStatus) -> list[tuple[str, Any]]:
    """What has to be applied server-side: (manager, content)."""
    contents: dict[str, Any] = {path[1]: {} for path in leaving if path[0] == APPLIED}
    contents |= {path[1]: content for path, content in wanted.items() if path[0] == APPLIED}
    return [
        (manager, content)
        for manager, content in contents.items()
        if (manager in known.managers) is not bool(content) or not _includes(known.content, content)
    ]


def _includes(actual: Any, wanted: Any) -> bool:
    """Whether what is there has all of what was, or is to be, applied; order and company don't matter."""
    if isinstance(wanted, Mapping):
        return isinstance(actual, Mapping) and all(_includes(actual.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(actual, list) and all(any(_includes(a, w) for a in actual) for w in wanted)
    return bool(actual == wanted)


def _content(condition: Mapping[str, Any]) -> tuple[str, str, str]:
    return condition.get("status", ""), condition.get("reason", ""), condition.get("message", "")


def _condition(
    kind: str, value: tuple[str, str, str], actual: Mapping[str, Any] | None, now: str
) -> dict[str, Any] | None:
    """The condition to write, or None. lastTransitionTime moves with the status only, as Kubernetes has it."""
    if actual is not None and _content(actual) == value:
        return None
    status, reason, message = value
    since = actual.get("lastTransitionTime", now) if actual and actual.get("status") == status else now
    return {
        **(actual or {}),
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }


def _at(status: Mapping[str, Any], path: Field) -> Any:
    value: Any = status
    for name in path[1:]:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _holds(actual: Any, value: Any) -> bool:
    """Whether a merge patch with `value` would change nothing."""
    return isinstance(actual, Mapping) if value == {} else bool(actual == value)


def _put(patch: dict[str, Any], path: Field, value: Any) -> None:
    for name in path[1:-1]:
        patch = patch.setdefault(name, {})
    patch[path[-1]] = value


def held(content: Mapping[str, Any], paths: Iterable[Field]) -> dict[Field, Any]:
    """The values that fields of a status have, the absent left out; whole mappings where all of them go."""
    conditions = {item["type"]: _content(item) for item in content.get("conditions") or ()}
    values: dict[Field, Any] = {path: conditions.get(path[1]) for path in paths if path[0] == CONDITIONS}
    leaves = {path for path in paths if path[0] == STATUS}
    values |= {path: _at(content, path) for path in _whole(leaves, content)}
    return {path: value for path, value in values.items() if value is not None}


def _whole(leaves: set[Field], content: Mapping[str, Any]) -> set[Field]:
    """The paths to take away so that these leave no empty mapping behind."""
    for depth in range(max(map(len, leaves), default=0), 2, -1):
        for parent in {path[:-1] for path in leaves if len(path) == depth}:
            inner = {(*parent, name) for name in _at(content, parent) or ()}
            if inner <= leaves:
                leaves = leaves - inner | {parent}
    return leaves
