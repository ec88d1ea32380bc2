"""Runs the API server in this process: listening socket, readiness, orderly stop."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from attrs import evolve, frozen

from . import bootstrap
from .api import Api
from .app import App
from .state import Cluster, Settings

log = structlog.get_logger()

_KEEP_ALIVE_SECONDS = 300


@frozen
class Listen:
    """Where to listen; port 0 takes any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Listen":
        """From ``HOST:PORT`` or ``[V6]:PORT``; raises :class:`ValueError`."""
        host, separator, port = text.rpartition(":")
        if not separator or not port.isdigit():
            raise ValueError(f"expected HOST:PORT, found {text!r}")
        return cls(host.strip("[]"), int(port))

    def bind(self) -> socket.socket:
        """A listening socket in the caller's network namespace; ``::`` takes IPv4 too."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        both = self.host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((self.host, self.port), family=family, backlog=2048, dualstack_ipv6=both)


class _Server(uvicorn.Server):
    """Ends the watches before it waits for connections to finish."""

    def __init__(self, config: uvicorn.Config, cluster: Cluster, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._cluster = cluster
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._cluster.closing = True
        self._cluster.store.wake_all()
        super().handle_exit(sig, frame)


def serve(
    settings: Settings,
    listen: Listen,
    tls: tuple[Path, Path] | None = None,
    ready_fd: int | None = None,
    ready_file: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; the URL goes to the ready file (and descriptor) once requests are taken."""
    listener = listen.bind()
    host, port = listener.getsockname()[:2]
    url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    cluster = Cluster.open(evolve(settings, url=url))
    api = Api(cluster)
    bootstrap.populate(cluster)
    cluster.store.begin()

    def started() -> None:
        api.deletes.resume()
        log.info("serving", url=url, data=str(settings.data_dir or ""), revision=cluster.store.revision)
        if ready_file is not None:
            fresh = ready_file.with_name(ready_file.name + ".new")
            fresh.write_text(url + "\n")
            fresh.replace(ready_file)
        if ready_fd is not None:
            os.write(ready_fd, f"{url}\n".encode())
            os.close(ready_fd)

    config = uvicorn.Config(
        App(api),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    try:
        _Server(config, cluster, started).run(sockets=[listener])
    finally:
        cluster.store.close()
