"""The HTTP server for /healthz, /readyz, /metrics and /status, on TCP and on a unix socket."""

from __future__ import annotations

import errno
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from ovnkit.api.errors import ConfigError, OvnkitError
from ovnkit.api.http_server import Answer, Handler, listen_unix

log = structlog.get_logger()


def json_answer(content: object, status: int = 200) -> Answer:
    """An answer in JSON."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    return Answer(status, "application/json", orjson.dumps(content, default=str, option=options))


Route = Callable[[], Answer]


class _Handler(Handler):
    """GET of the routes."""

    routes: Mapping[str, Route]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 (the name is the base class')
        """Answer, or 404 with the paths there are, or 500 when the answer could not be made."""
        route = self.routes.get(self.path.partition("?")[0])
        try:
            answer = route() if route else json_answer({"paths": sorted(self.routes)}, 404)
        except Exception as error:
            log.exception("status request failed", path=self.path)
            answer = json_answer({"error": f"{type(error).__name__}: {error}"}, 500)
        self.reply(answer)


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _TcpServer6(_TcpServer):
    address_family = socket.AF_INET6


class HealthServer:
    """Serves `routes` (by path) until `stop`. Answers are made in the server's threads."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._handler = type("Handler", (_Handler,), {"routes": dict(routes)})
        self._servers: list[socketserver.BaseServer] = []
        self._socket: Path | None = None

    def listen_tcp(self, address: str) -> None:
        """Serve on `host:port` (`[v6]:port`, `:port` for every address); raises ConfigError if it can't."""
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        cls = _TcpServer6 if ":" in host else _TcpServer
        try:
            self._start(cls((host, int(port)), self._handler))
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigError(f"[metrics] bind-address {address!r}: {error}") from None

    def listen_unix(self, path: Path) -> None:
        """Serve on a socket for root only; raises OvnkitError if another process does."""
        _clear(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            server = listen_unix(path, self._handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # another one started in the same moment
                raise _served(path) from None
            raise OvnkitError(f"status socket {path}: {error.strerror or error}") from None
        self._socket = path
        self._start(server)

    def _start(self, server: socketserver.BaseServer) -> None:
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.2,), name="health", daemon=True).start()

    @property
    def addresses(self) -> list[Any]:
        """What is listened on: (host, port) and paths."""
        return [server.server_address for server in self._servers]

    def stop(self) -> None:
        """Close the sockets."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers.clear()
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove a socket that nobody serves any more."""
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise _served(path)


def _served(path: Path) -> OvnkitError:
    return OvnkitError(f"another ovnkit with these roles runs on this node: {path} is served")
