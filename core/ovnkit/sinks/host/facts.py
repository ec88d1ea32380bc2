"""Host facts as a source of views: links, addresses and routes of this network namespace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from ovnkit.api.kinds import Changes, HostFacts, Kind, View
from ovnkit.sinks.host.netlink import Changes as FactChanges
from ovnkit.sinks.host.netlink import Monitor, Watched

OnEvent = Callable[[Kind[View], Changes], None]
OnListed = Callable[[Kind[View]], None]


READ_DEADLINE = 10.0
"""Seconds for reading a kind of facts once."""


def read_once(kind: Kind[View]) -> list[Any]:
    """The views of a kind of host facts as they are now; raises TimeoutError when the kernel doesn't answer."""
    views: dict[str, Any] = {}
    listed = threading.Event()
    watcher = HostFactsWatcher([kind], lambda _kind, changes: views.update(changes), lambda _kind: listed.set())
    watcher.start()
    try:
        if not listed.wait(READ_DEADLINE):
            raise TimeoutError(f"the kernel did not tell its {kind.name} within {READ_DEADLINE:.0f} s")
    finally:
        watcher.stop()
    return [view for view in views.values() if view is not None]


class HostFactsWatcher:
    """Watches the kinds whose source is `HostFacts`.

    `on_event(kind, changes)` gets batches of (key, view, or None when it is gone); `on_listed(kind)` follows
    once everything has been told. Both are called in a thread of this class.
    """

    def __init__(self, kinds: Iterable[Kind[View]], on_event: OnEvent, on_listed: OnListed) -> None:
        self._kinds: dict[str, list[Kind[View]]] = {}
        for kind in kinds:
            if not isinstance(kind.source, HostFacts):
                raise TypeError(f"{kind.name} is no host fact")
            if kind.source.what not in ("links", "addresses", "routes"):
                raise ValueError(f"{kind.name}: there is no host fact {kind.source.what!r}")
            self._kinds.setdefault(kind.source.what, []).append(kind)
        self._on_event = on_event
        self._on_listed = on_listed
        self._monitor = Monitor(Watched(frozenset(self._kinds)), self._changed, self._listed)

    def start(self) -> None:
        """Begin to watch."""
        self._monitor.start()

    def stop(self) -> None:
        """Stop watching."""
        self._monitor.stop()

    def _changed(self, what: str, changes: FactChanges) -> None:
        views = [(key, fact.view if fact is not None else None) for key, fact in changes]
        for kind in self._kinds.get(what, ()):
            self._on_event(kind, views)

    def _listed(self) -> None:
        for kinds in self._kinds.values():
            for kind in kinds:
                self._on_listed(kind)
