"""Growing waits with jitter, for whatever is tried again."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from `first` to `most` seconds, each shortened at random by up to half.

    The jitter keeps the daemons of a cluster from coming back in step when the API server does.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self.failures = 0

    def reset(self) -> None:
        """After a success: the next wait is the first one again."""
        self.failures = 0

    def next(self, at_least: float | None = None) -> float:
        """Seconds to wait now; never less than `at_least` (a server's Retry-After)."""
        wait = min(self._most, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return max(at_least or 0.0, wait * random.uniform(0.5, 1.0))
