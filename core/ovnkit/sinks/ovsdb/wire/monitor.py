"""From monitor requests and notifications to changes in Python values, for every generation of the protocol.

`monitor_cond_since` (OVS 2.12) lets a reconnecting client continue from a transaction it names;
`monitor_cond` (2.6) sends differences; `monitor` (RFC 7047) sends old and new values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from attrs import define

from ovnkit.sinks.ovsdb.wire.errors import ProtocolError
from ovnkit.sinks.ovsdb.wire.schema import Schema, Shape
from ovnkit.sinks.ovsdb.wire.values import Decoder, decoder, default

METHODS = ("monitor_cond_since", "monitor_cond", "monitor")
NO_TRANSACTION = "00000000-0000-0000-0000-000000000000"


class Op(Enum):
    """What happened to a row."""

    INSERT = "insert"
    """`content` holds every monitored column."""
    MODIFY = "modify"
    """`content` holds the new values of scalars; of sets the elements that came or went, of maps the pairs."""
    REPLACE = "replace"
    """`content` holds the new values of the columns that changed."""
    DELETE = "delete"


@define
class Delta:
    """A change of one row."""

    table: str
    uuid: str
    op: Op
    content: dict[str, Any]


class Translator:
    """Decodes the rows of the monitored columns. One per connection."""

    def __init__(self, schema: Schema, columns: Mapping[str, Collection[str]]) -> None:
        self.schema = schema
        self.columns = {table: tuple(names) for table, names in columns.items()}
        self._texts: dict[str, str] = {}
        self._decoders: dict[str, dict[str, Decoder]] = {}
        self._fresh: dict[str, list[tuple[str, Any]]] = {}
        for table, names in self.columns.items():
            described = [schema.tables[table].columns[name] for name in names]
            self._decoders[table] = {column.name: decoder(column, self._one) for column in described}
            self._fresh[table] = [
                (column.name, None if column.shape is not Shape.SCALAR else default(column))
                for column in described
            ]
        self._containers = {
            table: {
                name: set if schema.tables[table].columns[name].shape is Shape.SET else dict
                for name in names
                if schema.tables[table].columns[name].shape is not Shape.SCALAR
            }
            for table, names in self.columns.items()
        }

    def requests(self) -> dict[str, Any]:
        """The `<monitor-cond-requests>` (also good for plain `monitor`)."""
        return {table: [{"columns": list(names)}] for table, names in self.columns.items()}

    def deltas(self, updates: Mapping[str, dict[str, Any]], method: str) -> list[Delta]:
        """Decode updates as `method` sends them; raises ProtocolError when they make no sense.

        `updates` is emptied on the way: a whole database doesn't have to be in memory twice.
        """
        found: list[Delta] = []
        try:
            for table, rows in updates.items():
                one = self._v1 if method == "monitor" else self._v2
                for uuid in list(rows):
                    found.append(one(table, self._one(uuid), rows.pop(uuid)))
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise ProtocolError(f"update not understood: {error!r}") from error
        finally:
            self._texts.clear()
        return found

    def _one(self, text: str) -> str:
        """Of equal texts in one message always the same object: UUIDs, keys and names come in many rows."""
        return self._texts.setdefault(text, text)

    def _v2(self, table: str, uuid: str, change: Mapping[str, Any]) -> Delta:
        for word, row in change.items():
            if word in ("insert", "initial"):
                return Delta(table, uuid, Op.INSERT, self._whole(table, row))
            if word == "modify":
                return Delta(table, uuid, Op.MODIFY, self._part(table, row))
            if word == "delete":
                return Delta(table, uuid, Op.DELETE, {})
        raise ValueError(f"row update with {list(change)}")

    def _v1(self, table: str, uuid: str, change: Mapping[str, Any]) -> Delta:
        if "new" not in change:
            return Delta(table, uuid, Op.DELETE, {})
        if "old" in change:
            return Delta(table, uuid, Op.REPLACE, self._part(table, change["new"]))
        return Delta(table, uuid, Op.INSERT, self._whole(table, change["new"]))

    def _part(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        decoders = self._decoders[table]
        return {name: decoders[name](raw) for name, raw in row.items() if name in decoders}

    def _whole(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        content: dict[str, Any] = dict(self._fresh[table])
        decoders = self._decoders[table]
        for name, raw in row.items():
            if name in decoders:
                content[name] = decoders[name](raw)
        for name, make in self._containers[table].items():
            if content[name] is None:
                content[name] = make()
        return content
