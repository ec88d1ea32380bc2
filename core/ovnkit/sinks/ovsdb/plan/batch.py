"""A transaction in the making: at most one insert, change or deletion for each row."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import define, field

from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.model.replica import Record
from ovnkit.sinks.ovsdb.wire.schema import Column, Schema, Shape
from ovnkit.sinks.ovsdb.wire.values import encode, encode_map, encode_set

Touched = dict[str, set[Any] | None] | None
"""What may differ in a row: None is everything; by column, None is the whole column, else these elements."""


class Verb(Enum):
    """What happens to a row."""

    INSERT = "insert"
    MODIFY = "modify"
    DELETE = "delete"


@define(eq=False)
class RowOperation:
    """What a transaction does with one row. `values` are whole columns; sets and maps change by element."""

    table: str
    uuid: str
    verb: Verb
    values: dict[str, Any] = field(factory=dict)
    add: dict[str, Any] = field(factory=dict)
    """Set column: elements; map column: pairs."""
    remove: dict[str, set[Any]] = field(factory=dict)
    """Set column: elements; map column: keys."""
    owners: dict[Owner, None] = field(factory=dict)

    def add_element(self, column: Column, element: Any) -> None:
        """Add an element to a set."""
        if self.verb is Verb.INSERT:
            self.values.setdefault(column.name, set()).add(element)
            return
        removed = self.remove.get(column.name)
        if removed is not None and element in removed:
            removed.discard(element)
        else:
            self.add.setdefault(column.name, set()).add(element)

    def remove_element(self, column: Column, element: Any) -> None:
        """Remove an element of a set."""
        if self.verb is Verb.INSERT:
            self.values.get(column.name, set()).discard(element)
            return
        added = self.add.get(column.name)
        if added is not None and element in added:
            added.discard(element)
        else:
            self.remove.setdefault(column.name, set()).add(element)

    def put_pair(self, column: Column, key: Any, value: Any, *, replace: bool) -> None:
        """Set a key of a map; `replace` when the row has the key with another value."""
        if self.verb is Verb.INSERT:
            self.values.setdefault(column.name, {})[key] = value
            return
        self.add.setdefault(column.name, {})[key] = value
        if replace:
            self.remove.setdefault(column.name, set()).add(key)

    def remove_pair(self, column: Column, key: Any) -> None:
        """Remove a key of a map."""
        if self.verb is Verb.INSERT:
            self.values.get(column.name, {}).pop(key, None)
            return
        self.add.get(column.name, {}).pop(key, None)
        self.remove.setdefault(column.name, set()).add(key)

    def encode(self, schema: Schema) -> list[dict[str, Any]]:
        """The operations of RFC 7047: one, or an update and a mutate."""
        columns = schema.tables[self.table].columns
        if self.verb is Verb.INSERT:
            row = {name: encode(columns[name], value) for name, value in self.values.items()}
            return [{"op": "insert", "table": self.table, "uuid": self.uuid, "row": row}]
        where = [["_uuid", "==", ["uuid", self.uuid]]]
        if self.verb is Verb.DELETE:
            return [{"op": "delete", "table": self.table, "where": where}]
        operations: list[dict[str, Any]] = []
        if self.values:
            row = {name: encode(columns[name], value) for name, value in self.values.items()}
            operations.append({"op": "update", "table": self.table, "where": where, "row": row})
        mutations = [
            [name, "delete", encode_set(columns[name], elements)]
            for name, elements in self.remove.items()
            if elements
        ]
        for name, content in self.add.items():
            if content:
                column = columns[name]
                is_map = column.shape is Shape.MAP
                mutations.append(
                    [name, "insert", encode_map(column, content) if is_map else encode_set(column, content)]
                )
        # A mutation that empties a set which needs an element is refused, so there the new ones come first.
        mutations.sort(key=lambda mutation: columns[mutation[0]].min > 0 and mutation[1] == "delete")
        if mutations:
            operations.append({"op": "mutate", "table": self.table, "where": where, "mutations": mutations})
        return operations


class Batch:
    """The rows of one transaction, and what was taken from the sink's lists to make it."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows: dict[str, RowOperation] = {}
        self.owners: dict[Owner, None] = {}
        self.taken: dict[str, Touched] = {}
        self.positions: list[RowOperation] = []
        self.doubtful = False
        """Whether it was sent on top of one that failed, so that its own failure proves nothing."""

    def modify(self, table: str, uuid: str, owner: Owner) -> RowOperation:
        """The operation on a row that exists (or is inserted here), made when needed."""
        operation = self.rows.get(uuid)
        if operation is None:
            operation = self.rows[uuid] = RowOperation(table, uuid, Verb.MODIFY)
        operation.owners[owner] = None
        self.owners[owner] = None
        return operation

    def insert(self, table: str, uuid: str, owner: Owner) -> RowOperation:
        """A new row."""
        operation = self.rows[uuid] = RowOperation(table, uuid, Verb.INSERT)
        operation.owners[owner] = None
        self.owners[owner] = None
        return operation

    def delete(self, table: str, uuid: str, owner: Owner) -> None:
        """A row that goes; what else was planned for it is moot."""
        operation = self.rows[uuid] = RowOperation(table, uuid, Verb.DELETE)
        operation.owners[owner] = None
        self.owners[owner] = None

    def deletes(self, uuid: str) -> bool:
        """Whether the row goes in this transaction."""
        operation = self.rows.get(uuid)
        return operation is not None and operation.verb is Verb.DELETE

    def encode(self) -> list[dict[str, Any]]:
        """All operations; `positions` says afterwards which row each is for. Empty when nothing is to be done."""
        operations: list[dict[str, Any]] = []
        self.positions = []
        for row in self.rows.values():
            encoded = row.encode(self.schema)
            operations += encoded
            self.positions += [row] * len(encoded)
        return operations

    def culprit(self, position: int | None) -> Owner | None:
        """The owner of the operation at a position that the server names, when only one has a part in it."""
        if position is None or position >= len(self.positions):
            return None
        owners = tuple(self.positions[position].owners)
        return owners[0] if len(owners) == 1 else None

    def is_echo(self, record: Record) -> bool:
        """Whether a new row is exactly what this transaction inserts."""
        operation = self.rows.get(record.uuid)
        if operation is None or operation.verb is not Verb.INSERT:
            return False
        return all(record.values.get(name) == value for name, value in operation.values.items())

    def __len__(self) -> int:
        return len(self.rows)


def merge(into: dict[str, Touched], uuid: str, touched: Touched) -> None:
    """Add to what may differ."""
    if touched is None or (uuid in into and into[uuid] is None):
        into[uuid] = None
        return
    known = into.get(uuid)
    if known is None:
        into[uuid] = {name: None if part is None else set(part) for name, part in touched.items()}
        return
    for name, part in touched.items():
        present: Mapping[Any, Any] | set[Any] | None = known.get(name, set())
        known[name] = None if part is None or present is None else set(present) | part


def touch(into: dict[str, Touched], uuid: str, column: str | None, elements: Any) -> None:
    """Note that elements of a column (None: the column; column None: the row) may differ."""
    known = into.setdefault(uuid, {})
    if known is None:
        return
    if column is None:
        into[uuid] = None
    elif elements is None:
        known[column] = None
    else:
        present = known.setdefault(column, set())
        if present is not None:
            present.update(elements)
