"""Rows of ours that nobody wants: deleted last, and not when there are suspiciously many."""

from __future__ import annotations

import structlog

from ovnkit.sinks.ovsdb.model.names import SIGNS
from ovnkit.sinks.ovsdb.model.replica import Record
from ovnkit.sinks.ovsdb.plan.leftovers import leftover
from ovnkit.sinks.ovsdb.plan.planner import Planner
from ovnkit.sinks.ovsdb.plan.state import SinkState

log = structlog.get_logger()
MASS_DELETE_MINIMUM = 20
"""Fewer deletions than this are never held back."""


class Deletions:
    """The rows that are to go. More than half of all rows of ours are held back until `allow_mass`."""

    def __init__(self, state: SinkState, allow_mass: bool) -> None:
        self.rows: dict[str, None] = {}
        self.held = 0
        self.allow_mass = allow_mass
        self._state = state

    @property
    def pending(self) -> bool:
        """Whether rows wait to be deleted (those that are held back don't count)."""
        return bool(self.rows) and not self.held

    def take(self, uuid: str) -> bool:
        """Whether a row is to go; if so it is entered here."""
        state = self._state
        goes = (
            state.settled
            and uuid not in state.desired.rows
            and uuid in state.replica.rows
            and (
                (uuid in state.marks.paths and not state.marks.is_kept(uuid))
                or uuid in state.dropped
                or uuid in state.desired.unwanted
            )
        )
        if goes:
            self.rows[uuid] = None
        else:
            self.rows.pop(uuid, None)
        return goes

    def may_go(self) -> bool:
        """Whether deletions may be planned now."""
        unwanted = self._state.desired.unwanted
        deleted, owned = sum(uuid not in unwanted for uuid in self.rows), len(self._state.marks.paths)
        too_many = deleted >= MASS_DELETE_MINIMUM and 2 * deleted > owned and not self.allow_mass
        if too_many and not self.held:
            log.error("mass deletion held back", rows=deleted, owned=owned)
        self.held = deleted if too_many else 0
        return not too_many

    def plan(self, planner: Planner, limit: int) -> None:
        """Put as many deletions as fit into a transaction."""
        named: list[Record] = []
        for uuid in list(self.rows):
            record = self._state.replica.rows.get(uuid)
            if record is None or uuid in self._state.desired.rows:
                del self.rows[uuid]
                continue
            if len(planner.batch) >= limit:
                return
            if record.table in SIGNS:
                named.append(record)
                continue
            owner = leftover(uuid)
            if (
                self._state.gate(owner)
                and not planner.delete(record, owner)
                and self._state.naming.is_waiting(uuid)
            ):
                del self.rows[uuid]
        self._plan_named(planner, limit, named)

    def _plan_named(self, planner: Planner, limit: int, records: list[Record]) -> None:
        """What is named goes after the rows that name it, or with them; until then it waits for that."""
        written = self._state.naming.names_written(planner.batch) if records else ()
        for record in records:
            owner = leftover(record.uuid)
            if len(planner.batch) >= limit:
                return
            if not self._state.gate(owner):
                continue
            if self._state.naming.holds(record, planner.batch, written):
                del self.rows[record.uuid]
            else:
                planner.delete(record, owner)
