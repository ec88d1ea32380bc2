"""The raw HTTP client of the floors: sockets, bytes, and as many threads as help."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

import orjson

MERGE = "application/merge-patch+json"
LISTED = ("/api/v1/namespaces", "/api/v1/nodes", "/api/v1/pods", "/api/v1/services",
          "/apis/discovery.k8s.io/v1/endpointslices", "/apis/networking.k8s.io/v1/networkpolicies")  # fmt: skip
PAGE = 1000
CONCURRENCIES = (1, 4, 8, 16)
Request = tuple[str, str, Any, str]
"""Method, path, body, content type."""


class Connection:
    """One kept-alive connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._host = f"{address[0]}:{address[1]}"
        self.socket = socket.create_connection(address, timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> int:
        """Send a request and read the answer's head; the length of its body, -1 when chunked."""
        data = b"" if body is None else orjson.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        self.socket.sendall(head.encode() + data)
        status = int(self._file.readline().split()[1])
        length = -1
        while (line := self._file.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {self._file.read(max(0, length)).decode()[:300]}")
        return length

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> bytes:
        """The body of an answer; raises RuntimeError for 400 and above."""
        length = self.send(method, path, body, kind)
        return self._file.read(length) if length >= 0 else b"".join(iter(self.chunk, b""))

    def chunk(self) -> bytes:
        """The next chunk of a streamed answer."""
        size = int(self._file.readline() or b"0", 16)
        data = self._file.read(size)
        self._file.readline()
        return data

    def close(self) -> None:
        """Close it; wakes a reader."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Api:
    """Raw access to one API server."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self.address = host, int(port)
        self.one = Connection(self.address)

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """A decoded answer."""
        return orjson.loads(self.one.request(method, path, body, kind))

    def many(self, requests: Iterable[Request], concurrency: int = 4) -> float:
        """Send all; seconds taken. Raises the first error."""
        work = iter(list(requests))
        errors: list[Exception] = []
        lock = threading.Lock()

        def run() -> None:
            connection = Connection(self.address)
            try:
                while not errors:
                    with lock:
                        request = next(work, None)
                    if request is None:
                        return
                    connection.request(*request)
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        start = time.monotonic()
        threads = [threading.Thread(target=run, daemon=True) for _ in range(concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return time.monotonic() - start

    def best(self, make: Callable[[int], Sequence[Request]]) -> tuple[float, int]:
        """Seconds per request at the best concurrency, and that; `make(n)` gives each attempt its requests."""
        found = []
        for attempt, concurrency in enumerate(CONCURRENCIES):
            requests = make(attempt)
            found.append((self.many(requests, concurrency) / len(requests), concurrency))
        return min(found)

    def list_all(self) -> tuple[float, dict[str, int]]:
        """List and decode everything ovnkit watches, in pages: seconds taken, and objects by path."""
        start = time.monotonic()
        counts = dict.fromkeys(LISTED, 0)
        for path in LISTED:
            token = ""
            while True:
                answer = self.request("GET", f"{path}?limit={PAGE}{'&continue=' + quote(token) if token else ''}")
                counts[path] += len(answer["items"])
                token = answer["metadata"].get("continue")
                if not token:
                    break
        return time.monotonic() - start, counts


class Watch:
    """A watch in a thread: `seen[key]` is the time of the first event for which `wanted(object)` holds."""

    def __init__(self, api: Api, path: str, wanted: Callable[[dict[str, Any]], bool]) -> None:
        self.seen: dict[str, float] = {}
        version = api.request("GET", f"{path}?limit=1")["metadata"]["resourceVersion"]
        self._wanted = wanted
        self._connection = Connection(api.address)
        self._connection.socket.settimeout(None)
        self._connection.send("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=3000")
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        rest = b""
        try:
            while piece := self._connection.chunk():
                now = time.monotonic()
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] != "BOOKMARK" and self._wanted(event["object"]):
                        self.seen.setdefault(event["object"]["metadata"]["name"], now)
        except (OSError, ValueError):
            return

    def close(self) -> None:
        """End it."""
        self._connection.close()
