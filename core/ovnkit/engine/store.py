"""What has been observed: views by kind and key, with the indexes that kinds declare."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

from ovnkit.api.kinds import Kind, V, View

_EMPTY: Mapping[str, View] = {}


@frozen
class Change:
    """One object came, changed or went; `old` or `new` is None for the first and the last."""

    kind: Kind[View]
    key: str
    old: View | None
    new: View | None


@define
class _Shelf:
    """The objects of one kind. `by_index[index][value]` holds those listed under a value."""

    objects: dict[str, View] = field(factory=dict)
    by_index: dict[str, dict[str, dict[str, View]]] = field(factory=dict)
    listed: bool = False


class Store:
    """Views by kind. Written by the reconciler's thread only; `get` may be called from any thread."""

    def __init__(self) -> None:
        self._shelves: dict[Kind[View], _Shelf] = {}

    def _shelf(self, kind: Kind[View]) -> _Shelf:
        shelf = self._shelves.get(kind)
        if shelf is None:
            shelf = self._shelves[kind] = _Shelf(by_index={index: {} for index in kind.indexes})
        return shelf

    def put(self, kind: Kind[View], key: str, view: View | None) -> Change | None:
        """Store a view, or drop it (`view` None); None when nothing that anybody reads has changed."""
        shelf = self._shelf(kind)
        old = shelf.objects.get(key)
        if view is None:
            if old is None:
                return None
            del shelf.objects[key]
        else:
            shelf.objects[key] = view
        for index, values_of in kind.indexes.items():
            _reindex(
                shelf.by_index[index], key, values_of(old) if old else (), values_of(view) if view else (), view
            )
        return None if old == view else Change(kind, key, old, view)

    def get(self, kind: Kind[V], key: str) -> V | None:
        """The view, or None."""
        view: V | None = self._shelf(kind).objects.get(key)  # type: ignore[assignment]
        return view

    def select(self, kind: Kind[V], index: str, value: str) -> Mapping[str, V]:
        """Views by key: all of them, or those `index` lists under `value`. Not a copy."""
        shelf = self._shelf(kind)
        found: Mapping[str, Any] = shelf.by_index[index].get(value, _EMPTY) if index else shelf.objects
        return found

    def mark_listed(self, kind: Kind[View]) -> None:
        """Everything of this kind has been observed once."""
        self._shelf(kind).listed = True

    def is_listed(self, kind: Kind[View]) -> bool:
        """Whether everything of this kind has been observed once."""
        return self._shelf(kind).listed

    def counts(self) -> dict[str, int]:
        """Objects by kind name, for metrics and status."""
        return {kind.name: len(shelf.objects) for kind, shelf in list(self._shelves.items())}


def _reindex(
    buckets: dict[str, dict[str, View]], key: str, before: Iterable[str], after: Iterable[str], view: View | None
) -> None:
    after = tuple(after)
    for value in before:
        if value not in after:
            bucket = buckets[value]
            bucket.pop(key, None)
            if not bucket:
                del buckets[value]
    if view is None:
        return
    for value in after:
        buckets.setdefault(value, {})[key] = view


def moved(change: Change, index: str) -> tuple[Collection[str], Collection[str]]:
    """Values of an index that list the object before or after a change: (all touched, those that differ)."""
    values_of = change.kind.indexes[index]
    before = frozenset(values_of(change.old)) if change.old is not None else frozenset()
    after = frozenset(values_of(change.new)) if change.new is not None else frozenset()
    return before | after, before ^ after
