"""What the sink knows and shares with the planner: wanted and actual rows, and what lies between.

It brings together what is wanted (`desired`), what is there (`replica`), which of that is ours (`marks`), who
waits (`waiters`) and what was reported (`reports`), and notes in `touched` all that may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ovnkit.api.items import Lookup
from ovnkit.api.live import LiveContent, LiveSet
from ovnkit.engine.sink import Owner, Report
from ovnkit.sinks.ovsdb.model.desired import Desired, RowTarget
from ovnkit.sinks.ovsdb.model.foreign_rows import ForeignRows
from ovnkit.sinks.ovsdb.model.live_views import LiveViews
from ovnkit.sinks.ovsdb.model.lookups import Lookups
from ovnkit.sinks.ovsdb.model.names import NAMING, SIGNS
from ovnkit.sinks.ovsdb.model.replica import Record, Replica, RowChange, index_key
from ovnkit.sinks.ovsdb.plan import batch as batches
from ovnkit.sinks.ovsdb.plan.batch import Touched
from ovnkit.sinks.ovsdb.plan.leftovers import is_leftover
from ovnkit.sinks.ovsdb.plan.marks import Marks, Need
from ovnkit.sinks.ovsdb.plan.naming import Naming
from ovnkit.sinks.ovsdb.plan.reports import Reports
from ovnkit.sinks.ovsdb.plan.waiters import Waiter, Waiters

Gate = Callable[[Owner], bool]


class SinkState:
    """Desired rows, the replica, and what lies between: all of it in the reconciler's thread.

    `gate` says whether an owner's changes may be written now, `need` asks the session for columns, and `is_echo`
    says whether a new row is exactly what a transaction in flight inserts.
    """

    def __init__(
        self,
        db: str,
        replica: Replica,
        live: Callable[[LiveSet], LiveContent],
        report: Report,
        *,
        gate: Gate,
        need: Need,
        is_echo: Callable[[Record], bool],
    ) -> None:
        self.db = db
        self.replica = replica
        self.gate = gate
        self.settled = False
        self.touched: dict[str, Touched] = {}
        self.dropped: set[str] = set()
        """Rows that were wanted in this process and are no more: ours, even if someone took the mark off."""
        self.coming: set[str] = set()
        """Rows that a transaction under way inserts, while the next one is planned on top of it."""
        self.reports = Reports(report)
        self.waiters = Waiters()
        self.marks = Marks(db, replica, need, self.touch)
        self.foreign = ForeignRows()
        self.lookups = Lookups(replica, self._moved)
        self.naming = Naming(replica, self.touch)
        self.desired = Desired(db, LiveViews(live, self.touch), self._touch_target)
        self._is_echo = is_echo
        self._spared: set[str] = set()
        """Rows from which something would have been taken, had everything been rendered by then."""

    # --- what may differ --------------------------------------------------------------------------------------

    def touch(self, uuid: str, column: str | None = None, elements: Iterable[Any] | None = None) -> None:
        """Elements of a column (None: all), or the whole row, may differ from what is wanted."""
        batches.touch(self.touched, uuid, column, elements)

    def _touch_target(self, target: RowTarget, column: str | None, element: Any) -> None:
        if isinstance(target, Lookup):
            uuid = self.lookups.find(target)
            if uuid is not None:
                self.touch(uuid, column, (element,))
            else:
                self.waiters.miss(target)
            return
        if column is not None and target not in self.replica.rows:
            self.waiters.miss(target)
        if column is None and target not in self.desired.rows:
            if target in self.replica.rows:
                self.dropped.add(target)
        elif column is None:
            self.dropped.discard(target)
        self.touch(target, column, (element,))

    def touch_all(self) -> None:
        """Everything that is wanted or ours may differ."""
        for uuid in self.desired.rows:
            self.touch(uuid)
        for target in list(self.desired.members):
            uuid_or_none = self.resolve(target)
            if uuid_or_none is not None:
                self.touch(uuid_or_none)
        for uuid in (*self.marks.paths, *self.marks.ledgered, *self.dropped, *self.desired.unwanted):
            self.touch(uuid)

    def touch_owner(self, owner: Owner) -> None:
        """Everything an owner has a part in may differ."""
        if is_leftover(owner):
            if owner.key in self.replica.rows:
                self.touch(owner.key)
            return
        items = self.desired.owners.get(owner)
        if items is None:
            return
        for want in items.rows:
            self.touch(want.uuid)
        for target, _, column, element, _ in items.members:
            uuid = self.resolve(target)
            if uuid is not None:
                self.touch(uuid, column, (element,))

    def rest_of(self, owners: Iterable[Owner]) -> Iterator[str]:
        """The rows of some owners that may differ still."""
        for owner in list(owners) if self.touched else ():
            items = self.desired.owners.get(owner)
            for want in items.rows if items is not None else ():
                if want.uuid in self.touched:
                    yield want.uuid

    # --- names and waiting ------------------------------------------------------------------------------------

    def resolve(self, target: RowTarget) -> str | None:
        """The UUID of a target, if it is known."""
        return self.lookups.find(target) if isinstance(target, Lookup) else target

    def names(self, uuid: str) -> list[RowTarget]:
        """Everything by which members may mean a row."""
        return [uuid, *self.lookups.names(uuid)]

    def wait(self, target: RowTarget, waiter: Waiter) -> None:
        """Touch `waiter` again when the target appears."""
        self.waiters.wait(target, waiter)

    def wake(self, target: RowTarget) -> None:
        """The target is there (or will be, by the transaction in the making)."""
        uuid = self.resolve(target)
        for waiter, column in self.waiters.take(target):
            self.touch(waiter, column, None if column is None or uuid is None else (uuid,))

    def _moved(self, lookup: Lookup, old: str | None, new: str | None) -> None:
        for uuid in (old, new):
            if uuid is not None:
                self.touch(uuid)
        if new is not None:
            self.wake(lookup)
        elif lookup in self.desired.members:
            self.waiters.miss(lookup)

    # --- what is ours, and what may go ------------------------------------------------------------------------

    def is_ours(self, uuid: str) -> bool:
        """Whether a row in the database is ovnkit's."""
        return uuid in self.marks.paths or uuid in self.dropped or uuid in self.desired.rows

    def may_take_from(self, uuid: str) -> bool:
        """Whether elements and values may be removed from a row now; else it is compared again at `settle`."""
        if not self.settled:
            self._spared.add(uuid)
        return self.settled

    def settle(self) -> None:
        """Everything has been rendered once: what nobody wants may go."""
        if not self.settled:
            self.settled = True
            wanted = self.desired.rows
            ours = (*self.marks.paths, *self.dropped, *self.desired.unwanted)
            for uuid in (*self._spared, *(uuid for uuid in ours if uuid not in wanted)):
                self.touch(uuid)
            self._spared.clear()

    # --- what happens in the database -------------------------------------------------------------------------

    def reload(self) -> None:
        """The replica was loaded anew: everything may differ."""
        self.marks.clear()
        self.foreign.clear()
        self.waiters.clear()
        self.touched.clear()
        for record in self.replica.rows.values():
            self._read_marks(record)
        self.lookups.refresh()
        self.naming.reload()
        self.touch_all()

    def follow(self, changes: Iterable[RowChange]) -> None:
        """Take note of what happened to rows, by us or by others."""
        for change in changes:
            record, uuid = change.record, change.record.uuid
            if change.gone or change.columns is None or not NAMING.isdisjoint(change.columns):
                self.naming.follow(record, gone=change.gone)
            if change.gone:
                self._forget(record)
            elif change.columns is None:
                self._appeared(record)
            else:
                self._modified(change)
                if change.before:
                    self._touch_namesakes(record)
            self.lookups.follow(change)
            if change.gone or change.before:
                for waiter in self.waiters.take_for_name(uuid):
                    self.touch(waiter)

    def _appeared(self, record: Record) -> None:
        uuid = record.uuid
        self._read_marks(record)
        if self._is_echo(record):
            want = self.desired.rows.get(uuid)
            if want is not None and want.content is not None:
                record.share(want.content)
        elif self.is_ours(uuid) or uuid in self.marks.ledgered or uuid in self.desired.members:
            self.touch(uuid)
        self.wake(uuid)
        self._touch_namesakes(record)

    def _touch_namesakes(self, record: Record) -> None:
        """Somebody made a row with the name of one of ours, where the schema lets them: ours takes it over."""
        schema, uuid = self.replica.schema, record.uuid
        if schema is None or self.is_ours(uuid):
            return
        table = schema.tables[record.table]
        for columns in table.keys[len(table.indexes) :]:
            for other in self.replica.find(record.table, columns, index_key(record.values, columns)):
                if other in self.desired.rows:
                    self.touch(other)

    def _forget(self, record: Record) -> None:
        uuid = record.uuid
        self.dropped.discard(uuid)
        self.foreign.leave(uuid)
        if uuid in self.desired.members:
            self.waiters.miss(uuid)
        if uuid in self.desired.rows:
            self.touch(uuid)
        else:
            self.touched.pop(uuid, None)
        self.marks.forget(uuid)

    def _modified(self, change: RowChange) -> None:
        assert change.columns is not None
        uuid = change.record.uuid
        if "name" in change.columns and change.record.table in SIGNS:
            self.wake(uuid)
        if "external_ids" in change.columns:
            self._read_marks(change.record, change.columns["external_ids"])
        elif not self.is_ours(uuid):
            self.foreign.enter(change.record)
        ours = self.is_ours(uuid) or uuid in self.marks.ledgered
        if ours or uuid in self.desired.members or self.lookups.names(uuid):
            for name, elements in change.columns.items():
                self.touch(uuid, name, elements)

    def _read_marks(self, record: Record, keys: Iterable[str] | None = None) -> None:
        self.marks.read(record, keys)
        if "external_ids" in record.values:
            if self.is_ours(record.uuid):
                self.foreign.leave(record.uuid)
            else:
                self.foreign.enter(record)
