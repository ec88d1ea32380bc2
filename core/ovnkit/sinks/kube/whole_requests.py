"""Connections that send the head and the body of a request in one piece.

The standard library sends them one after the other: two system calls with a chance for other threads to take the
interpreter in between, and a server that is woken for half a request.
"""

from __future__ import annotations

from typing import Any

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class _WholeRequests(HTTPConnection):
    _held: bytearray | None = None

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request."""
        held = self._held = bytearray()
        try:
            super().request(*args, **options)
        finally:
            self._held = None
        super().send(held)

    def send(self, data: Any) -> None:
        """Send data, or keep it until the request is complete."""
        if self._held is None:
            super().send(data)
        else:
            self._held += data


class _WholeTlsRequests(_WholeRequests, HTTPSConnection):
    pass


def send_whole_requests(pool: HTTPConnectionPool) -> None:
    """Let a pool make such connections from now on."""
    pool.ConnectionCls = _WholeTlsRequests if pool.scheme == "https" else _WholeRequests
