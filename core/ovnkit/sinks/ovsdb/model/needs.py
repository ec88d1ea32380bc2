"""Which columns are monitored: what was registered, and what the sink itself must see."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping

from ovnkit.api.items import Lookup, Member, Row
from ovnkit.sinks.ovsdb.model.names import MATCH, NAMING, SIGNS
from ovnkit.sinks.ovsdb.wire.schema import Schema

Columns = dict[str, frozenset[str]]


class Needs:
    """Registered tables and columns. May be added to from any thread."""

    def __init__(self, needs: Mapping[str, Iterable[str]] | None = None) -> None:
        self.generation = 0
        """Grows with each addition."""
        self.writes = False
        """Whether rows are written, so that what they refer to must be seen."""
        self.everywhere = False
        """Whether `external_ids` of every table is monitored, to find what a plugin left that is now disabled."""
        self._lock = threading.Lock()
        self._columns: dict[str, set[str]] = {}
        for table, columns in (needs or {}).items():
            self.add(table, columns)

    def add(self, table: str, columns: Iterable[str], schema: Schema | None = None) -> bool:
        """Register columns; returns whether any of them is new to the server with this schema.

        What it doesn't have is only remembered, for another server. `external_ids` is always monitored.
        """
        known = self._columns.get(table)
        if known is not None and known.issuperset(columns):
            return False
        with self._lock:
            merged = {*self._columns.get(table, ()), *columns, "external_ids"}
            added = merged - self._columns.get(table, set())
            self._columns[table] = merged
            if not added or (schema is not None and table not in schema.tables):
                return False
            # A table that nobody named yet is new to the session, whatever its columns.
            if schema is not None and known is not None and not any(schema.has(table, name) for name in added):
                return False
            self.generation += 1
            return True

    def snapshot(self) -> tuple[Columns, int]:
        """What is registered now, and the generation."""
        with self._lock:
            found = {
                table: frozenset(columns - ({"external_ids"} if self.writes else set()))
                for table, columns in self._columns.items()
            }
            return found, self.generation


def columns_of(item: Row | Member) -> Iterator[tuple[str, Iterable[str]]]:
    """Tables and columns that must be monitored for an item to be written."""
    slot = item.parent if isinstance(item, Row) else item.slot
    if isinstance(item, Row):
        yield item.table, item.columns
    if slot is not None:
        yield slot.table, (slot.column,)
        if isinstance(slot.row, Lookup):
            yield slot.row.table, (slot.row.column,) if slot.row.column else ()


def available(needs: Columns, schema: Schema, writes: bool, everywhere: bool) -> Columns:
    """The registered columns that this server has, and when rows are written those that it takes.

    That is: unique columns, names and `external_ids` of each table, the row that stands for the database, and the
    tables that references point to; with `everywhere` also `external_ids` of every other table, the columns that
    refer strongly to any row, and what shows which rows others name. (In the southbound that would
    be all logical flows.)
    """
    found: dict[str, set[str]] = {}
    for table, columns in needs.items():
        if table in schema.tables:
            found.setdefault(table, set()).update(c for c in columns if schema.has(table, c))
    if everywhere:
        for name, described in schema.tables.items():
            if "external_ids" in described.columns:
                found.setdefault(name, set())
    if schema.singleton and writes:
        found.setdefault(schema.singleton, set()).add("external_ids")
    for table in list(found):
        for referrer in schema.strong_referrers.get(table, ()) if everywhere else ():
            found.setdefault(referrer.table, set()).add(referrer.name)
        for name in list(found[table]):
            reference = schema.tables[table].columns[name].reference
            if reference is not None and writes:
                found.setdefault(reference.ref_table, set())
    if everywhere and writes and not SIGNS.keys().isdisjoint(found):
        for name, described in schema.tables.items():
            if MATCH in described.columns:
                found.setdefault(name, set()).update(NAMING & described.columns.keys())
    for table, names in found.items():
        described = schema.tables[table]
        if not writes:
            continue
        names.update(name for index in described.keys for name in index)
        if "external_ids" in described.columns:
            names.add("external_ids")
    for table, names in found.items():
        if not names:
            names.add(min(schema.tables[table].columns))
    return {table: frozenset(names) for table, names in found.items()}
