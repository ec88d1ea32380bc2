"""Python's cycle collector, kept away from bulk work that makes no cycles."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_was_enabled = False


def pause() -> None:
    """Stop the collector in all threads until `resume` has been called as often as this."""
    global _depth, _was_enabled
    with _lock:
        if _depth == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _depth += 1


def resume() -> None:
    """End one pause; with the last one the collector runs again if it ran before the first."""
    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0 and _was_enabled:
            gc.enable()


@contextmanager
def collector_paused() -> Iterator[None]:
    """A pause for a piece of work, such as decoding a listing or loading a database.

    Decoding a page of pods makes some 100,000 dicts that are gone a moment later by reference counting. The
    collector would walk everything there is again and again meanwhile: two thirds of the time of a list of
    10,000 pods.
    """
    pause()
    try:
        yield
    finally:
        resume()
