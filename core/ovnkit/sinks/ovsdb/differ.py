"""The difference between a row as wanted and as it is, column by column, element by element."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from ovnkit.api.identity import OWNER_KEY
from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb import ledger
from ovnkit.sinks.ovsdb.batch import Batch, RowOperation, Touched
from ovnkit.sinks.ovsdb.desired import Want
from ovnkit.sinks.ovsdb.errors import BadValue, MissingSchema
from ovnkit.sinks.ovsdb.naming import NAMING, SIGNS
from ovnkit.sinks.ovsdb.replica import Record
from ovnkit.sinks.ovsdb.schema import Column, Shape
from ovnkit.sinks.ovsdb.state import State
from ovnkit.sinks.ovsdb.values import default
from ovnkit.sinks.ovsdb.view import View, leftover

KEPT_KEYS: Mapping[str, tuple[str, ...]] = {"ovs": ("ovn-", "ct-zone-")}
"""Keys in `external_ids` of the vswitch database that ovn-controller writes into rows of others."""


class Host(Protocol):
    """What the differ asks of the planner: whether a reference can be written now."""

    def reachable(self, column: Column, target: str, waiting: tuple[str, str]) -> bool:
        """Whether the row a new element refers to is there, or could be put into the batch."""

    def nameable(self, target: str, waiting: tuple[str, str]) -> bool:
        """Whether a row may be named now; else `waiting` is touched when it may."""

    def may_rename(self, record: Record, owner: Owner) -> bool:
        """Whether nothing names a row whose name is to change."""

    def keep_home(self, target: str) -> None:
        """A strong reference to a row goes: if the row is wanted elsewhere, that goes into the same batch."""

    def replace(self, record: Record, owner: Owner) -> None:
        """A column that can't change must change: the row is deleted, to be written anew."""

    def rename(self, want: Want, record: Record) -> bool:
        """A column that must be unique changes; whether it may now."""


