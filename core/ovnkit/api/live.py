"""Live sets: selections the core keeps up to date, one element at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, Protocol

from attrs import frozen

from ovnkit.api.kinds import Kind
from ovnkit.api.models import ObjectView
from ovnkit.api.selectors import EVERYTHING, LabelSelector

__all__ = [
    "LiveContent",
    "LiveSet",
]


@frozen
class LiveSet:
    """The values that the selected objects contribute, as a hashable description; equal ones share one set.

    `kind`        what is selected, usually PODS
    `labels`      the objects' own labels
    `namespaces`  one namespace by name, namespaces by their labels, or None for all
    `project`     module-level function from a view to the values it contributes (addresses, references)
    `where`       further condition: a module-level function or a frozen callable, or None
    """

    kind: Kind[ObjectView]
    project: Callable[[Any], Iterable[Hashable]]
    labels: LabelSelector = EVERYTHING
    namespaces: str | LabelSelector | None = None
    where: Callable[[Any], bool] | None = None


class LiveContent(Protocol):
    """The content of a live set, as a sink sees it. Used in the reconciler's thread only."""

    @property
    def values(self) -> Collection[Hashable]:
        """The values in the set now."""

    def subscribe(
        self, changed: Callable[[Collection[Hashable], Collection[Hashable]], None]
    ) -> Callable[[], None]:
        """Call `changed(added, removed)` on each change; returns the function that ends it."""
