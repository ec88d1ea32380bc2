"""References to rows that are deleted."""

from __future__ import annotations

from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.model import ledger
from ovnkit.sinks.ovsdb.model.replica import Record
from ovnkit.sinks.ovsdb.plan.batch import Batch
from ovnkit.sinks.ovsdb.wire.schema import Shape
from ovnkit.sinks.ovsdb.wire.values import DEFAULTS


def drop_reference(batch: Batch, row: Record, name: str, target: str, owner: Owner) -> None:
    """Take all references to a row out of a column of another one, and their entry out of its ledger."""
    columns = batch.schema.tables[row.table].columns
    column = columns[name]
    operation = batch.modify(row.table, row.uuid, owner)
    if column.shape is Shape.SET:
        operation.remove_element(column, target)
        entry = ledger.member_key(name, target)
        if entry in row.values.get("external_ids", {}):
            operation.remove_pair(columns["external_ids"], entry)
    elif column.shape is Shape.MAP:
        for key, value in row.values[name].items():
            if value == target:
                operation.remove_pair(column, key)
    elif operation.values.get(name, target) == target:
        operation.values[name] = None if column.min == 0 else DEFAULTS[column.key.type]
