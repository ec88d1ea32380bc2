"""Looks at every transaction of a sink: no match may name what isn't there once the transaction is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ovnkit.api.items import Row
from ovnkit.api.matches import Match
from ovnkit.sinks.ovsdb.model.names import MATCH, NAMING, SIGNS, name_of, names_of
from ovnkit.sinks.ovsdb.sink import OvsdbSink

Operation = Mapping[str, Any]


class NameWatch:
    """Collects faults in `faults`. What others did to the database isn't held against the sink."""

    def __init__(self, sink: OvsdbSink) -> None:
        self.faults: list[str] = []
        self.transactions = 0
        self._sink = sink
        self._transact = sink.session.transact
        sink.session.transact = self._look  # type: ignore[method-assign]

    def _look(self, operations: list[dict[str, Any]], callback: Any) -> None:
        if operations:
            self.transactions += 1
            self._check(operations)
        self._transact(operations, callback)

    def _check(self, operations: Iterable[Operation]) -> None:
        """Compare what a transaction leaves with what its matches name.

        One that is sent while another is under way must hold whether that one is accepted or not, so the
        replica is what counts.
        """
        rows = self._sink.session.replica.rows
        names: dict[str, set[str]] = {}
        values: dict[str, Mapping[str, Any]] = {}
        for uuid, record in rows.items():
            if name := name_of(record):
                names.setdefault(name, set()).add(uuid)
            if MATCH in record.values:
                values[uuid] = record.values
        there, lost, written = set(names), set[str](), list[str]()
        for operation in operations:
            uuid = operation.get("uuid") or _where(operation)
            row, sign = operation.get("row", {}), SIGNS.get(operation["table"])
            if operation["op"] == "delete":
                values.pop(uuid, None)
            if sign and (operation["op"] == "delete" or "name" in row) and uuid in rows:
                former = name_of(rows[uuid])
                names.get(former, set()).discard(uuid)
                lost.add(former)
            if sign and "name" in row:
                names.setdefault(sign + row["name"], set()).add(uuid)
            if not NAMING.isdisjoint(row):
                fresh = {name: None if isinstance(value, list) else value for name, value in row.items()}
                values[uuid] = {**values.get(uuid, {}), **fresh}
                written.append(uuid)
        for uuid in written:
            for name in names_of(values[uuid]):
                if not names.get(name):
                    self.faults.append(f"{values[uuid][MATCH]!r} is written and names {name}, which isn't there")
        gone = {name for name in lost & there if not names.get(name)}
        for found in values.values() if gone else ():
            for name in gone & names_of(found):
                self.faults.append(f"{name} goes and {found[MATCH]!r} still names it")

    def undeclared(self) -> list[str]:
        """Wanted rows with names that aren't declared (see `ovnkit.api.matches`)."""
        wanted = self._sink._state.desired.rows
        found = []
        for want in wanted.values():
            values = want.row.columns
            texts = {name: str(values[name]) for name in (MATCH, "meter") if values.get(name)}
            declared = {uuid for value in values.values() if isinstance(value, Match) for uuid in value.names}
            known = {_wanted_name(wanted[uuid].row) for uuid in declared if uuid in wanted}
            strangers = names_of({**texts, "log": values.get("log")}) - known
            if len(strangers) > sum(uuid not in wanted for uuid in declared):
                found.append(f"{want.path}: {texts} has names that are no references: {sorted(strangers)}")
        return found

    def all_faults(self) -> list[str]:
        """What is wrong so far."""
        return [*self.faults, *self.undeclared()]


def _where(operation: Operation) -> str:
    return str(operation["where"][0][2][1]) if operation.get("where") else ""


def _wanted_name(row: Row) -> str:
    return f"{SIGNS.get(row.table, '')}{row.columns.get('name')}"
