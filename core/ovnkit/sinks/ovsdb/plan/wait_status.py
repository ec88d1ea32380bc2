"""What the sink can't write yet, because a row that it needs isn't there: told in words, for `ovnkit status`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import frozen

from ovnkit.api.identity import RowId
from ovnkit.api.items import Lookup, Member, Ref, Row
from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.model.desired import RowTarget
from ovnkit.sinks.ovsdb.model.replica import Record
from ovnkit.sinks.ovsdb.plan.state import SinkState

SHOWN = 100
"""How many of those that wait are listed; all are counted."""


@frozen
class Waits:
    """Reads from the state of a sink who waits for what."""

    state: SinkState

    def told(self) -> dict[str, Any]:
        """`waiting`, their number, and `waits`, the first of them (see `ovnkit.engine.sink.Sink.status`)."""
        shown: list[dict[str, Any]] = []
        number = 0
        now = time.time()
        missing: dict[RowTarget, float] = {}
        for target, owner, item in self._all():
            missing[target] = self.state.waiters.missing.get(target, now)
            number += 1
            if len(shown) < SHOWN:
                wants = self._described(target, owner)
                shown.append({"owner": str(owner), "item": item, "wants": wants, "since": missing[target]})
        for name, row in self._named_still():
            missing[name] = self.state.waiters.missing.get(name, now)
            number += 1
            if len(shown) < SHOWN:
                path, table = self.state.marks.paths.get(row.uuid, row.uuid), row.table
                wants = f"the end of what names {name}"
                shown.append(
                    {"owner": path, "item": f"deletion of {table}", "wants": wants, "since": missing[name]}
                )
        if not self.state.touched:
            self.state.waiters.missing = missing  # those for which nobody waits any more are forgotten
        return {"waiting": number, "waits": sorted(shown, key=lambda entry: entry["since"])}

    def _all(self) -> Iterator[tuple[RowTarget, Owner, str]]:
        """(what is missing, who waits for it, with which item)."""
        desired, there = self.state.desired, self.state.replica.rows
        for target, waiters in self.state.waiters.rows.items():
            for uuid, column in waiters:
                want = desired.rows.get(uuid)
                if column is None:
                    if want is not None and uuid not in there:
                        yield target, want.owner, f"{want.table} {want.row.name}"
                elif isinstance(target, str):
                    for owner in self._wanting(uuid, column, target):
                        yield target, owner, f"a value of {self._column(uuid, column)}"

        def wanted(element: Any) -> bool:
            """Whether it is a row of ours, which waits itself for the row it goes into."""
            row = desired.rows.get(element) if isinstance(element, str) else None
            return row is not None and row.parent is not None and row.parent[0] == target

        for target, columns in desired.members.items():
            uuid_or_none = self.state.resolve(target)
            if uuid_or_none is None or (uuid_or_none not in there and uuid_or_none not in desired.rows):
                for column, elements in columns.items():
                    for owner in {
                        o for element, owners in elements.items() for o in owners if not wanted(element)
                    }:
                        yield target, owner, f"a value of column {column}"
        for target in self.state.waiters.unreferred:
            want = desired.rows.get(target) if isinstance(target, str) else None
            if want is not None and target not in there:
                yield target, want.owner, f"{want.table} {want.row.name}"

    def _named_still(self) -> Iterator[tuple[str, Record]]:
        """Rows that are to go, or to be renamed, and the name that others have in their matches."""
        for name, waiters in self.state.naming.waiting.items():
            for uuid in waiters:
                if (record := self.state.replica.rows.get(uuid)) is not None:
                    yield name, record

    def _wanting(self, uuid: str, column: str, element: str) -> set[Owner]:
        """Who wants a reference in a column of a row."""
        if uuid not in self.state.replica.rows or element in self.state.replica.rows:
            return set()
        found: set[Owner] = set()
        for group in self.state.desired.of(self.state.names(uuid), column):
            found.update(group.get(element, ()))
        want = self.state.desired.rows.get(uuid)
        if want is not None and element in want.refs.get(column, ()):
            found.add(want.owner)
        return found

    def _column(self, uuid: str, column: str) -> str:
        record = self.state.replica.rows[uuid]
        path = self.state.marks.paths.get(uuid, "")
        return f"{record.table}.{column} of {path or record.values.get('name') or uuid}"

    def _described(self, target: RowTarget, owner: Owner) -> str:
        if isinstance(target, Lookup):
            which = f" with {target.column} {target.value}" if target.column else ""
            return f"{target.table}{which}"
        want = self.state.desired.rows.get(target)
        if want is None:
            return f"row {self._path(target, owner)}, which nobody here writes"
        if target in self.state.waiters.unreferred:
            return f"a row that refers to {want.path}"
        refused = self.state.reports.texts.get(str(want.owner))
        return f"{want.table} {want.path}" + (f" ({'; '.join(refused)})" if refused else "")

    def _path(self, uuid: str, owner: Owner) -> str:
        """The owner path by which an owner names a row, or its UUID where it names only that."""
        wanted_items = self.state.desired.owners.get(owner)
        for item in wanted_items.items if wanted_items is not None else ():
            for row in _named(item):
                if row.uuid == uuid:
                    return row.path
        return uuid


def _named(item: Any) -> Iterator[RowId]:
    """The rows that an item names."""
    slot = item.parent if isinstance(item, Row) else item.slot if isinstance(item, Member) else None
    if slot is not None and isinstance(slot.row, RowId):
        yield slot.row
    values = item.columns.values() if isinstance(item, Row) else (getattr(item, "value", None),)
    for value in values:
        several = value.values() if isinstance(value, Mapping) else value
        for one in several if isinstance(several, Iterable) and not isinstance(several, str) else (several,):
            if isinstance(one, Ref) and one.row is not None:
                yield one.row
