"""Live sets as columns: their content in the form of the replica, and who must hear of a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from ovnkit.api.live import LiveContent, LiveSet
from ovnkit.sinks.ovsdb.wire.schema import Column
from ovnkit.sinks.ovsdb.wire.values import live_elements

Touch = Callable[[str, str, Collection[Any]], None]
"""(UUID, column, elements): these elements may differ now."""


class LiveView:
    """The content of a live set as one kind of column holds it, shared by all rows that use it so."""

    def __init__(self, content: LiveContent, column: Column, touch: Touch) -> None:
        elements = live_elements(column, content.values)
        self.elements: dict[Any, int] = dict.fromkeys(elements, 1)
        """Elements, each with the number of values it stands for."""
        if len(self.elements) < len(elements):
            self.elements = dict(Counter(elements))
        self.users: set[tuple[str, str]] = set()
        self._column = column
        self._touch = touch
        self._unsubscribe = content.subscribe(self._changed)

    def close(self) -> None:
        """Stop following."""
        self._unsubscribe()

    def _changed(self, added: Collection[Any], removed: Collection[Any]) -> None:
        touched = set()
        for element in live_elements(self._column, added):
            self.elements[element] = self.elements.get(element, 0) + 1
            touched.add(element)
        for element in live_elements(self._column, removed):
            left = self.elements.get(element, 0) - 1
            if left > 0:
                self.elements[element] = left
            else:
                self.elements.pop(element, None)
            touched.add(element)
        if touched:
            for uuid, column in self.users:
                self._touch(uuid, column, touched)


class LiveViews:
    """All live sets in use, one view for each set and type of element."""

    def __init__(self, live: Callable[[LiveSet], LiveContent], touch: Touch) -> None:
        self._live = live
        self._touch = touch
        self._views: dict[tuple[LiveSet, str], LiveView] = {}
        self._keys: dict[LiveView, tuple[LiveSet, str]] = {}

    def use(self, live_set: LiveSet, column: Column, uuid: str) -> LiveView:
        """The view for a column of a row, which is told of changes from now on."""
        key = (live_set, column.key.type)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = LiveView(self._live(live_set), column, self._touch)
            self._keys[view] = key
        view.users.add((uuid, column.name))
        return view

    def release(self, view: LiveView, uuid: str, column: str) -> None:
        """A row no longer uses a view; the last one closes it."""
        view.users.discard((uuid, column))
        if not view.users:
            view.close()
            del self._views[self._keys.pop(view)]
