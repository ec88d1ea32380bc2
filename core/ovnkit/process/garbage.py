"""Python's cycle collector: off while everything is loaded, and blind afterwards to what was loaded.

A first load makes a million objects and hardly any garbage cycles. Left alone, the collector walks them again and
again: a third of the CPU time of a start with 10,000 pods. Afterwards each full collection would stop the process
for as long as it takes to walk them once (docs/performance.md).

Between bursts it runs when nothing is waiting: in the middle of the way from a policy to its rows, the few
milliseconds of one collection are as much as everything else.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from ovnkit.engine.garbage import pause, resume

PATIENCE = 120.0
"""Seconds after which the collector runs also in a process that is still loading: it may never be done."""

_POLL = 0.1
_THRESHOLDS = (10_000, 20, 10)
"""Python's own are (700, 10, 10) in 3.11; a burst of 1,000 pods makes some 100,000 objects that stay."""
_AT_REST = (1_000, 20, 100)
"""The same for collections at rest, which are smaller and come sooner; full ones as rarely as by the above."""


def collect_at_rest() -> None:
    """Run the collector if that is worth while; to be called when there is nothing else to do."""
    young, middle, old = gc.get_count()
    if young < _AT_REST[0] or not gc.isenabled():
        return
    gc.collect(0 if middle < _AT_REST[1] else 1 if old < _AT_REST[2] else 2)


class LoadPhase:
    """Keeps the collector away from `begin` until `loaded()`; then it leaves what is there alone for good."""

    def __init__(self, loaded: Callable[[], bool], later: Callable[[float, Callable[[], None]], object]) -> None:
        """`later` runs a function in the reconciler's thread after a time."""
        self._loaded = loaded
        self._later = later
        self._until = 0.0
        self._looking = False

    def begin(self) -> None:
        """Much is about to be loaded; also when an earlier load isn't over."""
        self._until = time.monotonic() + PATIENCE
        if not self._looking:
            pause()
            self._looking = True
            self._later(_POLL, self._look)

    def _look(self) -> None:
        loaded = self._loaded()
        if not loaded and time.monotonic() < self._until:
            self._later(_POLL, self._look)
            return
        self._looking = False
        if loaded:
            # without a collection first: it takes 0.7 s of a load of 10,000 pods and finds 1,400 objects
            gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
        resume()
