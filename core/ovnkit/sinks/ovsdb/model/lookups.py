"""Rows that are named by a column's value instead of by UUID, resolved as they come and go."""

from __future__ import annotations

from collections.abc import Callable

from ovnkit.api.items import Lookup
from ovnkit.sinks.ovsdb.model.replica import Replica, RowChange


class Lookups:
    """All look-ups in use. `moved(lookup, old, new)` is called when one resolves to another row."""

    def __init__(self, replica: Replica, moved: Callable[[Lookup, str | None, str | None], None]) -> None:
        self._replica = replica
        self._moved = moved
        self._found: dict[Lookup, str | None] = {}
        self._names: dict[str, list[Lookup]] = {}
        self._tables: dict[str, list[Lookup]] = {}

    def find(self, lookup: Lookup) -> str | None:
        """The UUID of the row, or None while there isn't exactly one."""
        if lookup not in self._found:
            self._tables.setdefault(lookup.table, []).append(lookup)
            self._set(lookup, self._search(lookup))
        return self._found[lookup]

    def names(self, uuid: str) -> list[Lookup]:
        """The look-ups that resolve to a row."""
        return self._names.get(uuid, [])

    def refresh(self) -> None:
        """The replica was loaded anew."""
        for lookup in self._found:
            self._check(lookup)

    def follow(self, change: RowChange) -> None:
        """The replica has changed."""
        for lookup in self._tables.get(change.record.table, ()):
            if change.columns is None or lookup.column in change.before:
                self._check(lookup)

    def _check(self, lookup: Lookup) -> None:
        before, now = self._found[lookup], self._search(lookup)
        if before != now:
            self._set(lookup, now)
            self._moved(lookup, before, now)

    def _set(self, lookup: Lookup, uuid: str | None) -> None:
        before = self._found.get(lookup)
        if before is not None:
            self._names[before].remove(lookup)
        self._found[lookup] = uuid
        if uuid is not None:
            self._names.setdefault(uuid, []).append(lookup)

    def _search(self, lookup: Lookup) -> str | None:
        if not lookup.column:
            rows = self._replica.table(lookup.table)
            return next(iter(rows)) if len(rows) == 1 else None
        found = self._replica.find(lookup.table, (lookup.column,), (lookup.value,))
        return next(iter(found)) if len(found) == 1 else None
