"""Who follows single objects: waits of plugins' services for a view that they like."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ovnkit.api.kinds import Kind, View

Callback = Callable[[Any], None]


class Listeners:
    """Callbacks by object. They come and go from any thread; `tell` is called in the reconciler's."""

    def __init__(self) -> None:
        self._callbacks: dict[tuple[Kind[View], str], list[Callback]] = {}
        self._lock = threading.Lock()

    def add(self, kind: Kind[View], key: str, callback: Callback) -> Callable[[], None]:
        """Call back with each new view of one object; returns how to end it."""
        with self._lock:
            self._callbacks.setdefault((kind, key), []).append(callback)

        def leave() -> None:
            with self._lock:
                callbacks = self._callbacks[kind, key]
                callbacks.remove(callback)
                if not callbacks:
                    del self._callbacks[kind, key]

        return leave

    def tell(self, kind: Kind[View], key: str, view: View | None) -> None:
        """An object has a new view; None when it is gone."""
        with self._lock:
            callbacks = list(self._callbacks.get((kind, key), ()))
        for callback in callbacks:
            callback(view)
