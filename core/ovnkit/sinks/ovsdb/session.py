"""A session with an OVSDB database: one I/O thread that keeps a replica current and carries transactions."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import structlog

from ovnkit.api.backoff import Backoff
from ovnkit.engine.garbage import collector_paused
from ovnkit.sinks.ovsdb.handshake import Link, NotUsable, open_database
from ovnkit.sinks.ovsdb.model.needs import Columns, Needs
from ovnkit.sinks.ovsdb.model.replica import Replica, RowChange
from ovnkit.sinks.ovsdb.wire.endpoint import Endpoint, Tls, parse_endpoints
from ovnkit.sinks.ovsdb.wire.errors import Disconnected, ProtocolError, RpcError, TransactionError
from ovnkit.sinks.ovsdb.wire.jsonrpc import Connection, Message, drain
from ovnkit.sinks.ovsdb.wire.monitor import METHODS, NO_TRANSACTION, Delta
from ovnkit.sinks.ovsdb.wire.schema import Schema

log = structlog.get_logger()
Post = Callable[[Callable[[], None]], None]
Reply = Callable[[list[Any] | None, Exception | None], None]
PROBE_INTERVAL = 30.0
"""Seconds of silence after which the server is asked whether it lives; twice that and it is given up."""
BACKOFF_FIRST, BACKOFF_LAST = 0.1, 4.0
"""Seconds between rounds over all endpoints; the last is low because a zone's database is on the same machine."""


class Listener(Protocol):
    """Who follows a session. All methods are called in the reconciler's thread."""

    def on_connected(self, schema: Schema) -> None:
        """A usable server is found and its schema known; the content comes next."""

    def on_loaded(self, complete: bool, changes: list[RowChange]) -> None:
        """The replica is current. When `complete` it was loaded anew, else `changes` happened meanwhile."""

    def on_update(self, changes: list[RowChange]) -> None:
        """The replica has changed."""

    def on_disconnected(self, error: Exception) -> None:
        """The connection is lost; the replica stays as it was."""