class Differ:
    """Compares rows and notes differences in a batch."""

    def __init__(self, db: str, state: State, batch: Batch, host: Host) -> None:
        self._state = state
        self._desired = state.desired
        self._batch = batch
        self._host = host
        self._schema = batch.schema
        self._kept = KEPT_KEYS.get(db, ())

    def compare(self, record: Record, want: Want | None, touched: Touched) -> None:
        """Note all differences of a row that exists."""
        content = self.content(want) if want is not None else {}
        frozen: Collection[str] = ()
        if content is None:
            assert want is not None
            content, frozen = {}, {*want.row.columns, "external_ids"}
        elif want is not None and self._may_rename(record, touched) and not self._host.rename(want, record):
            return
        if touched is None and want is not None and self._same(record, want, content):
            record.share(content)
            return
        columns = touched if touched is not None else dict.fromkeys(self._columns(record, want, content))
        for name, elements in columns.items():
            view = View(self, record, want, content, name)
            if view.column is None or name not in record.values or name in frozen:
                continue
            if view.column.shape is Shape.SET:
                self._set(view, elements)
            elif view.column.shape is Shape.MAP:
                self._map(view, elements)
            else:
                self._scalar(view)

    def _same(self, record: Record, want: Want, content: Mapping[str, Any]) -> bool:
        """Whether a row without members is as it should be: the quick answer to most comparisons."""
        members = self._desired.members
        if not content or want.live or record.uuid in self._state.ledgered:
            return False
        if any(target in members for target in self._state.names(record.uuid)):
            return False
        values = record.values
        for name, value in content.items():
            if values.get(name, self) != value and not (
                name == "external_ids"
                and not want.owns_ids
                and values.get(name, {}).get(OWNER_KEY) == value[OWNER_KEY]
            ):
                return False
        columns = self._schema.tables[record.table].columns
        return not any(
            values[name] and name not in content and columns[name].reference is not None for name in values
        )

    def _may_rename(self, record: Record, touched: Touched) -> bool:
        keys = self._schema.tables[record.table].keys
        return bool(keys) and (touched is None or any(name in touched for key in keys for name in key))

    def content(self, want: Want) -> dict[str, Any] | None:
        """What a wanted row holds, or None (and a report) when it can't be written to this database."""
        try:
            return self._desired.content(want)
        except (BadValue, MissingSchema) as error:
            self._state.report(want.owner, error)
            return None

    def _columns(self, record: Record, want: Want | None, content: Mapping[str, Any]) -> Iterable[str]:
        """Every column that anybody has a say in."""
        found = dict.fromkeys(content)
        for target in self._state.names(record.uuid):
            found.update(dict.fromkeys(self._desired.members.get(target, ())))
        ids = record.values.get("external_ids")
        if ids:
            if record.uuid in self._state.ledgered:
                found.update(dict.fromkeys(column for column, _, _ in ledger.entries(ids)))
            if any(key.startswith(ledger.ROW_PREFIX) for key in ids):
                found["external_ids"] = None
        if want is not None:
            columns = self._schema.tables[record.table].columns
            found.update(dict.fromkeys(name for name in record.values if columns[name].reference is not None))
        return found

    # --- sets -------------------------------------------------------------------------------------------------

    def _set(self, view: View, elements: set[Any] | None) -> None:
        actual = view.record.values[view.name]
        if elements is None:
            wanted = view.all_wanted()
            elements = wanted ^ actual if wanted != actual else set()
            if view.record.uuid in self._state.ledgered:
                elements |= view.ledger_elements()
        extra = []
        for element in elements:
            owner = view.wants(element)
            if owner is None:
                extra.append(element)
            elif element not in actual:
                self._add(view, element, owner)
        for element in extra:
            self._remove(view, element, present=element in actual)

    def _add(self, view: View, element: Any, owner: Owner) -> None:
        assert view.column is not None
        if not self._state.gate(owner) or not view.fits(element, owner):
            return
        if view.column.reference is not None:
            waiting = (view.record.uuid, view.name)
            if not self._host.reachable(view.column, element, waiting):
                return
        if self._batch.deletes(view.record.uuid):
            return
        view.operation(owner).add_element(view.column, element)
        if view.keeps_ledger(element):
            self._enter(view, element, "", owner)

    def _remove(self, view: View, element: Any, *, present: bool) -> None:
        owner = view.may_remove(element)
        if owner is None or not self._state.may_take_from(view.record.uuid) or not self._state.gate(owner):
            return
        assert view.column is not None
        if self._batch.deletes(view.record.uuid) or self._state.is_kept(element):
            return
        if present:
            if view.column.min and len(view.record.values[view.name]) <= view.column.min:
                operation = self._batch.rows.get(view.record.uuid)
                if operation is None or not operation.add.get(view.name):
                    return
            reference = view.column.reference
            if reference is not None and reference.strong:
                self._host.keep_home(element)
            view.operation(owner).remove_element(view.column, element)
        self._strike(view, element, owner)

    # --- maps -------------------------------------------------------------------------------------------------

    def _map(self, view: View, keys: set[Any] | None) -> None:
        actual = view.record.values[view.name]
        if keys is None:
            keys = view.all_wanted() | actual.keys()
            if view.record.uuid in self._state.ledgered:
                keys |= view.ledger_elements()
        for key in keys:
            owner = view.wants(key)
            if owner is None:
                if view.name == "external_ids" and ledger.is_ours(key):
                    self._own_key(view, key)
                else:
                    self._remove_key(view, key)
                continue
            value = view.value_of(key)
            if value is None or actual.get(key) == value or not self._state.gate(owner):
                continue
            if view.column is not None and view.column.reference is not None:
                waiting = (view.record.uuid, view.name)
                if not self._host.reachable(view.column, value, waiting):
                    continue
            self._put(view, key, value, owner)

    def _put(self, view: View, key: Any, value: Any, owner: Owner) -> None:
        assert view.column is not None
        if self._batch.deletes(view.record.uuid):
            return
        actual = view.record.values[view.name]
        view.operation(owner).put_pair(view.column, key, value, replace=key in actual)
        if view.keeps_ledger(key):
            self._enter(view, key, ledger.write_former(actual.get(key), None), owner)

    def _remove_key(self, view: View, key: Any) -> None:
        owner = view.may_remove(key)
        if owner is None or not self._state.may_take_from(view.record.uuid) or not self._state.gate(owner):
            return
        assert view.column is not None
        if self._batch.deletes(view.record.uuid):
            return
        actual = view.record.values[view.name]
        former = ledger.read_former(view.ledger_entry(key) or "", None)
        if former is not None:
            if actual.get(key) != former:
                view.operation(owner).put_pair(view.column, key, former, replace=key in actual)
        elif key in actual:
            view.operation(owner).remove_pair(view.column, key)
        self._strike(view, key, owner)

    def _own_key(self, view: View, key: str) -> None:
        """A key of the ledger, or an owner mark on a row that isn't wanted (that is the planner's)."""
        assert view.column is not None
        actual = view.record.values[view.name]
        owner = leftover(view.record.uuid)
        if key == OWNER_KEY or not self._state.gate(owner):
            return
        if key.startswith(ledger.ROW_PREFIX):
            gone = key[len(ledger.ROW_PREFIX) :] not in self._state.replica.rows
            if key in actual and gone and self._state.may_take_from(view.record.uuid):
                view.operation(owner).remove_pair(view.column, key)
            return
        column, _, text = key[len(ledger.MEMBER_PREFIX) :].partition("/")
        other = View(self, view.record, view.want, view.content, column)
        if other.column is None or column not in view.record.values:
            return
        element = other.parse(text)
        if key in actual:
            if other.wants(element) is None or other.named_whole:
                self._state.touch(view.record.uuid, column, (element,))
                if other.named_whole and self._state.may_take_from(view.record.uuid):
                    view.operation(owner).remove_pair(view.column, key)
        elif other.wants(element) is not None and other.keeps_ledger(element) and other.holds(element):
            view.operation(owner).put_pair(view.column, key, "", replace=False)

    # --- scalars ----------------------------------------------------------------------------------------------

    def _scalar(self, view: View) -> None:
        assert view.column is not None
        actual = view.record.values[view.name]
        if self._batch.deletes(view.record.uuid):
            return
        owner = view.scalar_owner()
        if owner is None:
            self._restore(view)
            return
        value = view.scalar_value(owner)
        if view.groups:
            view.tell_losers(owner, value)
        if value == actual or (value is None and view.column.min) or not self._state.gate(owner):
            return
        if view.column.reference is not None and value is not None:
            waiting = (view.record.uuid, view.name)
            if not self._host.reachable(view.column, value, waiting):
                return
        if view.name in NAMING and view.want is not None:
            waiting = (view.record.uuid, view.name)
            if not all(self._host.nameable(target, waiting) for target in view.want.named):
                return
        if view.name == "name" and view.record.table in SIGNS and not self._host.may_rename(view.record, owner):
            return
        if not view.column.mutable:
            self._host.replace(view.record, owner)
            return
        reference = view.column.reference
        if reference is not None and reference.strong and actual is not None:
            self._host.keep_home(actual)
        view.operation(owner).values[view.name] = value
        if view.name not in view.content and view.keeps_ledger(ledger.SCALAR):
            former = ledger.write_former(actual, default(view.column))
            self._enter(view, ledger.SCALAR, former, owner)

    def _restore(self, view: View) -> None:
        """Nobody wants a value in a scalar any more: what was there before comes back."""
        text = view.ledger_entry(ledger.SCALAR)
        owner = leftover(view.record.uuid)
        assert view.column is not None
        if text is None or not self._state.may_take_from(view.record.uuid) or not self._state.gate(owner):
            return
        former = ledger.read_former(text, default(view.column))
        if former != view.record.values[view.name]:
            view.operation(owner).values[view.name] = former
        self._strike(view, ledger.SCALAR, owner)

    # --- the ledger -------------------------------------------------------------------------------------------

    def _enter(self, view: View, element: Any, former: str, owner: Owner) -> None:
        key = ledger.member_key(view.name, element)
        if key not in view.record.values["external_ids"]:
            ids = self._schema.tables[view.record.table].columns["external_ids"]
            view.operation(owner).put_pair(ids, key, former, replace=False)

    def _strike(self, view: View, element: Any, owner: Owner) -> None:
        if view.ledger_entry(element) is not None:
            ids = self._schema.tables[view.record.table].columns["external_ids"]
            view.operation(owner).remove_pair(ids, ledger.member_key(view.name, element))

    # --- access for the view ----------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The shared state."""
        return self._state

    def kept(self, name: str, key: Any) -> bool:
        """Whether a key of a map is somebody else's by convention."""
        return name == "external_ids" and bool(self._kept) and str(key).startswith(self._kept)

    def operation(self, record: Record, owner: Owner) -> RowOperation:
        """The operation on a row."""
        return self._batch.modify(record.table, record.uuid, owner)
