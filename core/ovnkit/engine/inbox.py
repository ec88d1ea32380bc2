"""The reconciler's inbox: everything that other threads want done comes through here, in order."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

Call = Callable[[], None]

LONGEST_WAIT = 3600.0
"""Seconds; a moment that an object names may be further away than a queue can wait."""

MAX_BATCH = 1000
"""Messages taken before the reconciler gets a turn: enough to coalesce a burst, few enough to stay responsive."""


class Inbox:
    """A queue of callables with timers, emptied by one thread.

    `post` and `post_later` may be called from any thread. `work`, set by the reconciler, does a slice of its
    work after each batch and returns whether more is left. `run` calls `at_rest` each time nothing is left.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.work: Callable[[], bool] = lambda: False
        self.at_rest: Call = _nothing
        self._queue: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Call]] = []
        self._timers_lock = threading.Lock()
        self._order = itertools.count()

    def post(self, task: Call) -> None:
        """Run `task` in the reconciler's thread, after what was posted before."""
        self._queue.put(task)

    def post_later(self, seconds: float, task: Call) -> Callable[[], None]:
        """Run `task` in the reconciler's thread after `seconds`; returns a function that cancels it."""
        cancelled = False

        def run() -> None:
            if not cancelled:
                task()

        def cancel() -> None:
            nonlocal cancelled
            cancelled = True

        with self._timers_lock:
            heapq.heappush(self._timers, (self.clock() + seconds, next(self._order), run))
        self._queue.put(_nothing)  # wakes the loop, which may be waiting for a later timer
        return cancel

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; `wake` after setting it."""
        more = False
        while not stop.is_set():
            more = self._turn(0.0 if more else None)
            if not more and self._queue.empty():
                _run(self.at_rest)

    def run_until(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Work until `predicate` holds or `timeout` seconds have passed; whether it holds."""
        deadline = self.clock() + timeout
        more = False
        while not predicate():
            if self.clock() >= deadline:
                return False
            more = self._turn(0.0 if more else 0.02)
        return True

    def wake(self) -> None:
        """Make `run` look at its stop event."""
        self._queue.put(_nothing)

    def _turn(self, wait: float | None) -> bool:
        """Take a batch, run due timers, let the reconciler work; whether it has more to do."""
        for task in self._take(wait):
            _run(task)
        for task in self._due():
            _run(task)
        return self.work()

    def _take(self, wait: float | None) -> list[Call]:
        pause = self._until_next_timer()
        wait = pause if wait is None else wait if pause is None else min(wait, pause)
        batch: list[Call] = []
        try:
            batch.append(self._queue.get(timeout=wait) if wait != 0 else self._queue.get_nowait())
            while len(batch) < MAX_BATCH:
                batch.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _until_next_timer(self) -> float | None:
        with self._timers_lock:
            return min(LONGEST_WAIT, max(0.0, self._timers[0][0] - self.clock())) if self._timers else None

    def _due(self) -> list[Call]:
        if not self._timers:
            return []
        due: list[Call] = []
        now = self.clock()
        with self._timers_lock:
            while self._timers and self._timers[0][0] <= now:
                due.append(heapq.heappop(self._timers)[2])
        return due


def _nothing() -> None:
    pass


def _run(task: Call) -> None:
    try:
        task()
    except Exception:
        log.exception("a task of the inbox failed", task=getattr(task, "__qualname__", repr(task)))
