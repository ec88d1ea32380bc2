"""Decoding of large JSON answers without the garbage collector in the way."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_was_enabled = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cyclic collector, in all threads, for a piece of work that makes no cycles.

    Decoding a page of pods makes some 100,000 dicts that are gone a moment later by reference counting. The
    collector would walk everything there is again and again meanwhile: two thirds of the time of a list of
    10,000 pods. Pieces in several threads may overlap.
    """
    global _depth, _was_enabled
    with _lock:
        if _depth == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _was_enabled:
                gc.enable()
