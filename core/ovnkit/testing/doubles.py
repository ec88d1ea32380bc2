"""Doubles at the edges of a process: sinks that only remember, beside or in place of the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from ovnkit.api.config import Config
from ovnkit.api.hooks import Declaration, Hooks
from ovnkit.api.items import Item, RowItem
from ovnkit.api.renderers import Role
from ovnkit.engine.answers import AnswerSink
from ovnkit.engine.sink import AnySink, Owner, Sink
from ovnkit.plugins.registry import Plugins, PluginState
from ovnkit.process.databases import Database, connect
from ovnkit.process.node_sinks import NODE_SINKS
from ovnkit.process.wiring import Wiring
from ovnkit.sinks.kube.writer import KubeSink
from ovnkit.sinks.ovsdb.session import Session
from ovnkit.sinks.ovsdb.sink import OvsdbSink


class OnlyThese(Plugins):
    """Plugins that are all enabled, in the given order, whether or not what they need is there."""

    def configure(self, config: Config) -> None:
        """Ask each for its declaration; raises what a plugin raises."""
        for plugin in self.all.values():
            declared = self.calls.call(plugin.name, Hooks.ovnkit_declare, config=config) or Declaration()
            plugin.declaration = evolve(declared, needs=tuple(filter(self.all.__contains__, declared.needs)))
            plugin.state, plugin.why = PluginState.ENABLED, ""
        self._order = tuple(self.all)


def check_enabled(plugins: Plugins, names: Iterable[str]) -> None:
    """Raise AssertionError if one of these plugins doesn't run."""
    off = {name: plugins.all[name].why for name in names if plugins.all[name].state is not PluginState.ENABLED}
    assert not off, off


class MemorySink(Sink[Item]):
    """Remembers what is wanted; `db` is set for rows."""

    idle = True
    ready = True

    def __init__(self, name: str, item_types: tuple[type, ...], db: str = "") -> None:
        self.name = name
        self.item_types = item_types
        self.wanted: dict[Owner, tuple[Any, ...]] = {}
        self.wants = 0
        self.db = db

    @classmethod
    def like(cls, sink: type[AnySink]) -> MemorySink:
        """In place of a sink of the node, of the API server or of answers: with its name, for its items."""
        return cls(sink.name, sink.item_types)

    def want(self, owner: Owner, items: Sequence[Item]) -> None:
        """Remember."""
        self.wants += 1
        self.wanted.pop(owner, None)
        if items:
            self.wanted[owner] = tuple(items)

    def flush(self) -> None:
        """Nothing to do."""

    def settle(self) -> None:
        """Nothing to do."""

    def status(self) -> dict[str, Any]:
        """Nothing to say."""
        return {}

    @property
    def items(self) -> list[Any]:
        """Everything wanted."""
        return [item for items in self.wanted.values() for item in items]


class RecordingSink(OvsdbSink):
    """The sink of a database that remembers what is wanted, too."""

    def __init__(self, db: str, session: Session, **more: Any) -> None:
        super().__init__(db, session, **more)
        self.memory = MemorySink(db, self.item_types, db)

    def want(self, owner: Owner, items: Sequence[RowItem]) -> None:
        """Remember and apply."""
        self.memory.want(owner, items)
        super().want(owner, items)


class DoubleEdges:
    """Memory at all edges (`ovnkit.process.wiring.Edges`), but for the databases that `endpoints` names by `nb`,
    `sb` and `ovs`: these are real, with sinks of the class `sink`.
    """

    def __init__(self, endpoints: Mapping[str, str] | None = None, sink: type[OvsdbSink] = OvsdbSink) -> None:
        self._endpoints = endpoints or {}
        self._sink = sink

    def kube(self, wiring: Wiring) -> AnySink:
        """An API server that nothing is written to."""
        del wiring
        return MemorySink.like(KubeSink)

    def answers(self, wiring: Wiring) -> AnySink:
        """Questions that nobody answers."""
        del wiring
        return MemorySink.like(AnswerSink)

    def database(self, wiring: Wiring, db: str, needs: Mapping[str, set[str]]) -> Database:
        """A real database, else one in memory."""
        if db not in self._endpoints:
            return Database(db, MemorySink(db, OvsdbSink.item_types, db))
        where = self._endpoints[db]
        return connect(wiring.reconciler, db, where, needs, allow_mass_delete=True, sink=self._sink)

    def node(self, wiring: Wiring) -> Sequence[AnySink]:
        """A node that nothing is done to."""
        del wiring
        return [MemorySink.like(sink) for sink in NODE_SINKS]

    def leftovers(self, wiring: Wiring, role: Role) -> Sequence[AnySink]:
        """Of an API server in memory no process left anything."""
        del wiring, role
        return ()

    def rendering(self, wiring: Wiring) -> None:
        """No services."""
