"""How long to wait before something that failed is tried again: twice as long each time, up to a limit."""

from __future__ import annotations

import random

__all__ = ["Backoff", "doubled"]


def doubled(first: float, longest: float, times: int) -> float:
    """`first` seconds doubled `times` times, but no more than `longest`."""
    return float(min(longest, first * 2.0 ** min(max(times, 0), 30)))


class Backoff:
    """Waits that double from `first` to `longest` seconds, each shortened at random by up to the part `jitter`.

    The jitter keeps the daemons of a cluster from coming back in step when a server does.
    """

    __slots__ = ("_first", "_jitter", "_longest", "failures")

    def __init__(self, first: float, longest: float, *, jitter: float = 0.5) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self.failures = 0

    def reset(self) -> None:
        """After a success: the next wait is the first one again."""
        self.failures = 0

    def next(self, at_least: float | None = None) -> float:
        """Seconds to wait now; never less than `at_least` (a server's Retry-After)."""
        wait = doubled(self._first, self._longest, self.failures)
        self.failures += 1
        return max(at_least or 0.0, wait * random.uniform(1 - self._jitter, 1) if self._jitter else wait)
