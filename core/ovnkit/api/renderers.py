"""Renderers: pure functions from the observed world to items."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from attrs import frozen

from ovnkit.api.items import Item
from ovnkit.api.kinds import Kind, View
from ovnkit.api.world import World

__all__ = [
    "Keys",
    "KeysOf",
    "Render",
    "Renderer",
    "Role",
]


class Role(Enum):
    """Where a renderer runs (design, section 3)."""

    CLUSTER = "cluster"
    ZONE = "zone"
    NODE = "node"


Render = Callable[[World, str], Iterable[Item]]
Keys = Callable[[World], Iterable[str]]


@frozen
class KeysOf:
    """Keys that the objects of a kind ask for: `keys(world, key of the object)`, tracked like any render.

    A key that several objects ask for is rendered once, and gone with the last of them. A change costs what the
    object's own keys cost, however many objects there are.
    """

    kind: Kind[View]
    keys: Callable[[World, str], Iterable[str]]


@frozen
class Renderer:
    """A renderer of one role.

    `each` says which keys it has: a Kind (one per object, key as in the world), KeysOf (what objects ask for), a
    function of the world that returns keys (tracked like any render), or None for a single render with the empty
    key.
    `subject` is the kind whose object an error is reported on (Event); by default `each` when it is a Kind.
    A render yields items; it must not keep state, do I/O or look at a clock.
    """

    name: str
    role: Role
    render: Render
    each: Kind[View] | KeysOf | Keys | None = None
    subject: Kind[View] | None = None

    @property
    def reports_on(self) -> Kind[View] | None:
        """Kind of the object that gets the Event when this renderer's key is rejected."""
        if self.subject is not None:
            return self.subject
        return self.each if isinstance(self.each, Kind) else None
