"""What to write to one Kubernetes object: pure comparison of what is wanted with what is there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from attrs import evolve, field, frozen

from ovnkit.api.items import NOW, Annotation, Condition, Finalizer, Label, Status
from ovnkit.api.kinds import Resource
from ovnkit.api.models import ObjectView
from ovnkit.api.text import json_bytes, parse_json
from ovnkit.sinks.kube.fields import (
    ANNOTATIONS,
    APPLIED,
    CONDITIONS,
    FIELD_MANAGER,
    FINALIZERS,
    IN_STATUS,
    LABELS,
    STATUS,
    Field,
    Fields,
)
from ovnkit.sinks.kube.statuses import KnownStatus, applications, held, status_patch

_NOTHING: Mapping[str, Any] = {}


@frozen
class Plan:
    """What one write of an object has to do.

    `annotations` and `labels` are the part of a merge patch; `finalizers` is the whole list to be, or None
    when it stays. `wanted` and `leaving` are the fields of the status: values to set, and for those nobody
    wants any more, the values by which we know them as ours. `status` is what is known of it, if anything.
    `managers` are the field managers for what is set, where they differ; else all is set under `manager`.
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
    manager: str = FIELD_MANAGER
    managers: Mapping[Field, str] = field(factory=dict)

    def by_manager(self) -> list[Plan]:
        """A plan for each field manager; what is taken away goes with the first."""
        if not self.managers:
            return [self]
        parts: list[Plan] = []
        for manager in dict.fromkeys(self.managers.values()):
            first = not parts

            def ours(path: Field, manager: str = manager, first: bool = first) -> bool:
                return self.managers.get(path, manager if first else "") == manager

            part = evolve(
                self,
                manager=manager,
                managers={},
                annotations={name: text for name, text in self.annotations.items() if ours((ANNOTATIONS, name))},
                labels={name: text for name, text in self.labels.items() if ours((LABELS, name))},
                add_finalizers=frozenset(name for name in self.add_finalizers if ours((FINALIZERS, name))),
                remove_finalizers=self.remove_finalizers if first else frozenset(),
                wanted={path: value for path, value in self.wanted.items() if ours(path)},
                leaving=self.leaving if first else {},
            )
            parts.append(part)
        return parts

    def after(self, raw: Mapping[str, Any] | None) -> Plan:
        """The same on the object as it has been written meanwhile (None: it has not)."""
        if raw is None:
            return self
        meta = raw["metadata"]
        return evolve(
            self,
            finalizers=tuple(meta.get("finalizers") or ()),
            resource_version=meta.get("resourceVersion", ""),
        )

    @property
    def metadata_fields(self) -> Iterator[tuple[Field, Any]]:
        """The fields of the metadata this plan sets (None: removes)."""
        yield from (((ANNOTATIONS, name), value) for name, value in self.annotations.items())
        yield from (((LABELS, name), value) for name, value in self.labels.items())
        yield from (((FINALIZERS, name), True) for name in self.add_finalizers)
        yield from (((FINALIZERS, name), None) for name in self.remove_finalizers)

    def only(self, paths: Collection[Field]) -> Plan:
        """This plan for some of its fields."""
        return evolve(
            self,
            annotations={name: text for name, text in self.annotations.items() if (ANNOTATIONS, name) in paths},
            labels={name: text for name, text in self.labels.items() if (LABELS, name) in paths},
            add_finalizers=frozenset(name for name in self.add_finalizers if (FINALIZERS, name) in paths),
            remove_finalizers=frozenset(name for name in self.remove_finalizers if (FINALIZERS, name) in paths),
            wanted={path: value for path, value in self.wanted.items() if path in paths},
            leaving={path: ours for path, ours in self.leaving.items() if path in paths},
        )

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
            yield (APPLIED, item.manager), parse_json(json_bytes(item.content))
        case Status():
            yield from _leaves((STATUS,), parse_json(json_bytes(item.content)))
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
    now: Callable[[], str],
    manager: Callable[[Field], str] = lambda _: FIELD_MANAGER,
) -> Plan | None:
    """The plan for an object, or None when it is as wanted.

    `overlay` are fields we wrote that `view` doesn't show yet; `now` tells the RFC 3339 time for stamps;
    `manager` tells under which field manager a field is written.
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
                value = actual or now()
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
    if not (patches[ANNOTATIONS] or patches[LABELS] or add or remove or in_status or status_leaving):
        return None
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
    paths = [*(path for path, value in plan.metadata_fields if value is not None), *in_status]
    managers = {path: manager(path) for path in paths}
    if len(names := set(managers.values())) > 1:
        return evolve(plan, managers=managers)
    return evolve(plan, manager=names.pop()) if names - {FIELD_MANAGER} else plan


def removal(resource: Resource, key: str, raw: Mapping[str, Any], paths: Collection[Field]) -> Plan:
    """The plan that takes fields away from an object as it is now."""
    meta = raw["metadata"]
    names = {section: [path[1] for path in paths if path[0] == section] for section in (ANNOTATIONS, LABELS)}
    known = KnownStatus.of(raw)
    return Plan(
        resource,
        key,
        meta.get("uid", ""),
        meta.get("resourceVersion", ""),
        dict.fromkeys(names[ANNOTATIONS]),
        dict.fromkeys(names[LABELS]),
        remove_finalizers=frozenset(path[1] for path in paths if path[0] == FINALIZERS),
        finalizers=tuple(meta.get("finalizers") or ()),
        leaving={path: [value] for path, value in held(known.content, paths).items()}
        | {path: [] for path in paths if path[0] == APPLIED},
        status=known,
    )


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
