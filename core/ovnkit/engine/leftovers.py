"""Whose leftovers stay at a start: nobody knows what a plugin or an owner that failed would want."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ovnkit.engine.sink import AnySink, Owner


class Leftovers:
    """Plugins that failed at start, and owners whose renders have failed ever since.

    An owner counts from its first render in this process, when that fails before leftovers went, until one
    succeeds or its object is gone. What an earlier process wrote for it stays that long: a restart must not take
    from a bad object what it would have kept without one.
    """

    def __init__(self) -> None:
        self._plugins: frozenset[str] = frozenset()
        self._owners: dict[str, str] = {}
        self._changed = False

    def keep(self, plugins: Collection[str]) -> None:
        """Plugins that can't say what they want."""
        self._plugins = frozenset(plugins)
        self._changed = True

    def unknown(self, owner: Owner, path: str = "") -> None:
        """The first render of an owner has failed; with `path` nobody knows what belongs below it."""
        self._owners[str(owner)] = path or str(owner)
        self._changed = True

    def known(self, owner: Owner) -> None:
        """An owner has rendered, or is gone."""
        if self._owners and str(owner) in self._owners:
            del self._owners[str(owner)]
            self._changed = True

    def retell(self) -> None:
        """There is another sink to tell."""
        self._changed = True

    def tell(self, sinks: Iterable[AnySink]) -> None:
        """Let the sinks know, if anything has changed."""
        if not self._changed:
            return
        self._changed = False
        paths = self._plugins.union(self._owners.values())
        for sink in sinks:
            sink.keep(paths)
