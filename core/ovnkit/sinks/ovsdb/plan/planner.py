"""Plans one transaction: what differs, in an order and in company that the server can accept.

`plan(uuid)` is called for each row that may differ. A row that isn't there is inserted, if all that it needs is
there or can be inserted with it (`_blocker`); else it waits. A row that is there is compared (`Differ.compare`),
and each edit is written if its needs are met (`_write_all`): a reference may pull its row into the batch, and
when a strong one goes, the row is first put where it is wanted now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.model.desired import RowTarget, WantedRow
from ovnkit.sinks.ovsdb.model.live_views import LiveView
from ovnkit.sinks.ovsdb.model.names import SIGNS
from ovnkit.sinks.ovsdb.model.replica import Record, index_key
from ovnkit.sinks.ovsdb.plan.batch import Batch, Touched, Verb
from ovnkit.sinks.ovsdb.plan.differ import Differ, is_inserted_whole
from ovnkit.sinks.ovsdb.plan.edits import Edit, EditKind
from ovnkit.sinks.ovsdb.plan.leftovers import leftover
from ovnkit.sinks.ovsdb.plan.occupants import Occupants
from ovnkit.sinks.ovsdb.plan.references import drop_reference
from ovnkit.sinks.ovsdb.plan.state import SinkState
from ovnkit.sinks.ovsdb.plan.takeover import kept_elements
from ovnkit.sinks.ovsdb.wire.errors import BadValue, MissingSchema, NameTaken
from ovnkit.sinks.ovsdb.wire.schema import Column, Schema, Shape
from ovnkit.sinks.ovsdb.wire.values import default

log = structlog.get_logger()


class Planner:
    """Fills one batch. Rows that must come together (a row and its parent, a name's old and new holder) do."""

    def __init__(self, state: SinkState, schema: Schema, *, ahead: bool = False) -> None:
        self.batch = Batch(schema)
        self._moved: dict[str, list[tuple[str, str]]] = {}
        """Rows of others that a new row of this batch takes over from one that goes: (new row, column)."""
        self._state = state
        self._schema = schema
        self._rows = state.desired.rows
        self._differ = Differ(state, schema)
        self._occupants = Occupants(state, schema, self.batch, self._moved)
        self._comparing: set[str] = set()
        self._ahead = ahead

    def plan(self, uuid: str, touched: Touched) -> None:
        """Put what differs in a row into the batch, if it can go now; else it waits for what it needs."""
        if self.batch.deletes(uuid):
            return
        want = self._rows.get(uuid)
        record = self._state.replica.rows.get(uuid)
        operation = self.batch.rows.get(uuid)
        if operation is not None and operation.verb is Verb.INSERT:
            self._complete(uuid, touched)
        elif record is None:
            if want is not None and self._is_pulled(want):
                self._state.waiters.unreferred[uuid] = None
            elif want is not None:
                self._try_insert(want)
        elif want is not None and want.table != record.table:
            self.delete(record, want.owner)
        elif uuid not in self._comparing:
            self._comparing.add(uuid)
            self._compare(record, want, touched)
            self._comparing.discard(uuid)

    def _compare(self, record: Record, want: WantedRow | None, touched: Touched) -> None:
        content: Mapping[str, Any] | None = {}
        if want is not None:
            content = self._content(want)
            if content is not None and not self._make_room(want, content, record, touched):
                return
        self._write_all(record, self._differ.compare(record, want, content, touched))

    def _content(self, want: WantedRow) -> dict[str, Any] | None:
        """What a wanted row holds, or None (and a report) when it can't be written to this database."""
        try:
            return self._state.desired.content(want)
        except (BadValue, MissingSchema) as error:
            self._state.reports.tell(want.owner, error)
            return None

    # --- edits ------------------------------------------------------------------------------------------------

    def _write_all(self, record: Record, edits: Iterable[Edit]) -> None:
        for edit in edits:
            if self.batch.deletes(record.uuid):
                return
            if self._is_writable(record, edit):
                self._write(record, edit)

    def _is_writable(self, record: Record, edit: Edit) -> bool:
        """Whether all that an edit needs is there after this batch; else the row is touched when it is."""
        waiter = (record.uuid, edit.column.name)
        if edit.target is not None and not self._reachable(edit.column, edit.target, waiter):
            return False
        if not all(self._nameable(target, waiter) for target in edit.named):
            return False
        if edit.renames and not self._is_free_to_rename(record, edit.owner):
            return False
        if edit.change is EditKind.ASSIGN and not edit.column.mutable:
            self._replace(record, edit.owner)
            return False
        if edit.change is EditKind.REMOVE and len(record.values[edit.column.name]) <= edit.column.min:
            # the last one that the column needs stays until another one comes
            operation = self.batch.rows.get(record.uuid)
            return operation is not None and bool(operation.add.get(edit.column.name))
        return not self.batch.deletes(record.uuid)

    def _write(self, record: Record, edit: Edit) -> None:
        if edit.released is not None:
            self._keep_home(edit.released)
        ids = self._schema.tables[record.table].columns.get("external_ids")
        edit.write(self.batch.modify(record.table, record.uuid, edit.owner), ids)

    def delete(self, record: Record, owner: Owner) -> bool:
        """Delete a row and the strong references to it; False when a reference can't go yet."""
        if self.batch.deletes(record.uuid):
            return True
        replica = self._state.replica
        referrers = [(replica.rows[uuid], name) for uuid, name in replica.referrers(record.uuid)]
        referrers = [(row, name) for row, name in referrers if not self.batch.deletes(row.uuid)]
        for row, name in referrers:
            column = self._schema.tables[row.table].columns[name]
            if column.min and not self._can_spare(row, column, record.uuid):
                if row.uuid in self._rows or not self._state.is_ours(row.uuid):
                    return False
                if row.table in SIGNS and self._is_held(row, record.uuid):
                    return False
                if not self.delete(row, leftover(row.uuid)):
                    return False
        self.batch.delete(record.table, record.uuid, owner)
        for row, name in referrers:
            if not self.batch.deletes(row.uuid):
                drop_reference(self.batch, row, name, record.uuid, owner)
        return True

    # --- rows that aren't there yet ---------------------------------------------------------------------------

    def exists(self, uuid: str) -> bool:
        """Whether a row is there after this batch."""
        operation = self.batch.rows.get(uuid)
        if operation is not None:
            return operation.verb is not Verb.DELETE
        return uuid in self._state.replica.rows or uuid in self._state.coming

    def _nameable(self, target: str, waiter: tuple[str, str]) -> bool:
        """Whether a row may be named now; it is put into this batch if it can be."""
        if not self.exists(target) and self._blocker(target, {target, waiter[0]}) is None:
            self._insert(self._rows[target])
        if self._is_named(target):
            return True
        self._state.wait(target, waiter)
        return False

    def _is_named(self, target: str) -> bool:
        """Whether a row is there after this batch, by its own name, and stays when another batch is refused."""
        if not self.exists(target) or (self._ahead and target in self._state.coming):
            return False
        record, want = self._state.replica.rows.get(target), self._rows.get(target)
        if record is None or want is None or record.table != want.table:
            return True
        name = want.row.columns.get("name")
        if record.values.get("name") == name:
            return True
        self.plan(target, {"name": None})
        operation = self.batch.rows.get(target)
        return operation is not None and operation.values.get("name") == name

    def _is_held(self, record: Record, waiter: str = "") -> bool:
        """Whether something still names a row after this batch."""
        naming = self._state.naming
        return naming.holds(record, self.batch, naming.names_written(self.batch), waiter)

    def _is_free_to_rename(self, record: Record, owner: Owner) -> bool:
        """Whether nothing names a row whose name is to change; else its owner is told."""
        if not self._is_held(record):
            return True
        self._state.reports.tell(
            owner, NameTaken(f"{record.table} {record.values['name']!r} is named by other rows")
        )
        return False

    def _is_pulled(self, want: WantedRow) -> bool:
        """Whether only a reference keeps the row alive, so that it goes with the row that refers to it."""
        table = self._schema.tables.get(want.table)
        return want.parent is None and table is not None and not table.root

    def _try_insert(self, want: WantedRow) -> None:
        blocker = self._blocker(want.uuid, {want.uuid})
        if blocker is None:
            self._insert(want)
        elif blocker != want.uuid:
            self._state.wait(blocker, (want.uuid, None))

    def _blocker(self, uuid: str, visiting: set[str]) -> RowTarget | None:
        """What keeps a row from being inserted: the row or look-up it must wait for; None when nothing does."""
        want = self._rows.get(uuid)
        if want is None or self.exists(uuid) or not self._state.gate(want.owner):
            return uuid
        content = self._content(want)
        if content is None or not self._name_is_free(want, content):
            return uuid
        for target in want.named:
            if self.exists(target) and not self._is_named(target):
                if target in self._state.coming:
                    self._state.touch(uuid)
                    return uuid
                return target
        needed = [target for targets in want.refs.values() for target in targets]
        if want.parent is not None:
            home = self._state.resolve(want.parent[0])
            if home is None:
                return want.parent[0]
            if home in self._state.coming and want.parent[1] in self._rows[home].row.columns:
                self._state.touch(uuid)
                return uuid
            needed.append(home)
        for target in needed:
            if target in visiting or self.exists(target):
                continue
            visiting.add(target)
            blocker = self._blocker(target, visiting)
            if blocker is not None:
                return blocker
        return None

    def _insert(self, want: WantedRow) -> None:
        content = self._state.desired.content(want)
        evicted = [record for _, record in self._occupants.find(want, content) if record.uuid not in self._rows]
        for occupant in evicted:
            self._evict(want, occupant)
        operation = self.batch.insert(want.table, want.uuid, want.owner)
        for name, value in content.items():
            if isinstance(value, LiveView):
                if not is_inserted_whole(self._schema, want, name, value):
                    continue
                value = set(value.elements)
            elif isinstance(value, (dict, frozenset, set)):
                value = dict(value) if isinstance(value, dict) else set(value)
            if value is not None:
                operation.values[name] = value
        self._keep_elements(want, evicted)
        for targets in want.refs.values():
            for target in targets:
                self._pull(target)
        if want.parent is not None:
            home = self._state.resolve(want.parent[0])
            if home is not None:
                self._pull(home)
        self._complete(want.uuid, None)
        if want.parent is not None and home is not None:
            self._adopt(home, want.parent[1], want.uuid, want.owner)
        self._state.wake(want.uuid)

    def _adopt(self, home: str, name: str, uuid: str, owner: Owner) -> None:
        """Put the reference to a new row into its parent."""
        parent = self._rows.get(home)
        column = self._schema.column(parent.table, name) if parent is not None else None
        if parent is None or column is None or column.shape is not Shape.SET or name in parent.row.columns:
            self.plan(home, {name: {uuid}})
        elif not self.batch.deletes(home):
            record = self._state.replica.rows.get(home)
            if record is None or uuid not in record.values[name]:
                self.batch.modify(parent.table, home, owner).add_element(column, uuid)

    def _pull(self, target: str) -> None:
        if not self.exists(target) and target in self._rows:
            self._insert(self._rows[target])

    def _complete(self, uuid: str, touched: Touched) -> None:
        """Put members and live elements into a row that this batch inserts."""
        want = self._rows[uuid]
        content = self._state.desired.content(want)
        record = Record(want.table, uuid, self._blank(want.table))
        part = self._differ.beyond_content(record, want, content, touched)
        if part:
            self._write_all(record, self._differ.compare(record, want, content, part))

    def _blank(self, table: str) -> dict[str, Any]:
        return {name: default(column) for name, column in self._schema.tables[table].columns.items()}

    # --- what edits need --------------------------------------------------------------------------------------

    def _reachable(self, column: Column, target: str, waiter: tuple[str, str]) -> bool:
        """Whether a new reference can be written now; else `waiter` is touched when the row appears."""
        if self.exists(target):
            return True
        want = self._rows.get(target)
        reference = column.reference
        assert reference is not None
        if want is not None and not self.batch.deletes(target) and reference.strong:
            here = want.parent is not None and want.parent[1] == column.name
            together = self._is_pulled(want) or (here and column.min > 0)
            if together and self._blocker(target, {target, waiter[0]}) is None:
                self._insert(want)
                return self.exists(target)
        self._state.wait(target, waiter)
        return False

    def _keep_home(self, target: str) -> None:
        """A reference that may be the last goes: put the one that keeps a wanted row alive into this batch."""
        want = self._rows.get(target)
        if want is None or want.parent is None or not self.exists(target):
            return
        home = self._state.resolve(want.parent[0])
        if home is None:
            return
        if not self.exists(home):
            self._pull_if_free(home)
        if self.exists(home):
            self.plan(home, {want.parent[1]: {target}})

    def _pull_if_free(self, uuid: str) -> None:
        if uuid in self._rows and self._blocker(uuid, {uuid}) is None:
            self._pull(uuid)

    def _replace(self, record: Record, owner: Owner) -> None:
        """Delete a row whose unchangeable column is wrong. It is written anew once the deletion has come back:
        a transaction can't insert a UUID that it deletes."""
        log.warning("row replaced: a column that can't change differs", table=record.table, uuid=record.uuid)
        self.delete(record, owner)

    # --- unique names -----------------------------------------------------------------------------------------

    def _make_room(self, want: WantedRow, content: Mapping[str, Any], record: Record, touched: Touched) -> bool:
        """Make room for the unique values a row is about to get; whether there is room."""
        keys = self._schema.tables[record.table].keys
        if not keys or (touched is not None and touched.keys().isdisjoint(name for key in keys for name in key)):
            return True
        occupants = [occupant for _, occupant in self._occupants.find(want, content, record.values)]
        if not occupants:
            return True
        # nobody is moved for an owner whose own change may not go now
        if not self._state.gate(want.owner) or not self._name_is_free(want, content):
            return False
        evicted = [occupant for occupant in occupants if occupant.uuid not in self._rows]
        for occupant in evicted:
            self._evict(want, occupant)
        self._keep_elements(want, evicted)
        return True

    def _name_is_free(self, want: WantedRow, content: Mapping[str, Any]) -> bool:
        """Whether no other wanted row has, and keeps, a unique value of this one."""
        record = self._state.replica.rows.get(want.uuid)
        actual = record.values if record is not None else None
        for index, occupant in self._occupants.find(want, content, actual):
            other = self._rows.get(occupant.uuid)
            if self._ahead:
                self._state.touch(want.uuid)
                return False
            if other is None:
                continue
            wanted = self._content(other)
            gets = None if wanted is None else self._occupants.key(other, wanted, index, occupant.values)
            if gets is not None and gets != index_key(occupant.values, index):
                self.plan(occupant.uuid, None)
                operation = self.batch.rows.get(occupant.uuid)
                if operation is not None and any(name in operation.values for name in index):
                    continue
            name = ", ".join(f"{column} {occupant.values[column]!r}" for column in index)
            self._state.waiters.wait_for_name(occupant.uuid, want.uuid)
            self._state.reports.tell(want.owner, NameTaken(f"{want.table} {name} is {other.path}'s"))
            return False
        return True

    def _evict(self, want: WantedRow, occupant: Record) -> None:
        log.warning("row replaced: it has a name that is ours", table=occupant.table, uuid=occupant.uuid,
                    owner=want.path, former=self._state.marks.paths.get(occupant.uuid, ""))  # fmt: skip
        self.delete(occupant, want.owner)
        for home, name in self._moved.pop(occupant.uuid, ()):
            operation = self.batch.rows[home]
            operation.remove_element(self._schema.tables[operation.table].columns[name], occupant.uuid)

    def _keep_elements(self, want: WantedRow, evicted: Iterable[Record]) -> None:
        """What others have in rows that go, goes on in the wanted row."""
        for occupant in evicted:
            for column, element in kept_elements(self._state, self._schema, want, occupant):
                if not self.batch.deletes(element):
                    self.batch.modify(want.table, want.uuid, want.owner).add_element(column, element)
                    self._moved.setdefault(element, []).append((want.uuid, column.name))

    # --- references to rows that go ---------------------------------------------------------------------------

    def _can_spare(self, row: Record, column: Column, target: str) -> bool:
        """Whether a column that needs a value keeps, or gets, another one."""
        self.plan(row.uuid, {column.name: None})
        operation = self.batch.rows.get(row.uuid)
        if column.shape is Shape.SCALAR:
            return operation is not None and operation.values.get(column.name, target) != target
        actual = row.values[column.name]
        left = sum(1 for element in actual if element != target and not self.batch.deletes(element))
        return left > 0 or (operation is not None and bool(operation.add.get(column.name)))
