"""What matches in the database name: address sets and port groups that can't go before the matches do."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from ovnkit.ovsdb.batch import Batch, Verb
from ovnkit.ovsdb.replica import Record, Replica

MATCH = "match"
"""The column of ACL, Logical_Router_Policy, QoS, NAT."""
WITHOUT_MATCH = frozenset({"NAT"})
"""Tables in which an empty match is none; elsewhere it is one that OVN can't parse."""
SIGNS: Mapping[str, str] = {"Address_Set": "$", "Port_Group": "@"}
"""Tables whose rows matches name, and the sign in front of the name."""
_NAMES = re.compile(r'"(?:[^"\\]|\\.)*"|/\*.*?\*/|([$@][A-Za-z_.][A-Za-z_.0-9]*)')


def names_in(text: str) -> set[str]:
    """The names in a match, with their signs."""
    if "$" not in text and "@" not in text:
        return set()
    return {found[1] for found in _NAMES.finditer(text) if found[1]}


def name_of(record: Record) -> str:
    """How matches name a row, or an empty text."""
    sign = SIGNS.get(record.table)
    name = record.values.get("name") if sign is not None else None
    return f"{sign}{name}" if name else ""


class MatchNames:
    """For each name the rows whose match in the database has it, whoever wrote them.

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
        text = record.values.get(MATCH)
        if not isinstance(text, str):
            return
        uuid = record.uuid
        before = self._names.get(uuid) or set()
        after = set() if gone else names_in(text)
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

    def holds(self, record: Record, batch: Batch, written: Collection[str]) -> bool:
        """Whether a match still names a row after this batch; if so the row is touched when that ends.

        `written` are the names in what the batch writes (`names_written`).
        """
        name = name_of(record)
        if not name or not (name in written or any(self._stay(name, batch))):
            return False
        self.waiting.setdefault(name, set()).add(record.uuid)
        return True

    def _stay(self, name: str, batch: Batch) -> Iterator[bool]:
        """For each row that names it now: whether that stays as it is."""
        for uuid in self._users.get(name, ()):
            operation = batch.rows.get(uuid)
            yield operation is None or (operation.verb is not Verb.DELETE and MATCH not in operation.values)


def names_written(batch: Batch) -> set[str]:
    """The names in the matches that a batch writes."""
    found: set[str] = set()
    for operation in batch.rows.values():
        found |= names_in(operation.values.get(MATCH) or "")
    return found
