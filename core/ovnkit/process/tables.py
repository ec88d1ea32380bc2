"""Rows of an OVSDB database as observed objects: kinds whose source is a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import structlog

from ovnkit.api.errors import Reject
from ovnkit.api.kinds import Changes, Kind, Table, View
from ovnkit.sinks.ovsdb.model.replica import Record, Replica, RowChange, raw_row
from ovnkit.sinks.ovsdb.wire.schema import Schema

log = structlog.get_logger()


class World(Protocol):
    """What the feed tells: the reconciler."""

    def observe(self, kind: Kind[View], changes: Changes) -> None:
        """Objects came, changed or went."""

    def listed(self, kind: Kind[View]) -> None:
        """Everything of this kind has been observed once."""


class TableFeed:
    """Listener of a session (`ovnkit.sinks.ovsdb.session.Listener`) that feeds kinds. Reconciler's thread only."""

    def __init__(self, replica: Replica, kinds: Iterable[Kind[View]], world: World) -> None:
        self._replica = replica
        self._world = world
        self._kinds: dict[str, list[Kind[View]]] = {}
        self._known: dict[Kind[View], dict[str, str]] = {}
        for kind in kinds:
            assert isinstance(kind.source, Table)
            self._kinds.setdefault(kind.source.table, []).append(kind)
            self._known[kind] = {}

    def on_connected(self, schema: Schema) -> None:
        """Nothing to do."""

    def on_disconnected(self, error: Exception) -> None:
        """Nothing to do: what was seen last stays true until something better is known."""

    def on_loaded(self, complete: bool, changes: list[RowChange]) -> None:
        """Tell everything, and what is gone, or just what changed meanwhile."""
        if not complete:
            self.on_update(changes)
        else:
            for table, kinds in self._kinds.items():
                records = self._replica.table(table)
                for kind in kinds:
                    gone = self._known[kind].keys() - records.keys()
                    self._tell(kind, [(uuid, None) for uuid in gone] + list(records.items()))
        for kind in self._known:
            self._world.listed(kind)

    def on_update(self, changes: list[RowChange]) -> None:
        """Tell what changed in the columns of each kind."""
        for kind in self._known:
            assert isinstance(kind.source, Table)
            table, columns = kind.source.table, kind.source.columns
            self._tell(
                kind,
                [
                    (change.record.uuid, None if change.gone else change.record)
                    for change in changes
                    if change.record.table == table
                    and (change.columns is None or not change.columns.keys().isdisjoint(columns))
                ],
            )

    def _tell(self, kind: Kind[View], rows: list[tuple[str, Record | None]]) -> None:
        """Views are stored under their own key, which need not be the row's UUID."""
        known = self._known[kind]
        assert isinstance(kind.source, Table)
        having = kind.source.having
        changes: list[tuple[str, View | None]] = []
        for uuid, record in rows:
            if record is None or not _has(record, having):
                key = known.pop(uuid, None)
                if key is not None:
                    changes.append((key, None))
                continue
            try:
                view = kind.view(raw_row(record))
            except Exception as error:  # a view is a plugin's code; the last good one stays
                level = log.warning if isinstance(error, Reject) else log.exception
                level("view failed", kind=kind.name, object=uuid, error=str(error))
                continue
            former = known.get(uuid)
            if former is not None and former != view.key:
                changes.append((former, None))
            known[uuid] = view.key
            changes.append((view.key, view))
        if changes:
            self._world.observe(kind, changes)


def _has(record: Record, having: tuple[tuple[str, str], ...]) -> bool:
    """Whether a row's external_ids hold all of these pairs."""
    ids = record.values.get("external_ids") or {}
    return all(ids.get(name) == value for name, value in having)
