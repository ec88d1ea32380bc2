"""What to write to one Kubernetes object: pure comparison of what is wanted with what is there.

A *field* is a path in the object that somebody wants a value for: `("annotations", name)`, `("labels", name)`,
`("finalizers", name)`, `("conditions", type)`, `("status", ...)` down to a value that is no mapping, or
`("applied", manager)` for what is applied server-side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import orjson
from attrs import evolve, field, frozen

from ovnkit.api.items import NOW, Annotation, Condition, Finalizer, Label, Status
from ovnkit.api.kinds import Resource
from ovnkit.api.models import ObjectView

Field = tuple[str, ...]
Fields = Mapping[Field, Any]

ANNOTATIONS, LABELS, FINALIZERS, STATUS, CONDITIONS, APPLIED = (
    "annotations",
    "labels",
    "finalizers",
    "status",
    "conditions",
    "applied",
)
IN_STATUS = frozenset({STATUS, CONDITIONS, APPLIED})
_NOTHING: Mapping[str, Any] = {}


def version(text: str) -> int:
    """A resourceVersion as a number to compare; -1 for one that isn't (KEP-5504 makes them comparable)."""
    return int(text) if text.isdigit() else -1


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


@frozen
class Plan:
    """What one write of an object has to do.

    `annotations` and `labels` are the part of a merge patch; `finalizers` is the whole list to be, or None
    when it stays. `wanted` and `leaving` are the fields of the status: values to set, and for those nobody
    wants any more, the values by which we know them as ours. `status` is what is known of it, if anything.
    """

    resource: Resource
    key: str
    uid: str
    resource_version: str
    annotations: Mapping[str, str | None] = _NOTHING
    labels: Mapping[str, str | None] = _NOTHING
    add_finalizers: frozenset[str] = frozenset()
    remove_finalizers: frozenset[str] = frozenset()
    finalizers: tuple[str, ...] = ()
    wanted: Fields = field(factory=dict)
    leaving: Mapping[Field, Collection[Any]] = field(factory=dict)
    status: KnownStatus | None = None

    @property
    def metadata_fields(self) -> Iterator[tuple[Field, Any]]:
        """The fields of the metadata this plan sets (None: removes)."""
        yield from (((ANNOTATIONS, name), value) for name, value in self.annotations.items())
        yield from (((LABELS, name), value) for name, value in self.labels.items())
        yield from (((FINALIZERS, name), True) for name in self.add_finalizers)
        yield from (((FINALIZERS, name), None) for name in self.remove_finalizers)

    def split(self) -> Iterator[tuple[Field, Plan]]:
        """This plan's metadata field by field, to find the one the server objects to."""
        bare = evolve(self, annotations={}, labels={}, add_finalizers=frozenset(), remove_finalizers=frozenset())
        for path, value in self.metadata_fields:
            section, name = path
            if section == FINALIZERS:
                part: dict[str, Any] = {"add_finalizers" if value else "remove_finalizers": frozenset({name})}
                yield path, evolve(bare, **part)
            else:
                part = {section: {name: value}}
                yield path, evolve(bare, **part)

    @property
    def touches_metadata(self) -> bool:
        """Whether the object itself is to be patched."""
        return bool(self.annotations or self.labels or self.touches_finalizers)

    @property
    def touches_finalizers(self) -> bool:
        """Whether the list of finalizers changes."""
        return bool(self.add_finalizers or self.remove_finalizers)

    @property
    def touches_status(self) -> bool:
        """Whether the status has to be compared, and patched if it differs."""
        return bool(self.wanted or self.leaving)


def fields_of(item: Any) -> Iterator[tuple[Field, Any]]:
    """The fields an item wants, with their values; None means the field must not be there."""
    match item:
        case Annotation():
            yield (ANNOTATIONS, item.name), item.value
        case Label():
            yield (LABELS, item.name), item.value
        case Finalizer():
            yield (FINALIZERS, item.name), True
        case Condition():
            yield (CONDITIONS, item.type), ("True" if item.status else "False", item.reason, item.message)
        case Status() if item.manager:
            yield (APPLIED, item.manager), orjson.loads(orjson.dumps(item.content))
        case Status():
            yield from _leaves((STATUS,), orjson.loads(orjson.dumps(item.content)))
        case _:
            raise TypeError(f"not a Kubernetes item: {item!r}")


def _leaves(path: Field, value: Any) -> Iterator[tuple[Field, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves((*path, name), inner)
    else:
        yield path, value


def make_plan(
    resource: Resource,
    view: ObjectView,
    wanted: Fields,
    leaving: Mapping[Field, Collection[Any]],
    overlay: Fields,
    status: KnownStatus | None,
    *,
    now: str,
) -> Plan | None:
    """The plan for an object, or None when it is as wanted.

    `overlay` are fields we wrote that `view` doesn't show yet; `now` is the RFC 3339 time for stamps.
    """
    patches: dict[str, dict[str, str | None]] = {ANNOTATIONS: {}, LABELS: {}}
    observed = {ANNOTATIONS: view.annotations, LABELS: view.labels}
    add, remove = set(), set()
    in_status: dict[Field, Any] = {}
    status_leaving: dict[Field, Collection[Any]] = {}
    for path, value in wanted.items():
        section, name = path[0], path[1]
        if section in IN_STATUS:
            in_status[path] = value
        elif section == FINALIZERS:
            # the API server refuses new finalizers on an object that is being deleted
            if not overlay.get(path, name in view.finalizers) and not view.deleting:
                add.add(name)
        else:
            actual = overlay.get(path, observed[section].get(name))
            if value is NOW:
                value = actual or now
            if actual != value:
                patches[section][name] = value
    for path, ours in leaving.items():
        section, name = path[0], path[1]
        if section in IN_STATUS:
            status_leaving[path] = ours
        elif section == FINALIZERS:
            if overlay.get(path, name in view.finalizers):
                remove.add(name)
        elif overlay.get(path, observed[section].get(name)) in ours:
            patches[section][name] = None
    if status is not None and not (
        status_patch(in_status, status_leaving, status.content, "")
        or applications(in_status, status_leaving, status)
    ):
        in_status, status_leaving = {}, {}
    plan = Plan(
        resource,
        view.key,
        view.uid,
        view.resource_version,
        patches[ANNOTATIONS],
        patches[LABELS],
        frozenset(add),
        frozenset(remove),
        view.finalizers,
        in_status,
        status_leaving,
        status,
    )
    return plan if plan.touches_metadata or plan.touches_status else None


def metadata_patch(plan: Plan, finalizers: Iterable[str], resource_version: str) -> dict[str, Any]:
    """The merge patch of an object's metadata; the resourceVersion guards the list of finalizers.

    The UID makes the server refuse it for another object that took the name, as controllers of Kubernetes do.
    """
    metadata: dict[str, Any] = {"uid": plan.uid} if plan.uid else {}
    if plan.annotations:
        metadata[ANNOTATIONS] = plan.annotations
    if plan.labels:
        metadata[LABELS] = plan.labels
    if plan.touches_finalizers:
        kept = [name for name in finalizers if name not in plan.remove_finalizers]
        metadata[FINALIZERS] = kept + sorted(plan.add_finalizers.difference(kept))
        metadata["resourceVersion"] = resource_version
    return {"metadata": metadata}


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
