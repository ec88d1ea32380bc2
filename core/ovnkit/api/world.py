"""The observed world as a renderer sees it. Whatever is read is remembered, and a change renders again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from datetime import datetime
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from attrs import field, frozen

from ovnkit.api.kinds import Kind, V, View

__all__ = [
    "Pool",
    "World",
    "derived",
]

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A", bound=Hashable)
A_co = TypeVar("A_co", bound=Hashable, covariant=True)


@frozen(eq=False)
class Pool(Generic[A_co]):
    """Things that are handed out once each: addresses of a subnet, node ids. Define it at module level.

    `candidates(world, scope)` yields what may be handed out in `scope` (a node's name, a network), in order;
    it is read through the world, so a changed subnet takes effect. `taken(world, scope)` gives what objects
    already hold (`{owner: values}`, from their annotations); it is read once per scope before anything is
    handed out, so a restart never gives an address of one owner to another.
    `what` names one value in messages ("address").
    """

    name: str
    what: str
    candidates: Callable[[World, str], Iterable[A_co]]
    taken: Callable[[World, str], Mapping[str, Collection[A_co]]] = field(default=lambda _world, _scope: {})


class World(Protocol):
    """Reads are tracked per render: use it only inside a renderer or a derived function."""

    def get(self, kind: Kind[V], key: str) -> V | None:
        """The object, or None. Tracks this one object."""

    def list(self, kind: Kind[V], index: str = "", value: str = "") -> Collection[V]:
        """All objects of a kind, or those an index lists under `value`. Tracks members and their content."""

    def keys(self, kind: Kind[View], index: str = "", value: str = "") -> Collection[str]:
        """As `list`, but only keys; tracks which members there are, not what they contain."""

    def allocate(self, pool: Pool[A], scope: str, owner: str, wanted: A | None = None) -> A:
        """A value of the pool for `owner`: `wanted`, or the one it holds already, or the next free one.

        The allocation lives as long as the renders of this key ask for it; one that no longer asks gives it
        back. Raises Reject if `wanted` is held by another owner or outside the pool, Exhausted when the pool
        is empty.
        """

    def passed(self, moment: datetime) -> bool:
        """Whether a moment (with a time zone) is over, by this host's clock; runs again when it comes.

        The only way for a render to depend on time: a moment that an object names, never "now".
        """

    def derive(self, function: Derived[Any, T], arguments: tuple[object, ...]) -> T:
        """The value of a derived function; called by `Derived`, not by plugins."""


@frozen(eq=False)
class Derived(Generic[P, T]):
    """A pure function of the world whose value is shared and remembered. Made by `@derived`.

    A renderer that calls it is rendered again only when the *value* changes, not whenever something that the
    function read has changed. Arguments must be hashable. `Retry` and `Reject` raised inside are remembered
    and raised to each caller.
    """

    function: Callable[Concatenate[World, P], T]

    def __call__(self, world: World, *args: P.args, **kwargs: P.kwargs) -> T:
        """The value for these arguments (positional only)."""
        if kwargs:
            raise TypeError("derived functions take positional arguments only")
        return world.derive(self, args)


def derived(function: Callable[Concatenate[World, P], T]) -> Derived[P, T]:
    """Decorator: share and remember a pure function of the world."""
    return Derived(function)
