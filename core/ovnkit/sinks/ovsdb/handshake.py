"""What happens between a connection and a loaded replica: find out the server's state, schema, and content."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define

from ovnkit.api.errors import OvnkitError
from ovnkit.engine.garbage import collector_paused
from ovnkit.sinks.ovsdb.model.needs import Columns, available
from ovnkit.sinks.ovsdb.wire.errors import Disconnected, ProtocolError, RpcError
from ovnkit.sinks.ovsdb.wire.jsonrpc import Connection, Message
from ovnkit.sinks.ovsdb.wire.monitor import NO_TRANSACTION, Delta, Translator
from ovnkit.sinks.ovsdb.wire.schema import Schema

CALL_TIMEOUT = 60.0
"""Seconds for a reply during the handshake; the content of a large database takes the server a few."""
SERVER_MONITOR, DATA_MONITOR = "ovnkit-server", "ovnkit-data"


class NotUsable(OvnkitError):
    """This server can't serve the database now (not the leader, not in contact with its cluster)."""


@define
class Notice:
    """A notification about the monitored content."""

    deltas: list[Delta]
    last_transaction: str = ""


@define
class Opened:
    """The outcome of the handshake."""

    schema: tuple[Any, Schema]
    columns: Columns
    missing: tuple[str, ...]
    resumed: bool
    last_transaction: str
    deltas: list[Delta]


class Link:
    """A connection with calls, the inactivity probe, and the server's own state, all in the I/O thread."""

    def __init__(self, connection: Connection, probe: float, stopping: Callable[[], bool]) -> None:
        self.last_id = 0
        self.translator: Translator | None = None
        self.method = ""
        self._connection = connection
        self._probe = probe
        self._probed = False
        self._stopping = stopping
        self._early: list[Message] = []
        self._database = ""
        self._leader_only = True
        self._state: dict[str, Any] = {}

    @property
    def any_thread(self) -> bool:
        """Whether `send` may be called from any thread."""
        return self._connection.any_thread

    def send(self, message: Message) -> bool:
        """Send a message; False when only `receive` will have written all of it."""
        return self._connection.send(message)

    def receive(self, timeout: float = 3600.0) -> list[Message]:
        """Messages that came, echo requests answered; raises Disconnected when the server is silent too long."""
        if self._early:
            early, self._early = self._early, []
            return early
        silent = time.monotonic() - self._connection.received_at
        if silent >= 2 * self._probe:
            raise Disconnected(f"no answer for {silent:.0f} s")
        if silent >= self._probe and not self._probed:
            self._probed = True
            self.send({"id": "echo", "method": "echo", "params": []})
        limit = (2 if self._probed else 1) * self._probe - silent
        messages = []
        for message in self._connection.exchange(min(timeout, max(0.001, limit))):
            self._probed = False
            if message.get("method") == "echo":
                self.send({"id": message.get("id"), "result": message.get("params"), "error": None})
            elif message.get("id") != "echo":
                messages.append(message)
        return messages

    def call(self, method: str, *params: Any) -> Any:
        """Send a request and wait for its result; other messages are kept for later. Raises RpcError."""
        self.last_id += 1
        number = self.last_id
        self.send({"id": number, "method": method, "params": list(params)})
        deadline = time.monotonic() + CALL_TIMEOUT
        kept: list[Message] = []
        while not self._stopping():
            if (left := deadline - time.monotonic()) <= 0:
                raise Disconnected(f"no reply to {method} within {CALL_TIMEOUT:.0f} s")
            answer: Message | None = None
            for message in self.receive(left):
                if answer is None and "method" not in message and message.get("id") == number:
                    answer = message
                elif "method" in message:
                    kept.append(message)
            if answer is not None:
                self._early = kept + self._early
                return _result(answer)
        raise Disconnected("stopped")

    def notification(self, message: Message) -> Notice | None:
        """Translate an update of our monitors; raises NotUsable when the server stops being what we need."""
        method, params = message.get("method"), message.get("params") or []
        if method == "monitor_canceled":
            raise Disconnected("the server canceled the monitor")
        if method not in ("update", "update2", "update3"):
            return None
        if params and params[0] == SERVER_MONITOR:
            self._server_update(params[-1])
            return None
        if not params or params[0] != DATA_MONITOR or self.translator is None:
            return None
        deltas = self.translator.deltas(params[-1], self.method)
        return Notice(deltas, params[1] if method == "update3" else "")

    def watch_server(self, database: str, leader_only: bool) -> None:
        """Follow the server's state of the database; raises NotUsable unless it can serve it."""
        self._database, self._leader_only = database, leader_only
        columns = ["name", "model", "connected", "leader"]
        request = {"Database": [{"columns": columns, "where": [["name", "==", database]]}]}
        self._server_update(self.call("monitor_cond", "_Server", SERVER_MONITOR, request))
        if not self._state:
            raise NotUsable(f"the server has no database {database}")

    def _server_update(self, updates: Mapping[str, Any]) -> None:
        for change in updates.get("Database", {}).values():
            if "delete" in change:
                raise NotUsable(f"the server dropped the database {self._database}")
            for row in change.values():
                self._state.update(row)
        if not self._state:
            return
        clustered = self._state.get("model") == "clustered"
        if clustered and not self._state.get("connected", False):
            raise NotUsable("the server has lost its cluster")
        if clustered and self._leader_only and not self._state.get("leader", False):
            raise NotUsable("the server is not the leader")


def _result(answer: Message) -> Any:
    error = answer.get("error")
    if error is None:
        return answer.get("result")
    if isinstance(error, dict):
        raise RpcError(str(error.get("error", "")), str(error.get("details", "")))
    raise RpcError(str(error))


def open_database(
    link: Link,
    database: str,
    needs: Columns,
    *,
    writes: bool,
    everywhere: bool,
    leader_only: bool,
    methods: tuple[str, ...],
    former: tuple[tuple[Any, Schema] | None, Columns, str],
) -> Opened:
    """Go through the handshake. `former` is schema, columns and last transaction of the connection before.

    Raises NotUsable, RpcError, ProtocolError, Disconnected or OSError.
    """
    databases = link.call("list_dbs")
    if database not in databases:
        raise NotUsable(f"the server has no database {database}")
    if "_Server" in databases:
        link.watch_server(database, leader_only)
    raw = link.call("get_schema", database)
    known, columns_before, last = former
    schema = known if known is not None and known[0] == raw else (raw, Schema.parse(raw))
    columns = available(needs, schema[1], writes, everywhere)
    if schema is not known or columns != columns_before:
        last = NO_TRANSACTION
    link.translator = Translator(schema[1], columns)
    with collector_paused():
        found, last, deltas = _monitor(link, database, last, methods)
    return Opened(schema, columns, schema[1].missing(needs), found, last, deltas)


def _monitor(link: Link, database: str, last: str, methods: tuple[str, ...]) -> tuple[bool, str, list[Delta]]:
    """Start the monitor by the best method the server knows: (continues from `last`, new last, content)."""
    assert link.translator is not None
    requests = link.translator.requests()
    for method in methods:
        link.method = method
        try:
            if method == "monitor_cond_since":
                found, last, updates = link.call(method, database, DATA_MONITOR, requests, last)
                return bool(found), last, link.translator.deltas(updates, method)
            updates = link.call(method, database, DATA_MONITOR, requests)
            return False, NO_TRANSACTION, link.translator.deltas(updates, method)
        except RpcError as error:
            if error.error != "unknown method":
                raise
    raise ProtocolError(f"the server knows none of {', '.join(methods)}")
