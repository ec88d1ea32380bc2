"""The sink for rows of an OVSDB database: one writer that batches, compares, and puts right.

`want` only notes what may differ. `flush` plans one transaction of that (`plan.planner`) and sends it. The changes
that the database tells, by us or by others, come in `on_update` and may make rows differ again; the reply starts
the next transaction. docs/row.md walks one row through it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

import structlog

from ovnkit.api.backoff import Backoff
from ovnkit.api.items import Absent, Member, Row, RowItem
from ovnkit.api.live import LiveContent, LiveSet
from ovnkit.engine.sink import Owner, Report, Sink
from ovnkit.sinks.ovsdb.model.needs import columns_of
from ovnkit.sinks.ovsdb.model.replica import RowChange
from ovnkit.sinks.ovsdb.plan.batch import Batch, Touched, Verb, merge
from ovnkit.sinks.ovsdb.plan.deletions import Deletions
from ovnkit.sinks.ovsdb.plan.leftovers import is_leftover
from ovnkit.sinks.ovsdb.plan.planner import Planner
from ovnkit.sinks.ovsdb.plan.state import SinkState
from ovnkit.sinks.ovsdb.plan.wait_status import Waits
from ovnkit.sinks.ovsdb.plan.write_gate import FIRST_DELAY, LAST_DELAY, Later, WriteGate
from ovnkit.sinks.ovsdb.session import Post, Session
from ovnkit.sinks.ovsdb.wire.errors import BadValue, Collected, Disconnected, TransactionError
from ovnkit.sinks.ovsdb.wire.schema import Schema

log = structlog.get_logger()
BATCH_ROWS = 1000
"""Rows per transaction, but for an owner with more: enough to make the round trip cheap, small enough that one
takes about 0.1 s."""


class OvsdbSink(Sink[RowItem]):
    """Keeps the rows and members of one database as they are wanted (see `ovnkit.engine.sink.Sink`).

    Until `settle()` nothing is deleted and no element removed, except what occupies a unique name of a wanted
    row. `later` runs a function in the reconciler's thread after a time; by default a timer posts it.
    """

    item_types: tuple[type, ...] = (Row, Member, Absent)

    def __init__(
        self,
        db: str,
        session: Session,
        *,
        post: Post,
        report: Report,
        live: Callable[[LiveSet], LiveContent],
        allow_mass_delete: bool = False,
        later: Later | None = None,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self.name = self.db = db
        self.session = session
        self.transactions = self.failed_transactions = self.rows_written = 0
        self.last_error = ""
        self._post = post
        self._batch_rows = batch_rows
        self._later = later or self._timer
        self._in_flight: deque[Batch] = deque()
        self._write_gate = WriteGate(self._later, self._blamed, self._retry)
        self._state = SinkState(
            db,
            session.replica,
            live,
            report,
            gate=self._write_gate.gate,
            need=session.need,
            is_echo=lambda record: any(batch.is_echo(record) for batch in self._in_flight),
        )
        self._deletions = Deletions(self._state, allow_mass_delete)
        self._mending: set[Owner] = set()
        """Owners of whom something had been reported that may be over."""
        self._kicked = False
        self._pause_until_retry = False
        self._backoff = Backoff(FIRST_DELAY, LAST_DELAY, jitter=0)
        self._log = log.bind(db=db)
        session.for_writing(everywhere=db != "sb")
        session.listeners.append(self)

    # --- the interface ----------------------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[RowItem]) -> None:
        """From now on `owner` wants exactly `items`; those for another database are left out."""
        known = self._state.desired.owners.get(owner)
        if known is not None and known.items == items:
            return
        for item in items:
            if item.db == self.name and not isinstance(item, Absent):
                for table, columns in columns_of(item):
                    self.session.need(table, columns)
        if self._write_gate.pardon(owner) | self._state.reports.forget(owner):
            self._state.touch_owner(owner)
        try:
            self._state.desired.want(owner, tuple(items))
        except BadValue as error:
            self._state.reports.tell(owner, error)
        for item in items:
            if isinstance(item, Absent) and item.db == self.name:
                self._state.touch(item.uuid)
        self._kick()

    def flush(self) -> None:
        """Start applying what differs, unless a transaction is in flight (then its reply goes on)."""
        self._apply()
        if self._mending and not (self._in_flight or self._state.touched or self._write_gate.trying):
            for owner in self._mending:
                self._state.reports.tell_over(owner)
            self._mending.clear()

    def _apply(self) -> None:
        schema = self.session.replica.schema
        if not self.ready or schema is None or self._pause_until_retry:
            return
        if self._in_flight:
            self._plan_ahead(schema)
            return
        while self._state.touched or self._deletions.rows or self._write_gate.trying:
            self._write_gate.begin()
            batch = self._plan(schema)
            operations = batch.encode()
            if operations:
                self._send(batch, operations)
                self._plan_ahead(schema)
                return
            # deletions that only had to step back for a trial are due now
            waiting = self._write_gate.skipped
            self._write_gate.empty()
            if not (waiting or self._write_gate.trying or self._state.touched):
                return

    def settle(self) -> None:
        """Everything has been rendered once: leftovers that carry our mark and nobody wants may go."""
        self._state.settle()
        self._kick()

    def keep(self, paths: Collection[str]) -> None:
        """Leftover rows of these plugins and owners stay for now: they failed, and nobody knows what they want."""
        self._state.marks.keep(frozenset(paths))
        self._kick()

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be applied, or in flight. What waits for a missing row doesn't count."""
        return not (
            self._in_flight
            or self._state.touched
            or self._deletions.pending
            or self._write_gate.trying
            or self._pause_until_retry
        )

    @property
    def ready(self) -> bool:
        """Whether the database is loaded and connected."""
        return self.session.loaded

    def status(self) -> dict[str, Any]:
        """SinkState for `/readyz`, metrics and `ovnkit status`."""
        return {
            "connected": self.session.connected,
            "endpoint": self.session.endpoint,
            "loaded": self.session.loaded,
            "settled": self._state.settled,
            "wanted": len(self._state.desired.rows),
            "owned": len(self._state.marks.paths),
            "pending": len(self._state.touched) + sum(map(len, self._in_flight)),
            **Waits(self._state).told(),
            "held_back": self._deletions.held,
            "missing": list(self.session.missing),
            "failing": {**self._state.reports.texts, **{k: [v] for k, v in self._write_gate.errors.items()}},
            "transactions": self.transactions,
            "failed_transactions": self.failed_transactions,
            "rows_written": self.rows_written,
            "last_error": self.last_error or self.session.last_error,
        }

    def owners_of_match(self, text: str) -> list[Owner]:
        """Who wants a match that is all of a text, or a part of it in parentheses, as northd writes it."""
        return self._state.desired.owners_of_match(text)

    def release_mass_delete(self) -> None:
        """Let the deletions that are held back now go."""
        self._deletions.allow_mass = True
        self._kick()

    # --- the session ------------------------------------------------------------------------------------------

    def on_connected(self, schema: Schema) -> None:
        """Derive from the schema what depends on it."""
        self._state.desired.use_schema(schema)

    def on_loaded(self, complete: bool, changes: list[RowChange]) -> None:
        """Compare with what is there."""
        self._write_gate.reset()
        self._pause_until_retry = False
        self.last_error = ""
        if complete:
            self._deletions.rows.clear()
            self._state.reload()
        else:
            self._state.follow(changes)
        self._kick()

    def on_update(self, changes: list[RowChange]) -> None:
        """Put right what others changed."""
        self._state.follow(changes)
        if not self._in_flight and self._state.touched:
            self._kick()

    def on_disconnected(self, error: Exception) -> None:
        """Wait for the session to come back; transactions in flight have been answered with an error."""
        self.last_error = str(error)
        self._write_gate.reset()

    # --- planning ---------------------------------------------------------------------------------------------

    def _plan(self, schema: Schema) -> Batch:
        state, planner = self._state, Planner(self._state, schema)
        kept: dict[str, Touched] = {}
        while state.touched and len(planner.batch) < self._batch_rows:
            # in portions: the first key of a dict from which many were taken is slow to find
            for uuid in list(islice(state.touched, self._batch_rows)):
                if len(planner.batch) >= self._batch_rows:
                    break
                if uuid in state.touched:
                    self._plan_row(planner, uuid, kept)
        # whatever the size: rows of one owner may mean something only together (the ACLs of an ordered list), and
        # nobody may see some of them as they were and some as they are to be
        for uuid in state.rest_of(planner.batch.owners):
            self._plan_row(planner, uuid, kept)
        if self._deletions.may_go() and not state.touched:
            self._deletions.plan(planner, self._batch_rows)
        for uuid, touched in kept.items():
            merge(state.touched, uuid, touched)
        return planner.batch

    def _plan_row(self, planner: Planner, uuid: str, kept: dict[str, Touched]) -> None:
        touched = self._state.touched.pop(uuid)
        self._write_gate.skipped = False
        if self._deletions.take(uuid):
            return
        planner.plan(uuid, touched)
        if self._write_gate.skipped:
            merge(kept, uuid, touched)
        else:
            merge(planner.batch.taken, uuid, touched)

    def _plan_ahead(self, schema: Schema) -> None:
        """While many rows are to be inserted, have a second transaction under way while the first is worked on.

        It holds nothing but new rows and their references, which the first can't contradict.
        """
        state = self._state
        if len(self._in_flight) != 1 or len(state.touched) < self._batch_rows or self._write_gate.trying:
            return
        first = self._in_flight[0]
        if any(row.verb is Verb.DELETE for row in first.rows.values()):
            return
        self._write_gate.begin()
        state.coming = {uuid for uuid, row in first.rows.items() if row.verb is Verb.INSERT}
        planner = Planner(state, schema, ahead=True)
        for uuid in list(islice(state.touched, 2 * self._batch_rows)):
            if len(planner.batch) >= self._batch_rows:
                break
            if uuid in state.desired.rows and uuid not in first.rows and uuid not in state.replica.rows:
                touched = state.touched.pop(uuid)
                planner.plan(uuid, touched)
                merge(planner.batch.taken, uuid, touched)
        state.coming = set()
        if operations := planner.batch.encode():
            self._send(planner.batch, operations)

    # --- transactions -----------------------------------------------------------------------------------------

    def _send(self, batch: Batch, operations: list[dict[str, Any]]) -> None:
        self._in_flight.append(batch)
        self.session.transact(operations, lambda _, error: self._replied(batch, error))

    def _replied(self, batch: Batch, error: Exception | None) -> None:
        self._in_flight.remove(batch)
        if error is None:
            self.transactions += 1
            self.rows_written += len(batch)
            self._backoff.reset()
            self._write_gate.succeeded(tuple(batch.owners))
            self._look_again(batch)
            if not self._write_gate.errors:
                self.last_error = ""
            self._verify(batch)
        else:
            self._refused(batch, error)
        self.flush()

    def _look_again(self, batch: Batch) -> None:
        """What was reported of the owners of a batch that went through may be over: all that is theirs is compared
        once more, and what is still wrong is reported again."""
        for owner in batch.owners:
            if self._state.reports.forget(owner):
                self._mending.add(owner)
                self._state.touch_owner(owner)

    def _refused(self, batch: Batch, error: Exception) -> None:
        self.last_error = str(error)
        for uuid, touched in batch.taken.items():
            merge(self._state.touched, uuid, touched)
        for uuid, operation in batch.rows.items():
            if operation.verb is not Verb.DELETE:
                self._state.touch(uuid)
            elif uuid not in self._state.desired.rows:
                self._deletions.rows[uuid] = None
        if isinstance(error, Disconnected):
            return
        self.failed_transactions += 1
        if batch.doubtful:
            return
        for later in self._in_flight:
            later.doubtful = True
        if isinstance(error, TransactionError) and error.content:
            self._log.warning("transaction refused", error=str(error), rows=len(batch), owners=len(batch.owners))
            self._write_gate.failed(tuple(batch.owners), batch.culprit(error.operation), error)
            return
        self._log.warning("transaction failed", error=str(error), rows=len(batch))
        self._pause_until_retry = True
        self._later(self._backoff.next(), self._unpause)

    def _verify(self, batch: Batch) -> None:
        """The replica is current now: what isn't as written was undone by the server or by others meanwhile."""
        rows = self._state.replica.rows
        for uuid, operation in batch.rows.items():
            record = rows.get(uuid)
            if operation.verb is Verb.DELETE:
                if record is not None:
                    self._state.touch(uuid)
                else:
                    self._deletions.rows.pop(uuid, None)
            elif record is not None:
                columns = batch.schema.tables[operation.table].columns
                for name, value in operation.values.items():
                    # a reference to a row that the same transaction deletes is dropped at once: no change is told
                    if columns[name].reference is not None and record.values.get(name, value) != value:
                        self._state.touch(uuid, name)
                for name, elements in operation.add.items():
                    content = record.values.get(name, elements)
                    if isinstance(content, AbstractSet) and not content >= elements:
                        self._state.touch(uuid, name, set(elements) - content)
            elif operation.verb is Verb.INSERT and uuid in self._state.desired.rows:
                self._vanished(uuid)

    def _vanished(self, uuid: str) -> None:
        want = self._state.desired.rows[uuid]
        home = self._state.resolve(want.parent[0]) if want.parent is not None else None
        if home is not None and home in self._state.replica.rows:
            self._write_gate.blame(want.owner, Collected(f"{want.path} vanished: nothing refers to it strongly"))
        self._state.touch(uuid)

    # --- owners and time --------------------------------------------------------------------------------------

    def _blamed(self, owner: Owner, error: Exception) -> None:
        if is_leftover(owner):
            self._log.error("what nobody wants can't be removed", row=owner.key, error=str(error))
            return
        self._log.warning("change refused", owner=str(owner), error=str(error))
        self._state.reports.tell(owner, error)

    def _retry(self, owner: Owner) -> None:
        self._state.touch_owner(owner)
        self._kick()

    def _kick(self) -> None:
        """Flush soon, once for all that happens until then."""
        if not self._kicked:
            self._kicked = True
            self._post(self._kicked_flush)

    def _kicked_flush(self) -> None:
        self._kicked = False
        self.flush()

    def _unpause(self) -> None:
        self._pause_until_retry = False
        self.flush()

    def _timer(self, seconds: float, function: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, lambda: self._post(function))
        timer.daemon = True
        timer.start()
