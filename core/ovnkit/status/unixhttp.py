"""HTTP over a unix socket: how the processes of a node are asked for their status."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def read(path: Path, what: str, timeout: float = 3.0) -> bytes:
    """The body of the answer to a GET of `what`; raises OSError when nobody answers within `timeout` seconds."""
    connection = _Connection(path, timeout)
    try:
        connection.request("GET", what)
        return connection.getresponse().read()
    except http.client.HTTPException as error:
        raise OSError(f"{path}: {error}") from None
    finally:
        connection.close()
