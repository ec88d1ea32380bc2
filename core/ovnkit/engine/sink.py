"""The interface of a sink, and what owns items."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from attrs import frozen

from ovnkit.api.items import Item
from ovnkit.api.kinds import Kind, View


@frozen
class Owner:
    """What wants a set of items: one key of one renderer of one plugin."""

    plugin: str
    renderer: str
    key: str

    def __str__(self) -> str:
        return f"{self.plugin}/{self.renderer}/{self.key}"


I_contra = TypeVar("I_contra", bound=Item, contravariant=True)


class Sink(Protocol[I_contra]):
    """Holds the items that should exist and what is there, and applies the difference.

    `Sink[KubeItem]` is a sink that takes items of these types.

    All methods are called in the reconciler's thread and never block; I/O happens in threads of the sink's
    own, which come back through the reconciler's inbox. A sink is level-triggered: it converges from any
    state, and a change from outside is put right.

    Sinks inherit from this class, so that what the kernel tells all of them has one name, one meaning and one
    type. `start`, `stop`, `plugins_active`, `keep` and `observed_changed` do nothing unless a sink needs them.
    """

    name: str
    item_types: tuple[type, ...]
    db: str = ""
    """The database whose rows it takes; empty for other items."""

    def want(self, owner: Owner, items: Sequence[I_contra]) -> None:
        """From now on `owner` wants exactly `items` (of this sink's types); empty when it is gone."""

    def flush(self) -> None:
        """Start applying what differs. Called after each round of renders."""

    def settle(self) -> None:
        """Everything has been rendered once: leftovers that carry our mark and nobody wants may go."""

    def start(self) -> None:
        """Start the threads that look at what is there, where a sink has some."""
        return

    def stop(self) -> None:
        """End the sink's threads; what was applied stays."""
        return

    def plugins_active(self, plugins: Collection[str]) -> None:  # noqa: ARG002 (of no interest by default)
        """These plugins run, or failed to: what a sink finds of any other is a leftover."""
        return

    def keep(self, paths: Collection[str]) -> None:  # noqa: ARG002 (nothing to keep by default)
        """Leftovers of these plugins and owner paths stay, because nobody knows what they want.

        Each call replaces the one before. What an owner has stopped wanting in this process is no leftover.
        """
        return

    def observed_changed(self, kind: Kind[View], key: str) -> None:  # noqa: ARG002 (of no interest by default)
        """The view of an object has come, changed or gone."""
        return

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be applied, or in flight."""

    @property
    def ready(self) -> bool:
        """Whether the sink has loaded what is there and is connected."""

    def status(self) -> dict[str, Any]:
        """State for `/readyz`, metrics and `ovnkit status`.

        `connected` is a truth value, `owned` and `pending` are numbers of items, `last_error` is a text, empty
        when all is well; `held_back` is the number of deletions held back, where a sink does that. `waiting` is
        how many items wait for something that isn't there; `waits` lists some of them, each with `owner`, `item`,
        `wants` (what is missing) and `since` (seconds since the epoch).
        """


AnySink = Sink[Any]
"""A sink among others: what it takes, `item_types` says."""

Report = Callable[[Owner, Exception | None], None]
"""How a sink tells that the items of an owner could not be applied (it keeps trying with back-off). None: what it
had told of this owner is over."""
