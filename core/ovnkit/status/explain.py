"""Whose a row of the northbound is, which object it comes from, and what it is for."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import OvnkitError
from ovnkit.api.hooks import Hooks, Scope
from ovnkit.api.identity import OWNER_KEY, RowId
from ovnkit.api.kinds import Kind, Resource, View
from ovnkit.api.renderers import Role
from ovnkit.plugins.registry import Plugins
from ovnkit.sinks.ovsdb.model.ledger import ROW_PREFIX
from ovnkit.sinks.ovsdb.model.replica import Record, Replica, RowChange
from ovnkit.sinks.ovsdb.session import Session
from ovnkit.sinks.ovsdb.wire.locations import NAMES, endpoint, tls_for
from ovnkit.sinks.ovsdb.wire.schema import Schema

READ_TIMEOUT = 15.0
"""Seconds the database may take to answer."""


@frozen
class Explained:
    """One row: `owner` is the owner path, empty for a row that isn't ovnkit's; `object` is `Kind/namespace/name`.

    The object is the one that the owner's renderer renders for; rows for no object in particular have none.
    """

    table: str
    uuid: str
    name: str
    owner: str
    object: str
    plugin: str
    sentence: str


class _Once:
    """Listener that says when the content has come."""

    def __init__(self) -> None:
        self.loaded: queue.SimpleQueue[str] = queue.SimpleQueue()

    def on_connected(self, schema: Schema) -> None:
        """The content comes next."""

    def on_loaded(self, complete: bool, changes: list[RowChange]) -> None:  # noqa: ARG002 (the interface)
        """It is there."""
        self.loaded.put("")

    def on_update(self, changes: list[RowChange]) -> None:
        """Not of interest."""

    def on_disconnected(self, error: Exception) -> None:
        """Not of interest: the session tries again until the time is up."""


def read_rows(config: Config, db: str, tables: Iterable[str]) -> tuple[list[Record], dict[str, str]]:
    """The rows of tables, and owner paths of those in tables without external_ids, by UUID.

    Raises OvnkitError when the database doesn't answer.
    """
    needs: dict[str, tuple[str, ...]] = dict.fromkeys(tables, ("name", "external_ids"))
    replica = read_replica(config, db, needs)
    ledger = {
        uuid: path.partition(" ")[2]
        for record in replica.table(replica.schema.singleton if replica.schema else "").values()
        for uuid, path in _ledger(record)
    }
    return [record for table in needs for record in replica.table(table).values()], ledger


def read_replica(config: Config, db: str, needs: Mapping[str, tuple[str, ...]]) -> Replica:
    """Columns of tables of a database as they are now; raises OvnkitError when it doesn't answer."""
    posted: queue.SimpleQueue[Any] = queue.SimpleQueue()
    where = endpoint(config, db)
    session = Session(db, where, post=posted.put, database=NAMES[db], needs=needs, tls=tls_for(config, db))
    listener = _Once()
    session.listeners.append(listener)
    session.start()
    try:
        while listener.loaded.empty():
            posted.get(timeout=READ_TIMEOUT)()
            if session.last_error and not session.connected:
                raise OvnkitError(f"{where} doesn't answer: {session.last_error}")
    except queue.Empty:
        raise OvnkitError(f"{where} doesn't answer within {READ_TIMEOUT:g} s") from None
    finally:
        session.stop()
    return session.replica


def _ledger(record: Record) -> Iterable[tuple[str, str]]:
    for key, text in (record.values.get("external_ids") or {}).items():
        if key.startswith(ROW_PREFIX):
            yield key.removeprefix(ROW_PREFIX), text


Subjects = Mapping[tuple[str, str], Kind[View]]
"""The kind whose objects a renderer renders for, by (plugin, renderer)."""


def subjects(plugins: Plugins, config: Config) -> Subjects:
    """Those of the enabled plugins; one that can't say has none."""
    scope = Scope(frozenset(Role), "", "", config.default.zone_mode == "per-node")
    answers = plugins.calls.each(Hooks.ovnkit_renderers, config=config, scope=scope, hooks=plugins.calls)
    return {
        (plugin, renderer.name): renderer.reports_on
        for plugin, renderers in answers
        for renderer in renderers
        if renderer.reports_on is not None
    }


def explain_row(plugins: Plugins, subjects: Subjects, record: Record, ledger: Mapping[str, str]) -> Explained:
    """What there is to say about a row."""
    external_ids: Mapping[str, str] = record.values.get("external_ids") or {}
    owner = external_ids.get(OWNER_KEY, "") or ledger.get(record.uuid, "")
    row = RowId.parse(owner)
    plugin = row.plugin
    sentence = ""
    if plugin in plugins.all:
        said, error = plugins.calls.attempt(
            plugin, Hooks.ovnkit_explain, row=row, table=record.table, external_ids=external_ids
        )
        sentence = f"(the plugin can't say: {error})" if error else said or ""
    elif owner:
        sentence = f"(plugin {plugin} is not installed: nobody keeps this row)"
    name = record.values.get("name") or ""
    return Explained(record.table, record.uuid, str(name), owner, _object_of(row, subjects), plugin, sentence)


def _object_of(row: RowId, subjects: Subjects) -> str:
    kind = subjects.get((row.plugin, row.renderer))
    if kind is None or not isinstance(kind.source, Resource):
        return ""
    return f"{kind.source.kind}/{row.key}"
