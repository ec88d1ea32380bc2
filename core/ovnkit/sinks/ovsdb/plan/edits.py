"""What the differ finds: operations on one row, each with what it needs before it may be written."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from attrs import define

from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.plan.batch import RowOperation
from ovnkit.sinks.ovsdb.wire.schema import Column


class EditKind(Enum):
    """What an edit does with a column."""

    ADD = "add an element to a set"
    REMOVE = "remove an element of a set"
    PUT = "set a key of a map"
    DROP = "remove a key of a map"
    ASSIGN = "assign a scalar"
    NOTHING = "only the ledger changes"


@define(eq=False)
class Edit:
    """One operation on a row, on behalf of an owner, and its needs.

    `key` is the element or the key of a map, `value` that of a map or a scalar; `replace` says that the map has
    the key with another value.
    """

    owner: Owner
    column: Column
    change: EditKind
    key: Any = None
    value: Any = None
    replace: bool = False
    target: str | None = None
    """The row that a new reference is to: it must exist."""
    named: Sequence[str] = ()
    """Rows that a new text names: they must exist under that name."""
    released: str | None = None
    """The row from which a strong reference goes, which may be its last one."""
    renames: bool = False
    """The row gets another name: nothing may name it by the present one."""
    entered: tuple[str, str] | None = None
    """Key and value of a new entry in the row's ledger."""
    struck: str | None = None
    """Key of an entry that leaves the ledger."""

    def write(self, operation: RowOperation, ids: Column | None) -> None:
        """Put it into the operation on its row; `ids` is the column of the row's ledger."""
        if self.change is EditKind.ADD:
            operation.add_element(self.column, self.key)
        elif self.change is EditKind.REMOVE:
            operation.remove_element(self.column, self.key)
        elif self.change is EditKind.PUT:
            operation.put_pair(self.column, self.key, self.value, replace=self.replace)
        elif self.change is EditKind.DROP:
            operation.remove_pair(self.column, self.key)
        elif self.change is EditKind.ASSIGN:
            operation.values[self.column.name] = self.value
        if ids is not None and self.entered is not None:
            operation.put_pair(ids, *self.entered, replace=False)
        if ids is not None and self.struck is not None:
            operation.remove_pair(ids, self.struck)
