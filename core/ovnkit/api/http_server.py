"""Small HTTP servers: what the status server, the CNI server and health check ports have in common."""

from __future__ import annotations

import contextlib
import os
import socketserver
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar, NamedTuple

import structlog

__all__ = ["Answer", "Handler", "UnixServer", "listen_unix"]

log = structlog.get_logger()


class Answer(NamedTuple):
    """A response; `headers` are those beside Content-Type and Content-Length."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection; a class that inherits it has `do_GET` and the like. `timeout` is in seconds."""

    timeout: ClassVar[float | None] = 30.0

    def reply(self, answer: Answer) -> None:
        """Send a response, without its body for HEAD. A client that has gone away is no error."""
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        with contextlib.suppress(OSError):
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    def address_string(self) -> str:
        """Clients of a unix socket have no address."""
        return str(self.client_address)

    def log_message(self, format: str, *args: object) -> None:
        """One debug line per request."""
        log.debug("HTTP request", server=type(self).__module__, request=format % args)


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves a unix socket, each connection in a thread of its own, which nobody waits for at the end."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def handle_error(self, *_: object) -> None:
        """A client that goes away early isn't worth a traceback on standard error."""
        log.debug("an HTTP client went away", exc_info=True)


def listen_unix(path: Path, handler: Callable[..., Handler]) -> UnixServer:
    """Listen on a socket that only root may connect to, from the first moment on. Raises OSError."""
    before = os.umask(0o177)
    try:
        return UnixServer(str(path), handler)
    finally:
        os.umask(before)
