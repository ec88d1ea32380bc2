"""What a running plugin may use outside renderers: the implementation of `ovnkit.api.hooks.Runtime`."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import structlog

from ovnkit.api.config import Config
from ovnkit.api.errors import Retry
from ovnkit.api.hooks import HookCalls, Scope
from ovnkit.api.kinds import Kind, V, View
from ovnkit.engine.inbox import Call
from ovnkit.engine.reconciler import Reconciler
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.errors import NotFound
from ovnkit.sinks.ovsdb.session import Session

if TYPE_CHECKING:
    from ovsdbapp.backend.ovs_idl.connection import Connection
    from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

log = structlog.get_logger()

OVS_TIMEOUT = 30
"""Seconds an ovsdbapp command may take."""

OVS_TABLES = ("Open_vSwitch", "Bridge", "Port", "Interface", "QoS", "Queue", "Controller")
OVS_MEASURED = frozenset({"statistics", "rstp_statistics", "status", "rstp_status", "link_resets", "link_speed"})
"""Columns that ovs-vswitchd writes every few seconds for each interface, and nobody here reads."""


class PluginRuntime:
    """One for the process. Safe from any thread."""

    def __init__(
        self,
        config: Config,
        scope: Scope,
        hooks: HookCalls,
        reconciler: Reconciler,
        client: Client | None,
        sessions: Callable[[str], Session | None] = lambda _db: None,
    ) -> None:
        self.config = config
        self.scope = scope
        self.hooks = hooks
        self._reconciler = reconciler
        self._client = client
        self._sessions = sessions
        self._ovs: OvsdbIdl | None = None
        self._ovs_connection: Connection | None = None
        self._ovs_lock = threading.Lock()

    def get(self, kind: Kind[V], key: str) -> V | None:
        """The object as last observed; not tracked."""
        return self._reconciler.get(kind, key)

    def list(self, kind: Kind[V], index: str = "", value: str = "") -> Sequence[V]:
        """All objects of a kind as last observed, or those in a bucket of an index; not tracked."""
        return tuple(self._reconciler.select(kind, index, value).values())

    def keys(self, kind: Kind[View], index: str = "", value: str = "") -> Collection[str]:
        """Their keys."""
        return frozenset(self._reconciler.select(kind, index, value))

    def wait_for(self, kind: Kind[V], key: str, timeout: float, ready: Callable[[V | None], bool]) -> V | None:
        """Block until `ready(view or None)` holds; the view then. Raises TimeoutError after `timeout` s."""
        seen: queue.SimpleQueue[V | None] = queue.SimpleQueue()
        deadline = time.monotonic() + timeout
        leave = self._reconciler.subscribe(kind, key, seen.put)
        try:
            view = self._reconciler.get(kind, key)
            while not ready(view):
                try:
                    view = seen.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    message = f"{kind.name} {key}: not as needed after {timeout:g} s"
                    raise TimeoutError(message) from None
            return view
        finally:
            leave()

    def refresh(self, kind: Kind[V], key: str) -> V | None:
        """Read one object from the API server now, past the cache; None when it doesn't exist.

        Raises Retry when this process has no API server, a KubeError when it can't be asked.
        """
        if self._client is None:
            raise Retry("this process is not connected to an API server")
        try:
            return kind.view(self._client.get(kind.resource.object_path(key)))
        except NotFound:
            return None

    def ovs(self) -> OvsdbIdl:
        """ovsdbapp's commands on the node's Open vSwitch database (connected on first use).

        Raises Retry when the database doesn't answer; the next call tries again.
        """
        with self._ovs_lock:
            if self._ovs is None:
                self._ovs_connection, self._ovs = _connect_ovs(f"unix:{self.config.ovspaths.ovs_run_dir}/db.sock")
            return self._ovs

    def call_soon(self, function: Call) -> None:
        """Run a function in the reconciler's thread."""
        self._reconciler.inbox.post(function)

    def disconnected(self, db: str) -> str:
        """Why a database doesn't answer; empty while it does, or where it isn't used."""
        session = self._sessions(db)
        if session is None or session.connected:
            return ""
        return session.last_error or "not connected yet"

    def increment(self, db: str, table: str, column: str) -> None:
        """Add one to a number in the only row of a table."""
        self.call_soon(lambda: self._increment(db, table, column))

    def _increment(self, db: str, table: str, column: str) -> None:
        session = self._sessions(db)
        if session is None or not session.loaded:
            return
        mutation = {"op": "mutate", "table": table, "where": [], "mutations": [[column, "+=", 1]]}
        session.transact([mutation], lambda _results, error: _log_refusal(table, column, error))

    def close(self) -> None:
        """End the connection to Open vSwitch."""
        with self._ovs_lock:
            if self._ovs_connection is not None:
                self._ovs_connection.stop(timeout=2)
            self._ovs = self._ovs_connection = None


def _log_refusal(table: str, column: str, error: Exception | None) -> None:
    if error is not None:
        log.warning("a counter can't be raised", table=table, column=column, error=str(error))


def _connect_ovs(endpoint: str) -> tuple[Connection, OvsdbIdl]:
    from ovsdbapp.backend.ovs_idl import connection, idlutils
    from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

    try:
        helper = idlutils.get_schema_helper(endpoint, "Open_vSwitch")
        for table in OVS_TABLES:
            columns = helper.schema_json["tables"][table]["columns"]
            helper.register_columns(table, [column for column in columns if column not in OVS_MEASURED])
        idl = connection.OvsdbIdl(endpoint, helper)
        link = connection.Connection(idl, timeout=OVS_TIMEOUT)
        # ovsdbapp keeps the connection on the class; a class of its own lets a later one be another.
        return link, type("Ovs", (OvsdbIdl,), {})(link)
    except Exception as error:  # python-ovs raises bare Exception when nobody listens
        raise Retry(f"Open vSwitch at {endpoint} doesn't answer: {error}", after=1.0) from None
