"""Rows of others in tables without unique columns, found by what tells such rows apart within their parent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ovnkit.sinks.ovsdb.model.replica import IndexKey, Record, index_key

IDENTITIES: Mapping[str, tuple[str, ...]] = {
    "ACL": ("direction", "priority", "match"),
    "Logical_Router_Policy": ("priority", "match"),
    "Logical_Router_Static_Route": ("ip_prefix", "policy", "nexthop"),
    "NAT": ("type", "logical_ip", "external_ip"),
    "QoS": ("direction", "priority", "match"),
}
"""By these columns ovn-nbctl tells the rows of one switch, router or port group apart: two that are equal here do
the same twice, or contradict each other."""


def identity(table: str, values: Mapping[str, Any]) -> IndexKey | None:
    """What tells a row apart; None for other tables, and where a column isn't known."""
    columns = IDENTITIES.get(table)
    if columns is None or any(name not in values for name in columns if name != "policy"):
        return None
    return index_key({"policy": None, **values}, columns)


class ForeignRows:
    """An index of the rows that aren't ours; of ours there are many, which would only take memory."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[str, IndexKey]] = {}
        self._rows: dict[tuple[str, IndexKey], dict[str, None]] = {}

    def enter(self, record: Record) -> None:
        """A row came or changed, and isn't ours."""
        self.leave(record.uuid)
        key = identity(record.table, record.values)
        if key is not None:
            self._keys[record.uuid] = (record.table, key)
            self._rows.setdefault((record.table, key), {})[record.uuid] = None

    def leave(self, uuid: str) -> None:
        """A row went, or is ours now."""
        entry = self._keys.pop(uuid, None)
        if entry is not None:
            self._rows[entry].pop(uuid)
            if not self._rows[entry]:
                del self._rows[entry]

    def find(self, table: str, values: Mapping[str, Any]) -> Collection[str]:
        """UUIDs of rows that are like a row of ours with these values."""
        if not self._keys:
            return ()
        key = identity(table, values)
        return () if key is None else tuple(self._rows.get((table, key), ()))

    def clear(self) -> None:
        """The replica is loaded anew."""
        self._keys.clear()
        self._rows.clear()
