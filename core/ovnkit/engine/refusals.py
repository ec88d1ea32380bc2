"""What to do when something is refused that was applied together: find the items to blame, try them again later.

Every consumer (an OVSDB server, Open vSwitch, nftables, the API server) takes many items in one request and
refuses the request as a whole. One bad item must disable nothing but itself, so each sink tries the items in
smaller and smaller groups until those that are refused alone are known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from attrs import define

from ovnkit.api.backoff import Backoff
from ovnkit.engine.sink import Owner, Report

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Refused(Exception):
    """The consumer answered that it does not take what it was given; the text is its message."""


class Halving(Generic[T]):
    """The groups that are still to be tried, the next one first. Parts are tried in their order, so that what
    others need has been applied before them."""

    def __init__(self) -> None:
        self._groups: list[tuple[T, ...]] = []

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def next(self) -> tuple[T, ...]:
        """The group to try now."""
        return self._groups[-1]

    def take(self) -> tuple[T, ...]:
        """Take the next group off."""
        return self._groups.pop()

    def refused(self, parts: Sequence[T]) -> bool:
        """These were refused together: try both halves. False when it is a single part, which is to blame."""
        if len(parts) <= 1:
            return False
        middle = (len(parts) + 1) // 2
        self._groups += [tuple(parts[middle:]), tuple(parts[:middle])]
        return True

    def last(self, parts: Iterable[T]) -> None:
        """Try these when all others have been tried."""
        self._groups.insert(0, tuple(parts))

    def clear(self) -> None:
        """Nothing is to be tried any more."""
        self._groups.clear()


def find_refused(parts: Sequence[T], attempt: Callable[[Sequence[T]], None]) -> dict[T, str]:
    """Apply parts, all at once when they are all right; those that are refused, with the message.

    `attempt` applies some parts and raises Refused when it can't; what else it raises ends the search. It takes
    about 2 log2(n) attempts for each refused one of n parts.
    """
    refused: dict[T, str] = {}
    trials: Halving[T] = Halving()
    if parts:
        trials.last(parts)
    while trials:
        group = trials.take()
        try:
            attempt(group)
        except Refused as error:
            if not trials.refused(group):
                refused |= dict.fromkeys(group, str(error))
    return refused


class ReportedOwners(Generic[K]):
    """Which owners were told of refused items. Each is told that it is over when its last one is."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._owners: dict[K, frozenset[Owner]] = {}

    def refused(self, key: K, owners: Iterable[Owner], error: Exception) -> None:
        """Tell the owners of an item why it was refused."""
        self._owners[key] = frozenset(owners)
        for owner in self._owners[key]:
            self._report(owner, error)

    def over(self, key: K) -> None:
        """An item isn't refused any more."""
        for owner in self._owners.pop(key, ()):
            if not any(owner in others for others in self._owners.values()):
                self._report(owner, None)


@define
class _Refusal:
    message: str
    backoff: Backoff
    due: float


class Refusals(Generic[K]):
    """Items that were refused, by key. Each is tried again after a time that doubles from `first` to `last`
    seconds. `over(key)` is called when one is accepted, or not wanted any more."""

    def __init__(
        self,
        first: float,
        last: float,
        clock: Callable[[], float] = time.monotonic,
        over: Callable[[K], None] = lambda _: None,
    ) -> None:
        self._first, self._last, self._clock, self._over = first, last, clock, over
        self._refusals: dict[K, _Refusal] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._refusals

    def __bool__(self) -> bool:
        return bool(self._refusals)

    def refuse(self, key: K, message: str) -> bool:
        """It was refused (again); whether that is news to tell."""
        before = self._refusals.get(key)
        backoff = before.backoff if before is not None else Backoff(self._first, self._last, jitter=0)
        self._refusals[key] = _Refusal(message, backoff, self._clock() + backoff.next())
        return before is None or before.message != message

    def forget(self, key: K) -> None:
        """It was accepted, or is not wanted any more."""
        if self._refusals and self._refusals.pop(key, None) is not None:
            self._over(key)

    def is_held(self, key: K) -> bool:
        """Whether it is not to be tried now."""
        if not self._refusals:
            return False
        found = self._refusals.get(key)
        return found is not None and found.due > self._clock()

    @property
    def due(self) -> list[K]:
        """What is to be tried again now."""
        if not self._refusals:
            return []
        now = self._clock()
        return [key for key, found in self._refusals.items() if found.due <= now]

    @property
    def pause(self) -> float | None:
        """Seconds until the next one is due; None when nothing was refused."""
        if not self._refusals:
            return None
        return max(0.0, min(found.due for found in self._refusals.values()) - self._clock())

    @property
    def messages(self) -> dict[K, str]:
        """What was refused, and why."""
        return {key: found.message for key, found in self._refusals.items()}
