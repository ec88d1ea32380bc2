"""The HTTP sink: short answers that load balancers outside fetch from this node, a port for each."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from attrs import define

from ovnkit.api.host import HttpAnswer
from ovnkit.api.http_server import Answer, Handler
from ovnkit.engine.refusals import ReportedOwners
from ovnkit.engine.sink import Owner, Report, Sink

log = structlog.get_logger()

Later = Callable[[float, Callable[[], None]], object]

RETRY = 5.0
"""Seconds until a port that somebody else has is tried again."""

PATIENCE = 10.0
"""Seconds a client has for its request."""

BACKLOG = 64


class PortTaken(OSError):
    """A port can't be listened on; the text says why."""


@define
class _Port:
    """A port that is wanted: by whom, with which answers, and the socket while there is one."""

    wanted: dict[Owner, HttpAnswer]
    listener: socket.socket | None = None
    error: str = ""

    @property
    def answer(self) -> HttpAnswer:
        """What is answered: of several owners the first by name has the port."""
        return self.wanted[min(self.wanted, key=str)]


class HttpSink(Sink[HttpAnswer]):
    """Answers GET and HEAD for any path at the ports that items name. See `ovnkit.engine.sink.Sink`.

    `later` runs a function in the reconciler's thread after some seconds. One thread waits for all ports.
    """

    name = "http"
    item_types: tuple[type, ...] = (HttpAnswer,)

    def __init__(self, report: Report, later: Later) -> None:
        self._report = report
        self._reported: ReportedOwners[int] = ReportedOwners(report)
        self._later = later
        self._ports: dict[int, _Port] = {}
        self._owned: dict[Owner, tuple[HttpAnswer, ...]] = {}
        self._dirty: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    # -- what the kernel calls --------------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[HttpAnswer]) -> None:
        """From now on `owner` wants exactly these answers."""
        for item in self._owned.pop(owner, ()):
            self._ports[item.port].wanted.pop(owner, None)
            self._dirty.add(item.port)
        for item in items:
            self._ports.setdefault(item.port, _Port({})).wanted[owner] = item
            self._dirty.add(item.port)
        if items:
            self._owned[owner] = tuple(items)

    def flush(self) -> None:
        """Listen at ports that are wanted, and no longer at others."""
        dirty, self._dirty = self._dirty, set()
        for number in dirty:
            port = self._ports[number]
            if not port.wanted:
                del self._ports[number]
                self._close(port)
                continue
            if port.listener is None:
                self._open(number, port)
            first, *others = sorted(port.wanted, key=str)
            for loser in others:
                self._report(loser, PortTaken(f"port {number} has the answer of {first}"))

    def settle(self) -> None:
        """Nothing to do: sockets don't outlive a process."""

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be applied; ports that others have are waited for, but not here."""
        return not self._dirty

    @property
    def ready(self) -> bool:
        """Nothing has to be loaded."""
        return True

    def status(self) -> dict[str, Any]:
        """State for `/readyz`, metrics and `ovnkit status`."""
        failed = {str(number): port.error for number, port in self._ports.items() if port.error}
        return {
            "connected": True,
            "owned": sum(1 for port in self._ports.values() if port.listener is not None),
            "pending": len(self._dirty),
            "ports": sorted(self._ports),
            "failed": failed,
            "last_error": next((f"port {number}: {error}" for number, error in failed.items()), ""),
        }

    def stop(self) -> None:
        """Close all ports."""
        self._stopped = True
        for port in self._ports.values():
            self._close(port)
        self._ports.clear()

    # -- ports ------------------------------------------------------------------------------------------------

    def _open(self, number: int, port: _Port) -> None:
        try:
            port.listener = _listen(number)
        except (OSError, OverflowError, TypeError) as error:
            code = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(code) if code else str(error)
            if port.error != reason:
                log.warning("port can't be listened on", port=number, error=reason)
                self._reported.refused(number, port.wanted, PortTaken(f"port {number}: {reason}"))
            port.error = reason
            self._later(RETRY, lambda: self._again(number))
            return
        if port.error:
            port.error = ""
            self._reported.over(number)
        self._selector.register(port.listener, selectors.EVENT_READ, port)
        if self._thread.ident is None:
            self._thread.start()

    def _again(self, number: int) -> None:
        if number in self._ports and not self._stopped:
            self._dirty.add(number)
            self.flush()

    def _close(self, port: _Port) -> None:
        if port.listener is not None:
            self._selector.unregister(port.listener)
            port.listener.close()
            port.listener = None

    # -- requests (threads of their own) ----------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select(1.0):
                with contextlib.suppress(OSError, ValueError):  # closed meanwhile, or the client is gone
                    assert isinstance(key.fileobj, socket.socket)
                    connection, _ = key.fileobj.accept()
                    port: _Port = key.data
                    threading.Thread(target=_answer, args=(connection, port.answer), daemon=True).start()


def _listen(port: int) -> socket.socket:
    """A listening socket for both IP families, or for IPv4 where this host has no IPv6.

    Raises OSError, and OverflowError or TypeError when there is no such port.
    """
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return socket.create_server(("", port), backlog=BACKLOG)


class _Handler(Handler):
    """Answers one connection."""

    answer: HttpAnswer
    timeout = PATIENCE

    def do_GET(self) -> None:  # noqa: N802 (the name is the base class')
        """The answer of the port, for any path."""
        answer = self.answer
        self.reply(Answer(answer.status, answer.content_type, answer.body.encode(), answer.headers))

    do_HEAD = do_GET  # noqa: N815 (the name is the base class')


def _answer(connection: socket.socket, answer: HttpAnswer) -> None:
    handler = type("Handler", (_Handler,), {"answer": answer})
    with connection, contextlib.suppress(OSError):
        handler(connection, connection.getpeername(), None)
