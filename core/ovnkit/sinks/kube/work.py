"""Threads of the Kubernetes writer: a pool that works off a queue, and a pacer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

Task = Callable[[], None]


class Pacer:
    """Holds all writers for as long as the server asks for; nothing else slows them down."""

    def __init__(self) -> None:
        self._until = 0.0
        self._stop = threading.Event()
        self.holds = 0

    def hold(self, seconds: float) -> None:
        """From now on for `seconds`, `wait` waits."""
        self.holds += 1
        self._until = max(self._until, time.monotonic() + seconds)

    def wait(self) -> bool:
        """Wait until writing is allowed; False when it was ended by `stop`."""
        while (seconds := self._until - time.monotonic()) > 0:
            if self._stop.wait(seconds):
                return False
        return not self._stop.is_set()

    @property
    def held(self) -> bool:
        """Whether writers are waiting on the server's behalf now."""
        return self._until > time.monotonic()

    def stop(self) -> None:
        """End all waits, now and later."""
        self._stop.set()


class Workers:
    """Up to `size` threads that run tasks in order of arrival; one is started when all others are at work."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._free = threading.Semaphore(0)
        """Threads that have done their task; exact until all `size` have been started."""
        self._stopped = False

    def put(self, task: Task) -> None:
        """Queue a task; called from one thread only."""
        if self._stopped:
            return
        self._queue.put(task)
        # starting one takes the caller longer than the task would wait
        if not self._free.acquire(blocking=False) and len(self._threads) < self._size:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            try:
                task()
            except Exception:
                log.exception("writer task failed")
            self._free.release()

    def stop(self, timeout: float) -> None:
        """Finish what is queued, for up to `timeout` seconds."""
        self._stopped = True
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
