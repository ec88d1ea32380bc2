"""Which rows of the database carry our marks (see `ledger`), and which of them stay whatever is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

from ovnkit.api.identity import OWNER_KEY, row_uuid
from ovnkit.sinks.ovsdb.model.ledger import MEMBER_PREFIX, ROW_PREFIX, entries
from ovnkit.sinks.ovsdb.model.replica import Record, Replica

Touch = Callable[[str, str | None, Iterable[Any] | None], None]
Need = Callable[[str, Iterable[str]], bool]


class Marks:
    """Reads the marks of rows as they come and change.

    `need(table, columns)` asks for columns that an entry is about and nobody monitors; `touch` is called for rows
    that an entry shows to be ours, or to be gone.
    """

    def __init__(self, db: str, replica: Replica, need: Need, touch: Touch) -> None:
        self.paths: dict[str, str] = {}
        """Rows that carry our mark, with the owner path."""
        self.ledgered: set[str] = set()
        """Rows with members in their ledger."""
        self.kept: frozenset[str] = frozenset()
        """Plugins, and owner paths, of which nobody knows what they want (they failed): their rows stay."""
        self._db = db
        self._replica = replica
        self._need = need
        self._touch = touch

    def clear(self) -> None:
        """The replica is about to be read anew."""
        self.paths.clear()
        self.ledgered.clear()

    def is_kept(self, uuid: str) -> bool:
        """Whether a row belongs to a plugin or an owner of which nobody knows what it wants."""
        if not self.kept or uuid not in self.paths:
            return False
        beginnings = accumulate(self.paths[uuid].split("/"), lambda path, part: f"{path}/{part}")
        return any(path in self.kept for path in beginnings)

    def keep(self, paths: frozenset[str]) -> None:
        """From now on rows of these plugins and owner paths stay; the others of those that stayed may differ."""
        held = [uuid for uuid in self.paths if self.is_kept(uuid)] if self.kept - paths else []
        self.kept = paths
        for uuid in held:
            self._touch(uuid, None, None)

    def read(self, record: Record, keys: Iterable[str] | None = None) -> None:
        """Find our marks on a row; `keys` are those of its external_ids that changed, None for all."""
        ids = record.values.get("external_ids")
        uuid = record.uuid
        if ids is None:
            singleton = self.singleton()
            entry = singleton.values["external_ids"].get(ROW_PREFIX + uuid) if singleton is not None else None
            if entry is not None:
                self.paths[uuid] = entry.partition(" ")[2]
            return
        path = ids.get(OWNER_KEY)
        if path is not None and not self._is_copy(uuid, path):
            self.paths[uuid] = path
        else:
            self.paths.pop(uuid, None)
        schema = self._replica.schema
        if any(key.startswith(MEMBER_PREFIX) for key in ids):
            self.ledgered.add(uuid)
            names = {column for column, _, _ in entries(ids)} - self._replica.columns.get(
                record.table, frozenset()
            )
            if names and schema is not None:
                self._need(record.table, [name for name in names if schema.has(record.table, name)])
        else:
            self.ledgered.discard(uuid)
        if schema is not None and record.table == schema.singleton:
            for key in ids if keys is None else keys:
                if key.startswith(ROW_PREFIX):
                    self._read_row_entry(record, key)

    def forget(self, uuid: str) -> None:
        """A row is gone; if it has an entry in the ledger, that may go too."""
        self.paths.pop(uuid, None)
        self.ledgered.discard(uuid)
        singleton = self.singleton()
        if singleton is not None and ROW_PREFIX + uuid in singleton.values["external_ids"]:
            self._touch(singleton.uuid, "external_ids", (ROW_PREFIX + uuid,))

    def singleton(self) -> Record | None:
        """The row that stands for the database."""
        schema = self._replica.schema
        rows = self._replica.table(schema.singleton) if schema is not None else {}
        return next(iter(rows.values()), None)

    def _read_row_entry(self, singleton: Record, key: str) -> None:
        """A row in a table without external_ids has been entered in the ledger, or taken off it."""
        uuid = key[len(ROW_PREFIX) :]
        replica = self._replica
        record = replica.rows.get(uuid)
        table, _, path = singleton.values["external_ids"].get(key, "").partition(" ")
        if table not in replica.tables and replica.schema and table in replica.schema.tables:
            self._need(table, ())
        if record is None:
            self._touch(singleton.uuid, "external_ids", (key,))
        elif "external_ids" not in record.values:
            if key in singleton.values["external_ids"]:
                self.paths[uuid] = path
                self._touch(uuid, None, None)
            else:
                self.paths.pop(uuid, None)

    def _is_copy(self, uuid: str, path: str) -> bool:
        """Whether a mark in the southbound is only northd's copy of a northbound row's `external_ids`."""
        return self._db == "sb" and uuid != row_uuid(path)
