"""Rows that are named in text: one can't go before the rows that name it, or before they no longer do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from ovnkit.sinks.ovsdb.model.names import MATCH, NAMING, name_of, names_of
from ovnkit.sinks.ovsdb.model.replica import Record, Replica
from ovnkit.sinks.ovsdb.plan.batch import Batch, RowOperation, Verb


class Naming:
    """For each name the rows in the database that have it, whoever wrote them.

    `freed(uuid)` is called when nothing has a name any more for which the row with this UUID waits.
    """

    def __init__(self, replica: Replica, freed: Callable[[str], None]) -> None:
        self.waiting: dict[str, set[str]] = {}
        """By name: the rows that are to go (or to be renamed) as soon as nothing names them."""
        self._replica = replica
        self._freed = freed
        self._users: dict[str, set[str]] = {}
        self._names: dict[str, set[str]] = {}

    def reload(self) -> None:
        """The replica was loaded anew."""
        self.waiting.clear()
        self._users.clear()
        self._names.clear()
        for record in self._replica.rows.values():
            self.follow(record)

    def follow(self, record: Record, *, gone: bool = False) -> None:
        """A row was written or deleted."""
        if MATCH not in record.values:
            return
        uuid = record.uuid
        before = self._names.get(uuid) or set()
        after = set() if gone else names_of(record.values)
        if before == after:
            return
        for name in after - before:
            self._users.setdefault(name, set()).add(uuid)
        for name in before - after:
            users = self._users[name]
            users.discard(uuid)
            if not users:
                del self._users[name]
                for waiter in self.waiting.pop(name, ()):
                    self._freed(waiter)
        if after:
            self._names[uuid] = after
        else:
            del self._names[uuid]

    def holds(self, record: Record, batch: Batch, written: Collection[str], waiter: str = "") -> bool:
        """Whether something still names a row after this batch; if so it, or `waiter`, is touched when that ends.

        `written` are the names in what the batch writes (`names_written`).
        """
        name = name_of(record)
        if not name or not (name in written or any(self._stay(name, batch))):
            return False
        self.waiting.setdefault(name, set()).add(waiter or record.uuid)
        return True

    def is_waiting(self, uuid: str) -> bool:
        """Whether a row waits for a name to be free."""
        return any(uuid in waiters for waiters in self.waiting.values())

    def _stay(self, name: str, batch: Batch) -> Iterator[bool]:
        """For each row that names it now: whether the batch leaves that alone."""
        for uuid in self._users.get(name, ()):
            operation = batch.rows.get(uuid)
            yield operation is None or (operation.verb is not Verb.DELETE and not _renames(operation))

    def names_written(self, batch: Batch) -> set[str]:
        """What rows name that a batch writes."""
        found: set[str] = set()
        for uuid, operation in batch.rows.items():
            if _renames(operation):
                record = self._replica.rows.get(uuid)
                known = record.values if record is not None else {}
                found |= names_of({**known, **operation.values})
        return found


def _renames(operation: RowOperation) -> bool:
    return not NAMING.isdisjoint(operation.values)
