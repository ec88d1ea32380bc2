"""Rows and elements that wait for a row that isn't there yet."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ovnkit.sinks.ovsdb.model.desired import RowTarget

Waiter = tuple[str, str | None]
"""Who waits: (UUID, None) is a row that can't be written yet, (UUID, column) an element that isn't there yet."""


class Waiters:
    """Who waits for which row, and since when."""

    def __init__(self) -> None:
        self.rows: dict[RowTarget, dict[Waiter, None]] = {}
        """By the row or look-up that is missing."""
        self.missing: dict[RowTarget, float] = {}
        """Since when somebody has been waiting for a row (seconds since the epoch)."""
        self.unreferred: dict[RowTarget, None] = {}
        """Wanted rows that only a reference would keep alive, and nothing has referred to yet."""
        self._for_names: dict[str, dict[str, None]] = {}
        """By the row that has the name: the rows that want it too."""

    def clear(self) -> None:
        """The replica is read anew: everything is compared again."""
        self.rows.clear()
        self.unreferred.clear()
        self._for_names.clear()

    def miss(self, target: RowTarget) -> None:
        """A row isn't there; since when is remembered."""
        self.missing.setdefault(target, time.time())

    def wait(self, target: RowTarget, waiter: Waiter) -> None:
        """Somebody waits for a row."""
        self.rows.setdefault(target, {})[waiter] = None
        self.miss(target)

    def wait_for_name(self, holder: str, uuid: str) -> None:
        """A row waits for the name that another wanted row has."""
        self._for_names.setdefault(holder, {})[uuid] = None

    def take(self, target: RowTarget) -> Iterable[Waiter]:
        """Who has waited for a row that is there now."""
        self.missing.pop(target, None)
        self.unreferred.pop(target, None)
        return self.rows.pop(target, ())

    def take_for_name(self, holder: str) -> Iterable[str]:
        """The rows that have waited for the name of a row that is gone, or has another one."""
        return self._for_names.pop(holder, ())
