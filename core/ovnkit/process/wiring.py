"""How reconciler, plugins and sinks are put together: for `ovnkit run`, and for tests with doubles at the edges.

A new sink is named in one place: a sink of the node in `ovnkit.process.node_sinks`, any other in `Edges` and in
`Wiring.sinks` below. The testing kit makes its doubles from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from ovnkit.api.config import Config
from ovnkit.api.hooks import Hooks, Scope
from ovnkit.api.kinds import Answers, HostFacts, Kind, Resource, Table, View
from ovnkit.api.renderers import Renderer, Role
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.reconciler import Reconciler
from ovnkit.engine.sink import AnySink
from ovnkit.engine.tracking import wall_clock
from ovnkit.plugins.registry import Plugins
from ovnkit.process.databases import ROLES, Database, Databases, schema_columns
from ovnkit.process.watches import kinds_of
from ovnkit.sinks.ovsdb.wire.schema import Schema


class Edges(Protocol):
    """What a process talks to: the real API server, databases and node (`ovnkit.process.edges`), or doubles.

    Each method gets the wiring while it is being made: its `config`, `scope`, `plugins`, `inbox`, `reconciler` and
    `kinds` are there already, in `leftovers` its `kube` sink as well.
    """

    def kube(self, wiring: Wiring) -> AnySink:
        """The sink of Kubernetes objects."""

    def answers(self, wiring: Wiring) -> AnySink:
        """The sink of questions to plugins' services."""

    def database(self, wiring: Wiring, db: str, needs: Mapping[str, set[str]]) -> Database:
        """A database that this process uses. `needs` are the columns to monitor by table."""

    def node(self, wiring: Wiring) -> Sequence[AnySink]:
        """The sinks of a node, in the order in which they are flushed. Asked in processes with the node role."""

    def leftovers(self, wiring: Wiring, role: Role) -> Sequence[AnySink]:
        """Sinks that take no items: once `role` has been rendered, they remove what an earlier process wrote."""

    def rendering(self, wiring: Wiring) -> None:
        """The plugins that run are known and are about to render."""


class Wiring:
    """The engine of one process with its plugins and sinks. `render(schemas)` and `activate(roles)` make it work.

    `known(schemas)` is called, in the reconciler's thread, when all databases have told their schema.
    """

    def __init__(
        self,
        config: Config,
        scope: Scope,
        plugins: Plugins,
        edges: Edges,
        *,
        inbox: Inbox | None = None,
        now: Callable[[], datetime] = wall_clock,
        known: Callable[[Mapping[str, Schema]], None] | None = None,
    ) -> None:
        self.config, self.scope, self.plugins = config, scope, plugins
        self.inbox = inbox if inbox is not None else Inbox()
        self.reconciler = Reconciler(self.inbox, now=now)
        self.kinds = kinds_of(plugin.declaration for plugin in plugins.enabled)
        self.kube = edges.kube(self)
        self.answers = edges.answers(self)
        self.node = edges.node(self) if Role.NODE in scope.roles else ()
        self.databases = Databases(
            scope,
            self.reconciler,
            [plugin.declaration for plugin in plugins.all.values()],
            self.kinds.values(),
            connect=lambda db, needs: edges.database(self, db, needs),
            known=known if known is not None else self.render,
        )
        self._leftovers = {role: edges.leftovers(self, role) for role in scope.roles}
        self._edges = edges
        self.rendering = False
        """Whether `render` has been called."""

    @property
    def sinks(self) -> Sequence[AnySink]:
        """All sinks, for the status."""
        return [
            *(sink for sink, _roles in self._placed()),
            *(s for sinks in self._leftovers.values() for s in sinks),
        ]

    def _placed(self) -> Iterable[tuple[AnySink, frozenset[Role]]]:
        """The sinks that take items, each with the roles whose leftovers it holds."""
        yield self.kube, frozenset()
        yield self.answers, frozenset()
        for db, database in self.databases.databases.items():
            yield database.sink, frozenset({ROLES[db]})
        for sink in self.node:
            yield sink, frozenset({Role.NODE})

    def observes(self, kind: Kind[View]) -> bool:
        """Whether the kind can be observed where this process runs."""
        match kind.source:
            case Resource() | Answers():
                return True
            case Table(db=db):
                return db in self.databases.databases
            case HostFacts():
                return Role.NODE in self.scope.roles

    @property
    def unlisted(self) -> list[str]:
        """Names of the kinds that have not been listed yet, of those that can be observed here."""
        return self.reconciler.unlisted([kind for kind in self.kinds.values() if self.observes(kind)])

    def render(self, schemas: Mapping[str, Schema]) -> None:
        """All databases have answered: the plugins whose columns exist get to know what to render.

        They begin with `activate`. A plugin that raises is quarantined, and what it wrote before stays.
        """
        plugins, reconciler = self.plugins, self.reconciler
        plugins.check_schema(schema_columns(schemas))
        answers = plugins.require(
            Hooks.ovnkit_renderers, config=self.config, scope=self.scope, hooks=plugins.calls
        )
        self._edges.rendering(self)
        for plugin, renderers in answers:
            mine = [renderer for renderer in _checked(plugin, renderers) if renderer.role in self.scope.roles]
            reconciler.add_plugin(plugin, mine)
        reconciler.leftovers.keep(plugins.silent)
        for sink, roles in self._placed():
            sink.plugins_active((*plugins.active(), *plugins.silent))
            reconciler.add_sink(sink, roles)
        self.rendering = True

    def activate(self, roles: frozenset[Role]) -> None:
        """The process now acts in these roles: their renderers run."""
        self.reconciler.activate(roles)
        for role in roles:
            for sink in self._leftovers[role]:
                self.reconciler.add_sink(sink, frozenset({role}))


def _checked(plugin: str, renderers: Iterable[Renderer]) -> list[Renderer]:
    found = list(renderers)
    for renderer in found:
        if not isinstance(renderer, Renderer):
            raise TypeError(f"{plugin}: ovnkit_renderers must yield Renderer objects, not {renderer!r}")
    return found
