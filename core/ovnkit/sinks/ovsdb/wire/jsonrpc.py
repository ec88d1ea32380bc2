"""JSON-RPC as OVSDB speaks it (RFC 7047): JSON objects in a stream, with nothing between them."""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from ovnkit.sinks.ovsdb.wire.errors import ProtocolError

Message = dict[str, Any]
READ_SIZE = 1 << 20
BOUNDARY = re.compile(rb'\}\s*\{\s*"')
"""Outside of strings a `}` is never followed by `{` inside one object, so this is where one ends and the next
begins, unless a string ends in `}{`: then the piece doesn't parse and the next boundary is tried."""


class Framer:
    """Cuts the stream into messages.

    Trying to parse a 10 MB reply after each piece that arrives would cost minutes. So an attempt is made only
    where an object can end, and one that found the object incomplete is repeated only when the buffer has
    doubled or as much time has passed as the attempt took: the work stays linear.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.attempts = 0
        self._clock = clock
        self._buffer = bytearray()
        self._scanned = 0
        self._enough = 0
        self._not_before = 0.0

    @property
    def pending(self) -> bool:
        """Whether bytes wait that may already be a message: `feed(b"")` again soon."""
        return self._possible_end() > 0

    def _possible_end(self) -> int:
        """Where a message may end: after a brace that only white space follows; 0 when there is none.

        The white space stays where it is: it may as well be the middle of a string.
        """
        buffer = self._buffer
        end = len(buffer)
        while end and buffer[end - 1] in b" \t\r\n":
            end -= 1
        return end if end and buffer[end - 1] == ord("}") else 0

    def feed(self, data: bytes) -> list[Message]:
        """Add what was received; returns the messages that are complete now. Raises ProtocolError."""
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        while True:
            match = BOUNDARY.search(buffer, self._scanned)
            if match is None:
                break
            end = match.start() + 1
            if not self._try(end, messages):
                self._scanned = end
        self._scanned = max(0, self._scanned, len(buffer) - 1024)
        end = self._possible_end()
        if end:
            self._try(end, messages)
        return messages

    def _try(self, end: int, messages: list[Message]) -> bool:
        """Parse the first `end` bytes; on success they leave the buffer."""
        if end < self._enough and self._clock() < self._not_before:
            return False
        start = self._clock()
        self.attempts += 1
        piece = bytes(self._buffer[:end])
        try:
            message = orjson.loads(piece)
        except orjson.JSONDecodeError as error:
            if error.pos < len(error.doc):
                return self._cut(error, messages)
            now = self._clock()
            self._enough, self._not_before = 2 * end, 2 * now - start
            return False
        self._accept(message, end, messages)
        return True

    def _cut(self, error: orjson.JSONDecodeError, messages: list[Message]) -> bool:
        """Take the first of several objects: `error` tells where it ends, in characters."""
        head = error.doc[: error.pos].encode()
        try:
            message = orjson.loads(head)
        except orjson.JSONDecodeError:
            raise ProtocolError(f"not JSON: {error}") from error
        self._accept(message, len(head), messages)
        return True

    def _accept(self, message: Any, end: int, messages: list[Message]) -> None:
        if not isinstance(message, dict):
            raise ProtocolError(f"expected a JSON object, got {type(message).__name__}")
        messages.append(message)
        del self._buffer[:end]
        self._scanned = self._enough = 0


class Connection:
    """A connected, non-blocking socket with an output buffer, used by one thread; `wake` may come from any.

    Where `any_thread` holds so may what `send` is called with; a TLS session can't be written while it is read.
    """

    def __init__(self, sock: socket.socket, wake: socket.socket) -> None:
        self.any_thread = not isinstance(sock, ssl.SSLSocket)
        self.received_at = time.monotonic()
        self._sock = sock
        self._framer = Framer()
        self._out: list[memoryview] = []
        self._writing = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(wake, selectors.EVENT_READ, "wake")
        self._events = selectors.EVENT_READ
        self._selector.register(sock, self._events, "peer")
        self._wake = wake

    def close(self) -> None:
        """Close the socket (not the waker)."""
        self._selector.close()
        self._sock.close()

    def send(self, message: Message) -> bool:
        """Send a message, as much of it as goes at once; False when `exchange` has to write the rest."""
        data = memoryview(orjson.dumps(message))
        with self._writing:
            self._out.append(data)
            if len(self._out) == 1:
                self._write()
            return not self._out

    def exchange(self, timeout: float) -> list[Message]:
        """Write what is queued and read what has come, waiting up to `timeout` seconds for the first thing.

        Raises OSError or ProtocolError when the connection is lost.
        """
        if self._framer.pending:
            timeout = min(timeout, 0.005)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if wanted != self._events:
            self._events = wanted
            self._selector.modify(self._sock, wanted, "peer")
        messages: list[Message] = []
        ready = self._selector.select(max(0.0, timeout))
        for key, events in ready:
            if key.data == "wake":
                drain(self._wake)
                continue
            if events & selectors.EVENT_WRITE:
                with self._writing:
                    self._write()
            if events & selectors.EVENT_READ:
                self._read(messages)
        if not ready and self._framer.pending:
            messages += self._framer.feed(b"")
        return messages

    def _read(self, messages: list[Message]) -> None:
        for _ in range(64):
            try:
                data = self._sock.recv(READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self.received_at = time.monotonic()
            messages += self._framer.feed(data)
            if len(data) < 4096 and not isinstance(self._sock, ssl.SSLSocket):
                return

    def _write(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out[0])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
            else:
                self._out.pop(0)


def drain(waker: socket.socket) -> None:
    """Empty the receiving end of a waker."""
    with suppress(BlockingIOError):
        while waker.recv(4096):
            pass
