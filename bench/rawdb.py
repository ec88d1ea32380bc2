"""The raw OVSDB client of the floors: one connection, and rows written again as they are elsewhere."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from ovnkit.sinks.ovsdb.wire.jsonrpc import Framer

DATABASE = "OVN_Northbound"
BATCH = 1000
Operation = dict[str, Any]
OWN = ("NB_Global", "Connection", "SSL")
"""Tables whose rows each server has anyway."""
_UNSET = (["set", []], ["map", []], "")


class Database:
    """One connection to an ovsdb-server, for one of its databases."""

    def __init__(self, path: Path, name: str = DATABASE) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self._framer = Framer()
        self.schema: dict[str, Any] = self.call("get_schema", [name])["tables"]

    def receive(self) -> list[dict[str, Any]]:
        """Wait for messages."""
        while True:
            # what looked incomplete a moment ago may have been all of it: the framer wants to be asked again
            self.socket.settimeout(0.01 if self._framer.pending else None)
            try:
                data = self.socket.recv(1 << 20)
            except TimeoutError:
                data = b""
            else:
                if not data:
                    raise OSError("closed")
            if messages := self._framer.feed(data):
                return messages

    def call(self, method: str, params: list[Any]) -> Any:
        """One request; raises RuntimeError with an error of it or of one of its operations."""
        self.socket.sendall(orjson.dumps({"id": 1, "method": method, "params": params}))
        while True:
            for message in self.receive():
                if message.get("method") == "echo":
                    self.socket.sendall(orjson.dumps({"id": "echo", "result": message["params"], "error": None}))
                elif message.get("id") == 1:
                    if message.get("error"):
                        raise RuntimeError(str(message["error"]))
                    return message["result"]

    def transact(self, operations: list[Operation]) -> list[Any]:
        """A transaction."""
        results: list[Any] = self.call("transact", [self.name, *operations])
        if bad := next((result for result in results if result and "error" in result), None):
            raise RuntimeError(str(bad))
        return results

    def read(self, *tables: str) -> tuple[dict[str, list[Operation]], float]:
        """All rows of the tables (all tables by default), and the seconds it took."""
        start = time.monotonic()
        names = tables or tuple(self.schema)
        results = self.transact([{"op": "select", "table": table, "where": []} for table in names])
        rows = {table: result["rows"] for table, result in zip(names, results, strict=True)}
        return rows, time.monotonic() - start

    def write(self, batches: list[list[Operation]]) -> float:
        """Write one after another; seconds taken."""
        start = time.monotonic()
        for batch in batches:
            self.transact(batch)
        return time.monotonic() - start


def differing(one: dict[str, list[Operation]], other: dict[str, list[Operation]]) -> list[str]:
    """UUIDs of rows that are not the same in both; versions, and rows that a server has anyway, don't count."""

    def content(rows: dict[str, list[Operation]]) -> dict[str, Operation]:
        return {
            row["_uuid"][1]: {name: value for name, value in row.items() if name != "_version"}
            for table, found in rows.items()
            for row in found
            if table not in OWN
        }

    first, second = content(one), content(other)
    return [uuid for uuid in first.keys() | second.keys() if first.get(uuid) != second.get(uuid)]


