"""What the reconciler runs: the renders of a renderer by key, and the computations that say which keys it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from attrs import define, field

from ovnkit.api.items import Row
from ovnkit.api.kinds import Kind, View
from ovnkit.api.live import LiveSet
from ovnkit.api.models import NAMESPACES
from ovnkit.api.renderers import KeysOf, Renderer
from ovnkit.api.world import World
from ovnkit.engine.sink import AnySink, Owner
from ovnkit.engine.tracking import Computation, TrackedWorld

_KEYS = " keys"
"""Behind a renderer's name: the owner of the computations that say which keys it has."""


class Render(Computation):
    """One key of one renderer."""

    __slots__ = ("done", "gone", "owner", "renderer", "sinks")

    def __init__(self, owner: Owner, renderer: Renderer) -> None:
        super().__init__()
        self.owner = owner
        self.renderer = renderer
        self.sinks: tuple[AnySink, ...] = ()
        self.done = False
        self.gone = False


class KeySet(Computation):
    """The keys that one object asks for, or all keys of a renderer whose `each` is a function (`of` is empty)."""

    __slots__ = ("done", "gone", "keys", "of", "task")

    def __init__(self, task: Task, of: str) -> None:
        super().__init__()
        self.task = task
        self.of = of
        self.keys: frozenset[str] = frozenset()
        self.done = False
        self.gone = False

    @property
    def owner(self) -> Owner:
        """Under which its failures are kept."""
        return Owner(self.task.plugin, self.task.renderer.name + _KEYS, self.of)

    @property
    def path(self) -> str:
        """Beginning of the owner paths of what may depend on it."""
        return f"{self.task.plugin}/{self.task.renderer.name}"

    @property
    def reports_on(self) -> Kind[View] | None:
        """Kind of the object that gets the Event when it fails."""
        each = self.task.renderer.each
        return each.kind if isinstance(each, KeysOf) else None

    def list(self, world: World) -> frozenset[str]:
        """The keys now."""
        each = self.task.renderer.each
        assert each is not None
        assert not isinstance(each, Kind)
        return frozenset(each.keys(world, self.of) if isinstance(each, KeysOf) else each(world))


@define(eq=False)
class Task:
    """A renderer of a plugin, its renders by key, and its key sets by object."""

    plugin: str
    renderer: Renderer
    active: bool = False
    renders: dict[str, Render] = field(factory=dict)
    key_sets: dict[str, KeySet] = field(factory=dict)
    unlisted: int = 0
    """Key sets that have not been listed yet."""
    _asked: Counter[str] = field(factory=Counter)

    @property
    def kind(self) -> Kind[View] | None:
        """The kind whose objects have a render, or a key set, each."""
        each = self.renderer.each
        return each.kind if isinstance(each, KeysOf) else each if isinstance(each, Kind) else None

    def computation(self, owner: Owner) -> Render | KeySet | None:
        """What runs under this owner: a render, or a computation of keys."""
        if owner.plugin != self.plugin:
            return None
        if owner.renderer == self.renderer.name:
            return self.renders.get(owner.key)
        return self.key_sets.get(owner.key) if owner.renderer == self.renderer.name + _KEYS else None

    def replace(self, key_set: KeySet, keys: frozenset[str]) -> tuple[Collection[str], Iterable[str]]:
        """A key set has other keys now: those that nobody asks for any more, and those that are new."""
        before, key_set.keys = key_set.keys, keys
        fresh = sorted(key for key in keys - before if not self._asked[key])
        self._asked.update(keys - before)
        self._asked.subtract(before - keys)
        gone = [key for key in before - keys if not self._asked[key]]
        for key in gone:
            del self._asked[key]
        return gone, fresh


def need_listed(world: TrackedWorld, row: Row) -> None:
    """A live set may only be applied when what it selects from is known, or its elements would go and return."""
    for value in row.columns.values():
        if type(value) is LiveSet:
            world.need(value.kind)
            if value.namespaces is not None and not isinstance(value.namespaces, str):
                world.need(NAMESPACES)
