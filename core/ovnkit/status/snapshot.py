"""The state of the process at one moment, taken in the reconciler's thread, for /status, /readyz and /metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

from ovnkit.engine.inbox import Inbox


@frozen
class Snapshot:
    """What was read: `content` is as /status shows it, `taken` is `time.monotonic()`."""

    content: Mapping[str, Any] = field(factory=dict)
    taken: float = 0.0


class Snapshots:
    """Takes snapshots: `read()` runs in the reconciler's thread, which alone may look at sinks.

    A snapshot younger than `MAX_AGE` seconds is used again, so that scrapes cost the reconciler next to nothing.
    """

    MAX_AGE = 0.2
    PATIENCE = 2.0
    """Seconds to wait for a busy reconciler before the last snapshot has to do."""

    def __init__(self, inbox: Inbox, read: Callable[[], Mapping[str, Any]]) -> None:
        self._inbox = inbox
        self._read = read
        self._lock = threading.Lock()
        self._last = Snapshot()

    def take(self) -> Snapshot:
        """The present state, or the last one known if the reconciler is too busy to say."""
        with self._lock:
            if time.monotonic() - self._last.taken > self.MAX_AGE:
                done = threading.Event()
                self._inbox.post(lambda: self._fill(done))
                done.wait(self.PATIENCE)
            return self._last

    def _fill(self, done: threading.Event) -> None:
        try:
            self._last = Snapshot(self._read(), time.monotonic())
        finally:
            done.set()
