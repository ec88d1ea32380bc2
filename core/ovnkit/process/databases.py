"""The OVSDB databases of this process: sessions, sinks, and kinds fed from tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Declaration, Scope
from ovnkit.api.kinds import Changes, Kind, Table, V, View
from ovnkit.api.renderers import Role
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.reconciler import Reconciler
from ovnkit.engine.sink import AnySink, Owner
from ovnkit.plugins.registry import Plugins
from ovnkit.process.tables import TableFeed
from ovnkit.process.watches import tables_of
from ovnkit.sinks.ovsdb.model.replica import RowChange
from ovnkit.sinks.ovsdb.session import Session
from ovnkit.sinks.ovsdb.sink import OvsdbSink
from ovnkit.sinks.ovsdb.wire.endpoint import Tls
from ovnkit.sinks.ovsdb.wire.locations import NAMES, endpoint
from ovnkit.sinks.ovsdb.wire.schema import Schema

log = structlog.get_logger()

ROLES = {"nb": Role.ZONE, "sb": Role.ZONE, "ovs": Role.NODE}

_MARKED = {
    "nb": (
        "ACL", "Address_Set", "BFD", "Chassis_Template_Var", "Connection", "Copp", "DHCP_Options", "DNS",
        "Forwarding_Group", "Gateway_Chassis", "HA_Chassis", "HA_Chassis_Group", "Load_Balancer",
        "Load_Balancer_Health_Check", "Logical_Router", "Logical_Router_Policy", "Logical_Router_Port",
        "Logical_Router_Static_Route", "Logical_Switch", "Logical_Switch_Port", "Meter", "Meter_Band", "Mirror",
        "NAT", "Port_Group", "QoS", "Sample_Collector", "Sampling_App",
    ),
    "sb": (),
    "ovs": (
        "Bridge", "Controller", "Flow_Sample_Collector_Set", "IPFIX", "Interface", "Manager", "Mirror", "NetFlow",
        "Port", "QoS", "Queue", "sFlow",
    ),
}  # fmt: skip
"""Tables in which rows of a plugin that has been disabled, or uninstalled, are looked for by their mark. The
southbound has none: what plugins write there they declare, and its other tables are too big to watch."""


@frozen
class Database:
    """One database: its sink, and its session; tests may have a sink that keeps rows in memory, and no session."""

    db: str
    sink: AnySink
    session: Session | None = None


def connect(
    reconciler: Reconciler,
    db: str,
    where: str,
    needs: Mapping[str, Iterable[str]],
    *,
    tls: Tls | None = None,
    allow_mass_delete: bool = False,
    sink: type[OvsdbSink] = OvsdbSink,
) -> Database:
    """A real database: a session that isn't started yet, with a sink (of the class `sink`)."""
    inbox = reconciler.inbox
    session = Session(db, where, post=inbox.post, database=NAMES[db], needs=needs, tls=tls)
    made = sink(
        db,
        session,
        post=inbox.post,
        report=reconciler.report,
        live=reconciler.live,
        allow_mass_delete=allow_mass_delete,
        later=inbox.post_later,
    )
    return Database(db, made, session)


def needs(db: str, declarations: Iterable[Declaration], kinds: Iterable[Kind[View]]) -> dict[str, set[str]]:
    """Tables and columns to monitor: the marked ones, what plugins write, what kinds are made of."""
    found: dict[str, set[str]] = {table: {"external_ids"} for table in _MARKED[db]}
    for declaration in declarations:
        for columns in declaration.columns:
            if columns.db == db:
                found.setdefault(columns.table, set()).update(columns.columns)
    for kind in tables_of(kinds, db):
        assert isinstance(kind.source, Table)
        found.setdefault(kind.source.table, set()).update(kind.source.columns)
    return found


def named_tables(plugins: Plugins, db: str) -> list[str]:
    """The tables that plugins may have rows in."""
    declared = [plugin.declaration for plugin in plugins.all.values()]
    return sorted(needs(db, declared, ()))


