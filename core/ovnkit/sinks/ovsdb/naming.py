"""What rows name in text: matches name address sets and port groups, ACLs that log name their meter.

What is named can't go before the rows that name it, or before they name it no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ovnkit.sinks.ovsdb.batch import Batch, RowOperation, Verb
from ovnkit.sinks.ovsdb.replica import Record, Replica

MATCH = "match"
"""The column of ACL, Logical_Router_Policy, QoS, NAT."""
WITHOUT_MATCH = frozenset({"NAT"})
"""Tables in which an empty match is none; elsewhere it is one that OVN can't parse."""
NAMING = frozenset({MATCH, "log", "meter"})
"""The columns from which one sees what a row names. An ACL that doesn't log has a meter's name for nothing."""
SIGNS: Mapping[str, str] = {"Address_Set": "$", "Port_Group": "@", "Meter": "meter "}
"""Tables whose rows are named so, and what tells the names apart."""
_NAMES = re.compile(r'"(?:[^"\\]|\\.)*"|/\*.*?\*/|([$@][A-Za-z_.][A-Za-z_.0-9]*)')


def names_in(text: str) -> set[str]:
    """The names in a match, with their signs."""
    if "$" not in text and "@" not in text:
        return set()
    return {found[1] for found in _NAMES.finditer(text) if found[1]}


def names_of(values: Mapping[str, Any]) -> set[str]:
    """What a row with these columns names."""
    text = values.get(MATCH)
    found = names_in(text) if text else set()
    if values.get("log") and values.get("meter"):
        found.add(f"meter {values['meter']}")
    return found


def name_of(record: Record) -> str:
    """How a row is named, or an empty text."""
    sign = SIGNS.get(record.table)
    name = record.values.get("name") if sign is not None else None
    return f"{sign}{name}" if name else ""


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
