"""What the sink knows and shares with the planner: wanted and actual rows, marks, who waits for what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

from ovnkit.api.identity import OWNER_KEY, row_uuid
from ovnkit.api.items import Lookup
from ovnkit.api.live import LiveContent, LiveSet
from ovnkit.engine.sink import Owner, Report
from ovnkit.sinks.ovsdb import batch as batches
from ovnkit.sinks.ovsdb.batch import Touched
from ovnkit.sinks.ovsdb.desired import Desired, Target
from ovnkit.sinks.ovsdb.ledger import MEMBER_PREFIX, ROW_PREFIX, entries
from ovnkit.sinks.ovsdb.live import LiveViews
from ovnkit.sinks.ovsdb.lookups import Lookups
from ovnkit.sinks.ovsdb.naming import NAMING, SIGNS, Naming
from ovnkit.sinks.ovsdb.replica import Change, Record, Replica, index_key
from ovnkit.sinks.ovsdb.strangers import Strangers

Gate = Callable[[Owner], bool]
Waiting = tuple[str, str | None]
"""Who waits: (UUID, None) is a row that can't be written yet, (UUID, column) an element that isn't there yet."""


class State:
    """Desired rows, the replica, and what lies between: all of it in the reconciler's thread."""

    def __init__(self, db: str, replica: Replica, live: Callable[[LiveSet], LiveContent], report: Report) -> None:
        self.replica = replica
        self._db = db
        self.settled = False
        self.kept: frozenset[str] = frozenset()
        """Plugins, and owner paths, of which nobody knows what they want (they failed): their rows stay."""
        self._spared: set[str] = set()
        """Rows from which something would have been taken, had everything been rendered by then."""
        self.touched: dict[str, Touched] = {}
        self.dropped: set[str] = set()
        """Rows that were wanted in this process and are no more: ours, even if someone took the mark off."""
        self.coming: set[str] = set()
        """Rows that a transaction under way inserts, while the next one is planned on top of it."""
        self.marks: dict[str, str] = {}
        """Rows in the database that carry our mark, with the owner path."""
        self.ledgered: set[str] = set()
        """Rows in the database with members in their ledger."""
        self.strangers = Strangers()
        self.waits: dict[Target, dict[Waiting, None]] = {}
        self.missing: dict[Target, float] = {}
        """Since when somebody has been waiting for a row (seconds since the epoch)."""
        self.lone: dict[Target, None] = {}
        """Wanted rows that only a reference would keep alive, and nothing has referred to yet."""
        self.name_waits: dict[str, dict[str, None]] = {}
        """By the row that has the name: the rows that want it too."""
        self.lookups = Lookups(replica, self._moved)
        self.naming = Naming(replica, self.touch)
        self.desired = Desired(db, LiveViews(live, self.touch), self._touch_target)
        self.gate: Gate = lambda _: True
        self.need: Callable[[str, Iterable[str]], bool] = lambda *_: False
        self.is_echo: Callable[[Record], bool] = lambda _: False
        """Whether a new row is exactly what the transaction in flight inserts."""
        self._report = report
        self._reported: dict[Owner, set[str]] = {}

    # --- what may differ --------------------------------------------------------------------------------------

    def touch(self, uuid: str, column: str | None = None, elements: Iterable[Any] | None = None) -> None:
        """Elements of a column (None: all), or the whole row, may differ from what is wanted."""
        batches.touch(self.touched, uuid, column, elements)

    def _touch_target(self, target: Target, column: str | None, element: Any) -> None:
        if isinstance(target, Lookup):
            uuid = self.lookups.find(target)
            if uuid is not None:
                self.touch(uuid, column, (element,))
            else:
                self.missing.setdefault(target, time.time())
            return
        if column is not None and target not in self.replica.rows:
            self.missing.setdefault(target, time.time())
        if column is None and target not in self.desired.rows:
            if target in self.replica.rows:
                self.dropped.add(target)
        elif column is None:
            self.dropped.discard(target)
        self.touch(target, column, (element,))

    def resolve(self, target: Target) -> str | None:
        """The UUID of a target, if it is known."""
        return self.lookups.find(target) if isinstance(target, Lookup) else target

    def names(self, uuid: str) -> list[Target]:
        """Everything by which members may mean a row."""
        return [uuid, *self.lookups.names(uuid)]

    def wait(self, target: Target, waiting: Waiting) -> None:
        """Touch `waiting` again when the target appears."""
        self.waits.setdefault(target, {})[waiting] = None
        self.missing.setdefault(target, time.time())

    def wake(self, target: Target) -> None:
        """The target is there (or will be, by the transaction in the making)."""
        uuid = self.resolve(target)
        self.missing.pop(target, None)
        self.lone.pop(target, None)
        for waiter, column in self.waits.pop(target, ()):
            self.touch(waiter, column, None if column is None or uuid is None else (uuid,))

    def _moved(self, lookup: Lookup, old: str | None, new: str | None) -> None:
        for uuid in (old, new):
            if uuid is not None:
                self.touch(uuid)
        if new is not None:
            self.wake(lookup)
        elif lookup in self.desired.members:
            self.missing.setdefault(lookup, time.time())

    # --- what is there ----------------------------------------------------------------------------------------

    def keep(self, paths: frozenset[str]) -> None:
        """From now on rows of these plugins and owner paths stay; the others of those that stayed may differ."""
        held = [uuid for uuid in self.marks if self.is_kept(uuid)] if self.kept - paths else []
        self.kept = paths
        for uuid in held:
            self.touch(uuid)

    def is_kept(self, uuid: str) -> bool:
        """Whether a row belongs to a plugin or an owner of which nobody knows what it wants."""
        if not self.kept or uuid not in self.marks:
            return False
        beginnings = accumulate(self.marks[uuid].split("/"), lambda path, part: f"{path}/{part}")
        return any(path in self.kept for path in beginnings)

    def is_ours(self, uuid: str) -> bool:
        """Whether a row in the database is ovnkit's."""
        return uuid in self.marks or uuid in self.dropped or uuid in self.desired.rows

    def reload(self) -> None:
        """The replica was loaded anew: everything may differ."""
        self.marks.clear()
        self.ledgered.clear()
        self.strangers.clear()
        self.waits.clear()
        self.lone.clear()
        self.name_waits.clear()
        self.touched.clear()
        for record in self.replica.rows.values():
            self._read_marks(record)
        self.lookups.refresh()
        self.naming.reload()
        self.touch_all()

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
            ours = (*self.marks, *self.dropped, *self.desired.unwanted)
            for uuid in (*self._spared, *(uuid for uuid in ours if uuid not in wanted)):
                self.touch(uuid)
            self._spared.clear()

    def touch_all(self) -> None:
        """Everything that is wanted or ours may differ."""
        for uuid in self.desired.rows:
            self.touch(uuid)
        for target in list(self.desired.members):
            uuid_or_none = self.resolve(target)
            if uuid_or_none is not None:
                self.touch(uuid_or_none)
        for uuid in (*self.marks, *self.ledgered, *self.dropped, *self.desired.unwanted):
            self.touch(uuid)

    def follow(self, changes: Iterable[Change]) -> None:
        """Take note of what happened to rows, by us or by others."""
        for change in changes:
            record, uuid = change.record, change.record.uuid
            if change.gone or change.columns is None or not NAMING.isdisjoint(change.columns):
                self.naming.follow(record, gone=change.gone)
            if change.gone:
                self._forget(record)
            elif change.columns is None:
                self._read_marks(record)
                if self.is_echo(record):
                    want = self.desired.rows.get(uuid)
                    if want is not None and want.content is not None:
                        record.share(want.content)
                elif self.is_ours(uuid) or uuid in self.ledgered or uuid in self.desired.members:
                    self.touch(uuid)
                self.wake(uuid)
                self._touch_namesakes(record)
            else:
                self._modified(change)
                if change.before:
                    self._touch_namesakes(record)
            self.lookups.follow(change)
            if uuid in self.name_waits and (change.gone or change.before):
                for waiter in self.name_waits.pop(uuid):
                    self.touch(waiter)

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
        self.marks.pop(uuid, None)
        self.ledgered.discard(uuid)
        self.dropped.discard(uuid)
        self.strangers.leave(uuid)
        if uuid in self.desired.members:
            self.missing.setdefault(uuid, time.time())
        if uuid in self.desired.rows:
            self.touch(uuid)
        else:
            self.touched.pop(uuid, None)
        singleton = self._singleton()
        if singleton is not None and ROW_PREFIX + uuid in singleton.values["external_ids"]:
            self.touch(singleton.uuid, "external_ids", (ROW_PREFIX + uuid,))

    def _modified(self, change: Change) -> None:
        assert change.columns is not None
        uuid = change.record.uuid
        if "name" in change.columns and change.record.table in SIGNS:
            self.wake(uuid)
        if "external_ids" in change.columns:
            self._read_marks(change.record, change.columns["external_ids"])
        elif not self.is_ours(uuid):
            self.strangers.enter(change.record)
        ours = self.is_ours(uuid) or uuid in self.ledgered
        if ours or uuid in self.desired.members or self.lookups.names(uuid):
            for name, elements in change.columns.items():
                self.touch(uuid, name, elements)

    def _read_marks(self, record: Record, keys: Iterable[str] | None = None) -> None:
        """Find our marks on a row; `keys` are those of its external_ids that changed, None for all."""
        ids = record.values.get("external_ids")
        uuid = record.uuid
        if ids is None:
            singleton = self._singleton()
            entry = singleton.values["external_ids"].get(ROW_PREFIX + uuid) if singleton is not None else None
            if entry is not None:
                self.marks[uuid] = entry.partition(" ")[2]
            return
        path = ids.get(OWNER_KEY)
        if path is not None and not self._is_copy(uuid, path):
            self.marks[uuid] = path
        else:
            self.marks.pop(uuid, None)
        if self.is_ours(uuid):
            self.strangers.leave(uuid)
        else:
            self.strangers.enter(record)
        if any(key.startswith(MEMBER_PREFIX) for key in ids):
            self.ledgered.add(uuid)
            known = self.replica.columns.get(record.table, frozenset())
            names = {column for column, _, _ in entries(ids)} - known
            if names and self.replica.schema is not None:
                self.need(record.table, [n for n in names if self.replica.schema.has(record.table, n)])
        else:
            self.ledgered.discard(uuid)
        schema = self.replica.schema
        if schema is not None and record.table == schema.singleton:
            for key in ids if keys is None else keys:
                if key.startswith(ROW_PREFIX):
                    self._read_row_entry(record, key)

    def _read_row_entry(self, singleton: Record, key: str) -> None:
        """A row in a table without external_ids has been entered in the ledger, or taken off it."""
        uuid = key[len(ROW_PREFIX) :]
        record = self.replica.rows.get(uuid)
        table, _, path = singleton.values["external_ids"].get(key, "").partition(" ")
        if table not in self.replica.tables and self.replica.schema and table in self.replica.schema.tables:
            self.need(table, ())
        if record is None:
            self.touch(singleton.uuid, "external_ids", (key,))
        elif "external_ids" not in record.values:
            if key in singleton.values["external_ids"]:
                self.marks[uuid] = path
                self.touch(uuid)
            else:
                self.marks.pop(uuid, None)

    def _is_copy(self, uuid: str, path: str) -> bool:
        """Whether a mark in the southbound is only northd's copy of a northbound row's `external_ids`."""
        return self._db == "sb" and uuid != row_uuid(path)

    def _singleton(self) -> Record | None:
        schema = self.replica.schema
        rows = self.replica.table(schema.singleton) if schema is not None else {}
        return next(iter(rows.values()), None)

    # --- reports ----------------------------------------------------------------------------------------------

    def report(self, owner: Owner, error: Exception) -> None:
        """Tell the owner, once for each text until it wants something else."""
        known = self._reported.setdefault(owner, set())
        if str(error) not in known:
            known.add(str(error))
            self._report(owner, error)

    def forget_reports(self, owner: Owner) -> bool:
        """The owner wants something else; returns whether anything had been reported."""
        return self._reported.pop(owner, None) is not None

    def tell_over(self, owner: Owner) -> None:
        """All that had been reported of an owner is over, unless something has been reported since."""
        if owner not in self._reported:
            self._report(owner, None)

    @property
    def failing(self) -> dict[str, list[str]]:
        """Owners with something that could not be applied, and why."""
        return {str(owner): sorted(texts) for owner, texts in self._reported.items()}