class Replay:
    """Makes the operations that write rows read elsewhere, in an order that references allow."""

    def __init__(self, schema: dict[str, Any], rows: dict[str, list[Operation]]) -> None:
        self._schema = schema
        self._rows = {row["_uuid"][1]: (table, row) for table, found in rows.items() for row in found}
        self.parents: dict[str, tuple[str, str, str]] = {}
        self.later: list[Operation] = []
        for uuid, (table, row) in self._rows.items():
            for column in row:
                for child in self._children(table, column, row):
                    self.parents[child] = (table, uuid, column)

    def _reference(self, table: str, column: str) -> tuple[str, bool]:
        """The table a column refers to, and whether strongly."""
        kind = self._schema[table]["columns"].get(column, {}).get("type", {})
        key = kind.get("key", {}) if isinstance(kind, dict) else {}
        if isinstance(key, dict) and "refTable" in key:
            return key["refTable"], key.get("refType", "strong") == "strong"
        return "", False

    def _children(self, table: str, column: str, row: Operation) -> list[str]:
        target, strong = self._reference(table, column)
        if not strong or not target or self._schema[target].get("isRoot"):
            return []
        return [uuid for uuid in _uuids(row[column]) if uuid in self._rows]

    def groups(self) -> Iterator[list[Operation]]:
        """What must be in one transaction, parents before children."""
        waiting = [uuid for uuid in self._rows if uuid not in self.parents]
        # a Meter needs its bands and so does the row that refers to a root row: referred first
        waiting.sort(key=lambda uuid: self._rows[uuid][0] not in ("Copp", "Meter", "DHCP_Options"))
        while waiting:
            following: list[str] = []
            for uuid in waiting:
                table = self._rows[uuid][0]
                if table in OWN:
                    continue
                group: list[Operation] = []
                self._insert(uuid, group, following)
                if uuid in self.parents:
                    above, parent, column = self.parents[uuid]
                    change = [column, "insert", ["uuid", uuid]]
                    where = [["_uuid", "==", ["uuid", parent]]]
                    group.append({"op": "mutate", "table": above, "where": where, "mutations": [change]})
                yield group
            waiting = following

    def _insert(self, uuid: str, group: list[Operation], following: list[str]) -> None:
        table, row = self._rows[uuid]
        columns, weak = {}, {}
        for column, value in row.items():
            if column.startswith("_") or value in _UNSET:
                continue
            children = self._children(table, column, row)
            if children and self._schema[table]["columns"][column]["type"].get("min", 1) == 0:
                following += children
            elif children:
                for child in children:
                    self._insert(child, group, following)
                columns[column] = value
            elif self._reference(table, column)[0] and not self._reference(table, column)[1]:
                weak[column] = value
            else:
                columns[column] = value
        group.append({"op": "insert", "table": table, "uuid": uuid, "row": columns})
        if weak:
            where = [["_uuid", "==", ["uuid", uuid]]]
            self.later.append({"op": "update", "table": table, "where": where, "row": weak})

    def batches(self) -> list[list[Operation]]:
        """Everything in batches of about 1,000 operations; weak references come last."""
        found: list[list[Operation]] = [[]]
        for group in self.groups():
            if len(found[-1]) + len(group) > BATCH:
                found.append([])
            found[-1] += group
        found += [self.later[start : start + BATCH] for start in range(0, len(self.later), BATCH)]
        return [_joined(batch) for batch in found if batch]


def _joined(batch: list[Operation]) -> list[Operation]:
    """The batch with all elements put into one column of one row by a single mutation, as a good client does."""
    found: list[Operation] = []
    by_parent: dict[tuple[str, str, str], list[Any]] = {}
    for operation in batch:
        if operation["op"] != "mutate":
            found.append(operation)
            continue
        column, _, reference = operation["mutations"][0]
        place = operation["table"], operation["where"][0][2][1], column
        by_parent.setdefault(place, []).append(reference)
    for (table, uuid, column), references in by_parent.items():
        where = [["_uuid", "==", ["uuid", uuid]]]
        change = [column, "insert", ["set", references]]
        found.append({"op": "mutate", "table": table, "where": where, "mutations": [change]})
    return found


def _uuids(value: Any) -> list[str]:
    if value and value[0] == "uuid":
        return [value[1]]
    return [item[1] for item in value[1]] if value and value[0] == "set" else []


class Monitor:
    """A monitor of columns by table, in a thread. `named(row)` gives the name under which a change is noted.

    `first[name]` and `seen[name]` are the times of the first and the last change of such rows, `last` that of the
    last change of any row.
    """

    def __init__(
        self,
        path: Path,
        tables: dict[str, list[str]],
        named: Callable[[dict[str, Any]], str | None],
        database: str = DATABASE,
    ) -> None:
        self.first: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        self.last = 0.0
        self.changes = 0
        self._named = named
        self._database = Database(path, database)
        select = {table: [{"columns": columns, "select": {"initial": False}}] for table, columns in tables.items()}
        self._database.call("monitor", [database, "bench", select])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                messages = self._database.receive()
                now = time.monotonic()
                for message in messages:
                    if message.get("method") == "update":
                        for rows in message["params"][1].values():
                            self._note(rows, now)
        except (OSError, ValueError):
            return

    def _note(self, rows: dict[str, Any], now: float) -> None:
        for row in rows.values():
            self.changes += 1
            self.last = now
            name = self._named(row["new"]) if "new" in row else None
            if name is not None:
                self.first.setdefault(name, now)
                self.seen[name] = now

    def close(self) -> None:
        """End it."""
        self._database.socket.shutdown(socket.SHUT_RDWR)
