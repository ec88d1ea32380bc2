"""What of a row of OVN-Kubernetes goes on in the row of ours that takes its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ovnkit.api.identity import is_of_ovn_kubernetes
from ovnkit.sinks.ovsdb.model.desired import WantedRow
from ovnkit.sinks.ovsdb.model.foreign_rows import IDENTITIES, identity
from ovnkit.sinks.ovsdb.model.replica import Record, index_key
from ovnkit.sinks.ovsdb.plan.state import SinkState
from ovnkit.sinks.ovsdb.wire.schema import Column, Schema, Shape


def kept_elements(
    state: SinkState, schema: Schema, want: WantedRow, former: Record
) -> Iterator[tuple[Column, str]]:
    """What others put into a switch, router or group that is taken over (a port, a route), with its column.

    Not what OVN-Kubernetes put there itself, nor what is like a wanted row, nor what is in columns that are ours.
    """
    described = schema.tables[want.table]
    for name, elements in former.values.items() if described.root else ():
        column = described.columns[name]
        if column.reference is None or column.shape is not Shape.SET or name in want.row.columns:
            continue
        taken = set(_wanted_names(state, schema, want, name))
        for uuid in elements:
            record = state.replica.rows.get(uuid)
            if (
                record is None
                or state.is_ours(uuid)
                or is_of_ovn_kubernetes(record.values.get("external_ids", {}))
            ):
                continue
            table = schema.tables[record.table]
            stands_alone = table.root or table.keys or record.table in IDENTITIES
            if stands_alone and taken.isdisjoint(_names(schema, record.table, record.values)):
                yield column, uuid


def _wanted_names(state: SinkState, schema: Schema, want: WantedRow, column: str) -> Iterator[Any]:
    for element in state.desired.members.get(want.uuid, {}).get(column, ()):
        child = state.desired.rows.get(element)
        if child is not None and child.table in schema.tables:
            yield from _names(schema, child.table, child.row.columns)


def _names(schema: Schema, table: str, values: Mapping[str, Any]) -> Iterator[Any]:
    """Everything that tells a row apart: unique columns, or what does within its parent."""
    for index in schema.tables[table].keys:
        if all(name in values for name in index):
            yield index, index_key(values, index)
    own = identity(table, values)
    if own is not None:
        yield own