class Session:
    """Connects, reconnects, and posts what happens into the reconciler's thread.

    `needs` are the columns to monitor by table; `need()` adds more later. With several endpoints, or one of a
    cluster, only the leader is used. `replica` and `listeners` belong to the reconciler's thread.
    """

    def __init__(
        self,
        name: str,
        endpoints: str | Iterable[str],
        *,
        post: Post,
        database: str = "OVN_Northbound",
        needs: Mapping[str, Iterable[str]] | None = None,
        tls: Tls | None = None,
        leader_only: bool = True,
        probe_interval: float = PROBE_INTERVAL,
        methods: tuple[str, ...] = METHODS,
    ) -> None:
        self.name = name
        self.database = database
        self.replica = Replica()
        self.listeners: list[Listener] = []
        self.connected = False
        self._loaded = False
        self._generation = -1
        self.missing: tuple[str, ...] = ()
        self.endpoint = ""
        self.last_error = ""
        self.reloads = 0
        self.resumed = 0
        self._endpoints = parse_endpoints(endpoints)
        self._tls = tls
        self._leader_only = leader_only
        self._probe = probe_interval
        self._methods = methods
        self._post = post
        self._needs = Needs(needs)
        self._sent_generation = 0
        self._sending = threading.Lock()
        self._link: Link | None = None
        """The open connection where transactions may be sent from any thread."""
        self._number = 0
        self._requests: deque[tuple[list[Any], Reply]] = deque()
        self._replies: dict[int, Reply] = {}
        self._schema: tuple[Any, Schema] | None = None
        self._monitored: Columns = {}
        self._last_transaction = NO_TRANSACTION
        self._stopping = False
        self._open = False
        self._wake_in, self._wake_out = socket.socketpair()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._thread: threading.Thread | None = None
        self._log = log.bind(db=name)

    # --- any thread -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the I/O thread."""
        self._thread = threading.Thread(target=self._run, name=f"ovsdb-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the I/O thread and wait for it; transactions in flight get Disconnected."""
        self._stopping = True
        self._wake()
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None

    def need(self, table: str, columns: Iterable[str]) -> bool:
        """Monitor these columns too; returns whether that is new. When connected the content is loaded anew,
        unless the server has none of them."""
        opened = self._schema
        if not self._needs.add(table, tuple(columns), opened[1] if opened is not None else None):
            return False
        self._wake()
        return True

    def for_writing(self, *, everywhere: bool) -> None:
        """Monitor also what writing takes, `everywhere` in tables nobody named too; call it before `start`."""
        self._needs.writes, self._needs.everywhere = True, everywhere

    @property
    def loaded(self) -> bool:
        """Whether the replica is current and has all the columns that are needed."""
        return self._loaded and self._generation == self._needs.generation

    def transact(self, operations: list[Any], callback: Reply) -> None:
        """Send a transaction; `callback(results, error)` runs in the reconciler's thread.

        The changes it made have reached the replica by then: on one connection update notifications come
        before the reply (RFC 7047, 4.1.6).
        """
        with self._sending:
            self._requests.append((operations, callback))
            link = self._link
            if link is not None and len(self._requests) == 1 and self._sent_generation == self._needs.generation:
                # at once: waking the I/O thread for it takes longer than sending. What fails here fails there too.
                with suppress(Exception):
                    if self._send_requests(link):
                        return
        self._wake()

    def _send_requests(self, link: Link) -> bool:
        """Send what is queued; whether all of it has been written. Called with `_sending` held."""
        written = True
        while self._requests:
            operations, callback = self._requests[0]
            self._number += 1
            self._replies[self._number] = callback
            try:
                written = link.send(
                    {"id": self._number, "method": "transact", "params": [self.database, *operations]}
                )
            except Exception:
                del self._replies[self._number]
                raise
            self._requests.popleft()
        return written

    def _wake(self) -> None:
        with suppress(OSError):
            self._wake_out.send(b"x")

    # --- I/O thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = Backoff(BACKOFF_FIRST, BACKOFF_LAST)
        order = list(self._endpoints)
        random.shuffle(order)
        while not self._stopping:
            for endpoint in order:
                if self._stopping:
                    break
                while self._serve(endpoint):
                    backoff.reset()
                    if self._stopping or self._sent_generation == self._needs.generation:
                        break
            self._sleep(backoff.next())
        self._fail_requests(Disconnected(f"{self.name}: the session is stopped"))
        self._wake_in.close()
        self._wake_out.close()

    def _serve(self, endpoint: Endpoint) -> bool:
        """Use one endpoint until it is lost; returns whether it was usable."""
        usable = False
        error: Exception
        connection: Connection | None = None
        try:
            connection = Connection(endpoint.connect(self._tls), self._wake_in)
            link = Link(connection, self._probe, lambda: self._stopping)
            self._open_link(link, endpoint)
            usable = True
            self._loop(link)
            error = Disconnected("stopped")
        except NotUsable as reason:
            error = reason
        except (OSError, ProtocolError, RpcError, Disconnected) as reason:
            error = reason
        except Exception as reason:
            self._log.exception("ovsdb session failed", endpoint=str(endpoint))
            error = reason
        finally:
            with self._sending:
                self._link = None
            if connection is not None:
                connection.close()
        lost = Disconnected(f"{self.name} ({endpoint}): {error}")
        self._open = False
        self._fail_requests(lost)
        if not self._stopping:
            self._log.info("ovsdb connection ended", endpoint=str(endpoint), reason=str(error), usable=usable)
        self._post(lambda: self._disconnected(lost))
        return usable

    def _open_link(self, link: Link, endpoint: Endpoint) -> None:
        needs, generation = self._needs.snapshot()
        self._sent_generation = generation
        opened = open_database(
            link,
            self.database,
            needs,
            writes=self._needs.writes,
            everywhere=self._needs.everywhere,
            leader_only=self._leader_only,
            methods=self._methods,
            former=(self._schema, self._monitored, self._last_transaction),
        )
        self._schema, self._monitored = opened.schema, opened.columns
        self._last_transaction = opened.last_transaction
        schema = opened.schema[1]
        self._open = True
        self._log.info("ovsdb connected", endpoint=str(endpoint), resumed=opened.resumed, schema=schema.version)

        def arrived() -> None:
            self.connected, self.endpoint, self.missing = True, str(endpoint), opened.missing
            self.last_error = ""
            for listener in list(self.listeners):
                listener.on_connected(schema)
            if not opened.resumed:
                self.replica.begin(schema, opened.columns)
                self.reloads += 1
            else:
                self.resumed += 1
            with collector_paused():
                changes = self.replica.apply(opened.deltas)
            self._loaded, self._generation = True, generation
            for listener in list(self.listeners):
                listener.on_loaded(not opened.resumed, changes)

        self._post(arrived)

    def _loop(self, link: Link) -> None:
        with self._sending:
            self._number = link.last_id
            self._link = link if link.any_thread else None
        while not self._stopping:
            if self._sent_generation != self._needs.generation:
                self._last_transaction = NO_TRANSACTION
                raise Disconnected("more columns are needed")
            if self._requests:
                with self._sending:
                    self._send_requests(link)
            for message in link.receive():
                self._handle(link, message)

    def _handle(self, link: Link, message: Message) -> None:
        method = message.get("method")
        if method is None:
            callback = self._replies.pop(message.get("id", -1), None)
            if callback is not None:
                results, error = outcome(message)
                self._post(lambda: callback(results, error))
            return
        notice = link.notification(message)
        if notice is None:
            return
        if notice.last_transaction:
            self._last_transaction = notice.last_transaction
        if notice.deltas:
            self._updated(notice.deltas)

    def _updated(self, deltas: list[Delta]) -> None:
        def apply() -> None:
            changes = self.replica.apply(deltas)
            for listener in list(self.listeners):
                listener.on_update(changes)

        self._post(apply)

    def _fail_requests(self, error: Exception) -> None:
        callbacks = list(self._replies.values())
        self._replies.clear()
        while self._requests:
            callbacks.append(self._requests.popleft()[1])
        for callback in callbacks:
            self._post(lambda callback=callback: callback(None, error))  # type: ignore[misc]

    def _sleep(self, seconds: float) -> None:
        """Sleep, but wake up to stop or to refuse transactions at once."""
        deadline = time.monotonic() + seconds
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            self._wake_in.settimeout(left)
            with suppress(TimeoutError, BlockingIOError):
                self._wake_in.recv(4096)
            self._wake_in.setblocking(False)
            drain(self._wake_in)
            self._fail_requests(Disconnected(f"{self.name}: not connected"))

    # --- reconciler's thread ----------------------------------------------------------------------------------

    def _disconnected(self, error: Exception) -> None:
        self.last_error = str(error)
        if not self.connected:
            return
        self.connected = self._loaded = False
        for listener in list(self.listeners):
            listener.on_disconnected(error)


def outcome(message: Message) -> tuple[list[Any] | None, Exception | None]:
    """The results of a transaction, or why it failed."""
    error = message.get("error")
    if error is not None:
        if isinstance(error, dict):
            return None, TransactionError(str(error.get("error", "")), str(error.get("details", "")))
        return None, TransactionError(str(error))
    results = message.get("result") or []
    for position, result in enumerate(results):
        if isinstance(result, dict) and "error" in result:
            # An error past the operations is the commit's; the caller knows how many it sent.
            return results, TransactionError(str(result["error"]), str(result.get("details", "")), position)
    return results, None
