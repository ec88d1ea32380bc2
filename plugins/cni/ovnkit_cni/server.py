"""The CNI server: HTTP on a unix socket that only root may use."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Histogram

from ovnkit.api.http_server import Answer, Handler, UnixServer, listen_unix
from ovnkit.api.text import json_bytes, parse_number
from ovnkit_cni.commands import Commands
from ovnkit_cni.shim import PLAIN
from ovnkit_cni.wire import DECODE_FAILURE, INTERNAL, VERSIONS, CniError, Request, decode, parse

log = structlog.get_logger(plugin="cni")

SOCKET_NAME = "ovn-cni-server.sock"
_LARGEST_BODY = 4 << 20
_BODY_TIMEOUT = 10.0
_BUCKETS = tuple(0.02 * 2**power for power in range(14))

DURATION = Histogram(
    "ovnkube_node_cni_request_duration_seconds",
    "Duration of CNI requests",
    ("command", "err"),
    buckets=_BUCKETS,
)


class CniServer:
    """Answers CNI requests, each in a thread of its own, until it is stopped."""

    def __init__(self, run_dir: Path, commands: Commands) -> None:
        self.socket = run_dir / SOCKET_NAME
        self.commands = commands
        self._server: UnixServer | None = None

    def start(self) -> None:
        """Listen. Raises OSError when the directory can't be made ours."""
        directory = self.socket.parent
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        self.socket.unlink(missing_ok=True)
        handler = type("Handler", (_Handler,), {"commands": self.commands})
        self._server = listen_unix(self.socket, handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="cni-server", daemon=True).start()
        log.info("CNI server listens", socket=str(self.socket))

    def stop(self) -> None:
        """Take no more requests; those that wait end with "try again later"."""
        self.commands.stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self.socket.unlink(missing_ok=True)

    @property
    def listening(self) -> bool:
        """Whether requests are taken."""
        return self._server is not None


class _Handler(Handler):
    commands: Commands
    timeout = _BODY_TIMEOUT

    def do_POST(self) -> None:  # noqa: N802 (the name is the base class')
        began = time.monotonic()
        request: Request | None = None
        version = VERSIONS[-1]
        error: CniError | None = None
        result = None
        try:
            request = self._read()
            version = request.version
            result = self.commands.run(request)
        except CniError as found:
            error = found
        except Exception as found:
            log.exception("CNI request failed", pod=request.pod_key if request else "")
            error = CniError(INTERNAL, f"{type(found).__name__}: {found}")
        took = time.monotonic() - began
        _tell(request, error, took)
        if error is not None:
            self._answer(400, error.to_json(version))
        else:
            self._answer(200, {"Result": result})

    def _read(self) -> Request:
        length = self.headers.get("Content-Length", "")
        try:
            size = parse_number(length, 0, _LARGEST_BODY)
        except ValueError:
            raise CniError(DECODE_FAILURE, f"Content-Length {length!r} is missing or too large") from None
        env, config = decode(self.rfile.read(size))
        return parse(env, config)

    def _answer(self, status: int, body: Any) -> None:
        plain = self.headers.get("Accept") == PLAIN
        if plain and status == 200:
            body = body["Result"]
        data = b"" if plain and body is None else json_bytes(body)
        self.reply(Answer(status, PLAIN if plain else "application/json", data))

    def log_message(self, format: str, *args: object) -> None:
        """Requests are logged with what they were about, by `_tell`."""


def _tell(request: Request | None, error: CniError | None, took: float) -> None:
    command = request.command if request is not None else "UNKNOWN"
    DURATION.labels(command, str(error is not None).lower()).observe(took)
    about = {"command": command, "seconds": round(took, 3)}
    if request is not None and request.sandbox:
        about.update(kind="Pod", pod=request.pod_key, sandbox=request.sandbox)
    if error is not None:
        log.warning("CNI request refused", code=error.code, error=error.message, **about)
    else:
        log.info("CNI request done", **about)
