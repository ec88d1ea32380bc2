"""Rows that have a value which must be unique, and which a wanted row is to have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ovnkit.sinks.ovsdb.model.desired import WantedRow
from ovnkit.sinks.ovsdb.model.foreign_rows import IDENTITIES
from ovnkit.sinks.ovsdb.model.live_views import LiveView
from ovnkit.sinks.ovsdb.model.replica import IndexKey, Record, index_key
from ovnkit.sinks.ovsdb.plan.batch import Batch
from ovnkit.sinks.ovsdb.plan.state import SinkState
from ovnkit.sinks.ovsdb.wire.schema import Schema
from ovnkit.sinks.ovsdb.wire.values import default


class Occupants:
    """Finds them, but for rows that go with the batch in the making.

    `moved` are rows of others that a row of the batch takes over, with their new places (row, column).
    """

    def __init__(
        self, state: SinkState, schema: Schema, batch: Batch, moved: Mapping[str, list[tuple[str, str]]]
    ) -> None:
        self._state = state
        self._schema = schema
        self._batch = batch
        self._moved = moved

    def find(
        self, want: WantedRow, content: Mapping[str, Any], actual: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[tuple[str, ...], Record]]:
        """The columns of a unique value, and the other row that has it.

        `actual` is what the wanted row holds now. Without it the row isn't there, and rows of others in the same
        parent count, too, that do the same (`foreign.IDENTITIES`).
        """
        rows = self._state.replica.rows
        for index in self._schema.tables[want.table].keys:
            key = self.key(want, content, index, actual)
            if key is None or key == ("",):
                continue
            found = self._state.replica.find(want.table, index, key)
            if not found or (len(found) == 1 and want.uuid in found):
                continue
            for uuid in list(found):
                if uuid != want.uuid and not self._batch.deletes(uuid):
                    yield index, rows[uuid]
        for uuid in self._state.foreign.find(want.table, content) if actual is None else ():
            if not self._batch.deletes(uuid) and self._is_sibling(want, uuid):
                yield IDENTITIES[want.table], rows[uuid]

    def key(
        self, want: WantedRow, content: Mapping[str, Any], index: tuple[str, ...], actual: Mapping[str, Any] | None
    ) -> IndexKey | None:
        """A unique value that a wanted row gets; None when it isn't known."""
        values: dict[str, Any] = {}
        for name in index:
            if name in content:
                values[name] = content[name]
            elif actual is not None and name in actual:
                values[name] = actual[name]
            else:
                values[name] = default(self._schema.tables[want.table].columns[name])
            if isinstance(values[name], LiveView):
                return None
        return index_key(values, index)

    def _is_sibling(self, want: WantedRow, uuid: str) -> bool:
        """Whether a row is, or is about to be, in the column that a wanted row is for."""
        if want.parent is None:
            return False
        place = (self._state.resolve(want.parent[0]), want.parent[1])
        return place in self._state.replica.referrers(uuid) or place in self._moved.get(uuid, ())