class Databases:
    """All databases that the roles of this process write or read. `known(schemas)` comes when all have answered.

    `declarations` are those of all installed plugins: rows of the disabled ones must be seen to be removed.
    `connect(db, needs)` makes a database; `needs` are the columns to monitor by table.
    """

    def __init__(
        self,
        scope: Scope,
        reconciler: Reconciler,
        declarations: Iterable[Declaration],
        kinds: Iterable[Kind[View]],
        *,
        connect: Callable[[str, Mapping[str, set[str]]], Database],
        known: Callable[[Mapping[str, Schema]], None],
    ) -> None:
        self.databases: dict[str, Database] = {}
        self.schemas: dict[str, Schema] = {}
        self._known = known
        self._post = reconciler.inbox.post
        declared, kinds = list(declarations), list(kinds)
        for db in NAMES:
            wanted = needs(db, declared, kinds)
            if ROLES[db] not in scope.roles or not wanted:
                continue
            database = self.databases[db] = connect(db, wanted)
            if database.session is None:
                continue
            database.session.listeners.append(_SchemaListener(db, self._schema_known))
            if tables := tables_of(kinds, db):
                database.session.listeners.append(TableFeed(database.session.replica, tables, reconciler))

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The sessions by database."""
        return {db: d.session for db, d in self.databases.items() if d.session is not None}

    def start(self) -> None:
        """Start connecting; without any database everything is known at once."""
        for session in self.sessions.values():
            session.start()
        if not self.sessions:
            self._post(lambda: self._known({}))

    def session(self, db: str) -> Session | None:
        """The session of a database; None when this process has none."""
        return self.sessions.get(db)

    @property
    def waiting(self) -> list[str]:
        """Databases that haven't answered yet."""
        return [db for db in self.sessions if db not in self.schemas]

    def owners_of_match(self, text: str) -> Sequence[Owner]:
        """Who wants a match that is all or a part of a text; nobody where the northbound isn't written."""
        database = self.databases.get("nb")
        if database is None or not isinstance(database.sink, OvsdbSink):
            return ()
        return database.sink.owners_of_match(text)

    def _schema_known(self, db: str, schema: Schema) -> None:
        former = self.schemas.get(db)
        self.schemas[db] = schema
        if former is not None:
            if former.version != schema.version:
                log.warning("the database's schema changed; restart to use it", db=db, version=schema.version)
            return
        if not self.waiting:
            self._known(self.schemas)

    def stop(self) -> None:
        """End all sessions."""
        for session in self.sessions.values():
            session.stop()


def read_fact(config: Config, kind: Kind[V]) -> Sequence[V]:
    """The views of a kind of this host as they are now, from its kernel or its Open vSwitch.

    Raises TimeoutError when these don't answer, ValueError for a kind of another place.
    """
    from ovnkit.sinks.host.facts import READ_DEADLINE, read_once  # the netlink library takes 0.13 s of a start

    return _read_table(config, kind, READ_DEADLINE) if isinstance(kind.source, Table) else read_once(kind)


def _read_table(config: Config, kind: Kind[V], deadline: float) -> Sequence[V]:
    """Where there is no Open vSwitch, it has nothing."""
    assert isinstance(kind.source, Table)
    if kind.source.db != "ovs":
        raise ValueError(f"{kind.name} is no fact of this host")
    where = endpoint(config, "ovs")
    if not Path(where.removeprefix("unix:")).exists():
        return []
    inbox, world = Inbox(), _Once()
    session = Session("ovs", where, post=inbox.post, database=NAMES["ovs"], needs=needs("ovs", (), [kind]))
    session.listeners.append(TableFeed(session.replica, [kind], world))
    session.start()
    try:
        if not inbox.run_until(lambda: world.complete, deadline):
            raise TimeoutError(f"Open vSwitch did not tell its {kind.name} within {deadline:.0f} s")
    finally:
        session.stop()
    return list(world.views.values())


class _Once:
    """Takes what a feed tells until it has told everything."""

    def __init__(self) -> None:
        self.views: dict[str, Any] = {}
        self.complete = False

    def observe(self, _kind: Kind[View], changes: Changes) -> None:
        """Keep the views."""
        self.views.update(changes)

    def listed(self, _kind: Kind[View]) -> None:
        """That was all."""
        self.complete = True


class _SchemaListener:
    """Passes on the schema of each connection."""

    def __init__(self, db: str, known: Callable[[str, Schema], None]) -> None:
        self._db = db
        self._known = known

    def on_connected(self, schema: Schema) -> None:
        """Pass it on."""
        self._known(self._db, schema)

    def on_loaded(self, complete: bool, changes: list[RowChange]) -> None:
        """Not of interest."""

    def on_update(self, changes: list[RowChange]) -> None:
        """Not of interest."""

    def on_disconnected(self, error: Exception) -> None:
        """Not of interest."""


def schema_columns(schemas: Mapping[str, Schema]) -> dict[str, dict[str, list[str]]]:
    """Tables and their columns by database, as `Plugins.check_schema` wants them."""
    return {
        db: {name: list(table.columns) for name, table in schema.tables.items()} for db, schema in schemas.items()
    }
