"""A harness: real reconciler, real plugins, real OVSDB sinks on a throw-away ovsdb-server; the API is in memory.

    with Harness(folder, ["topology"], objects(YAML)) as harness:
        assert "ovn_cluster_router" in harness.names("Logical_Router")

Everything runs in the test's thread (`settle`), except the I/O of the database sessions.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from ovnkit.api.config import Config, PluginsOptions
from ovnkit.api.hooks import Declaration, Hooks, Scope
from ovnkit.api.kinds import Kind, Table, View
from ovnkit.api.renderers import Role
from ovnkit.plugins.registry import Plugins
from ovnkit.process.wiring import Wiring
from ovnkit.sinks.ovsdb.sink import OvsdbSink
from ovnkit.sinks.ovsdb.wire.locations import NAMES
from ovnkit.testing.doubles import DoubleEdges, check_enabled
from ovnkit.testing.manifests import Manifest, MemoryKube
from ovnkit.testing.namewatch import NameWatch
from ovnkit.testing.ovsdb import OvsdbServer

DEADLINE = 30.0
"""Seconds a harness may take to come to rest."""

ALL_ROLES = Scope(frozenset(Role), "n1", "n1", True)

Facts = Iterable[tuple[Kind[View], View]]


def needed_plugins(plugins: Plugins, names: Iterable[str], config: Config) -> list[str]:
    """The named plugins and all that they need, in any order; raises LookupError for one that isn't installed."""
    found: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        plugin = plugins.all.get(name)
        if plugin is None or plugin.why:
            raise LookupError(f"plugin {name}: {plugin.why if plugin else 'not installed'}")
        if name not in found:
            found[name] = None
            declaration = plugins.calls.call(name, Hooks.ovnkit_declare, config=config) or Declaration()
            todo += declaration.needs
    return list(found)


def only(config: Config, names: Sequence[str], everyone: Iterable[str]) -> Config:
    """The configuration with exactly these plugins enabled."""
    return evolve(config, plugins=PluginsOptions(tuple(names), tuple(sorted(set(everyone) - set(names)))))


class _Edges(DoubleEdges):
    """Real databases, and an API server of memory."""

    def __init__(self, endpoints: Mapping[str, str], manifests: Iterable[Manifest]) -> None:
        super().__init__(endpoints)
        self._manifests = manifests
        self.memory: MemoryKube

    def kube(self, wiring: Wiring) -> MemoryKube:
        """Its sink; what it writes is observed."""
        self.memory = MemoryKube(self._manifests, wiring.kinds.values(), wiring.inbox.post)
        self.memory.changed = wiring.reconciler.observe
        return self.memory


class Harness:
    """One run of the named plugins and what they need. `server` has databases nb, sb and ovs.

    `objects` are what the API server holds; renderers' annotations and status end up in `kube.objects`.
    `facts` are views of host facts, and answers to what renderers ask. `shuffle` brings the objects in a random
    order, one at a time, some before and some after their kind has been listed.
    """

    def __init__(
        self,
        server: OvsdbServer,
        names: Sequence[str],
        objects: Iterable[Manifest] = (),
        *,
        config: Config | None = None,
        scope: Scope = ALL_ROLES,
        facts: Facts = (),
        shuffle: random.Random | None = None,
    ) -> None:
        self.server = server
        self.plugins = Plugins.discover()
        base = config or Config()
        self.names_enabled = needed_plugins(self.plugins, names, base)
        self.config = only(base, self.names_enabled, self.plugins.all)
        self.plugins.configure(self.config)
        self.scope = scope
        edges = _Edges(dict.fromkeys(NAMES, server.endpoint), objects)
        self._wiring = wiring = Wiring(self.config, scope, self.plugins, edges)
        self.inbox, self.reconciler = wiring.inbox, wiring.reconciler
        self.kube = edges.memory
        made = {db: database.sink for db, database in wiring.databases.databases.items()}
        self.sinks = {db: sink for db, sink in made.items() if isinstance(sink, OvsdbSink)}
        self.name_watches = [NameWatch(sink) for sink in self.sinks.values()]
        self._feed(wiring.kinds.values(), list(facts), shuffle)

    def _feed(
        self, kinds: Iterable[Kind[View]], facts: list[tuple[Kind[View], View]], rng: random.Random | None
    ) -> None:
        steps: list[Callable[[], None]] = []
        views = [*self.kube.views(), *((kind, view.key, view) for kind, view in facts)]
        listed = [kind for kind in kinds if not isinstance(kind.source, Table)]
        for kind, key, view in views:
            steps.append(lambda kind=kind, key=key, view=view: self.reconciler.observe(kind, [(key, view)]))  # type: ignore[misc]
        ends: list[Callable[[], None]] = [lambda kind=kind: self.reconciler.listed(kind) for kind in listed]  # type: ignore[misc]
        if rng is not None:
            steps = [*steps, *ends]
            rng.shuffle(steps)
        else:
            steps += ends
        self._steps = steps

    # -- from start to stop ---------------------------------------------------------------------------------

    def start(self) -> Harness:
        """Connect, render, apply; returns when nothing is left to do."""
        wiring = self._wiring
        wiring.databases.start()
        if not self.inbox.run_until(lambda: wiring.rendering, DEADLINE):
            raise AssertionError(f"no answer from the databases {wiring.databases.waiting}")
        check_enabled(self.plugins, self.names_enabled)
        wiring.activate(self.scope.roles)
        for step in self._steps:
            self.inbox.post(step)
            self.inbox.run_until(lambda: True, 0)
        self.settle()
        return self

    def settle(self, timeout: float = DEADLINE) -> None:
        """Work until nothing is left to render or apply; raises AssertionError with what is in the way."""
        # twice: what one round applies may come back and wake renderers in the next
        for _ in range(2):
            if not self.inbox.run_until(self._at_rest, timeout):
                raise AssertionError(f"not at rest after {timeout:g} s: {self.problems()}")
            self.inbox.post(lambda: None)
            self.inbox.run_until(lambda: False, 0.05)
        for watch in self.name_watches:
            assert not watch.all_faults(), watch.all_faults()

    def _at_rest(self) -> bool:
        return self.reconciler.synced and all(
            session.loaded for session in self._wiring.databases.sessions.values()
        )

    def problems(self) -> dict[str, Any]:
        """What is wrong: failures of renderers and sinks, kinds that were not listed."""
        return {
            "failures": self.failures,
            "sinks": {db: sink.status() for db, sink in self.sinks.items()},
            "rendered": self.reconciler.rendered,
        }

    @property
    def failures(self) -> dict[str, str]:
        """Failures and rejections by owner path; waiting is none."""
        return {str(item.owner): item.message for item in self.reconciler.failures() if item.what != "waiting"}

    def observe(self, *manifests: Manifest) -> None:
        """Objects come or change, as by a watch; returns when nothing is left to do."""
        for manifest in manifests:
            kind = self.kube.kind_of(manifest)
            view = kind.view(manifest)
            self.kube.objects[kind.name, view.key] = manifest
            self.reconciler.observe(kind, [(view.key, view)])
        self.settle()

    def remove(self, *manifests: Manifest) -> None:
        """Objects go; returns when nothing is left to do."""
        for manifest in manifests:
            kind = self.kube.kind_of(manifest)
            key = kind.view(manifest).key
            self.kube.objects.pop((kind.name, key), None)
            self.reconciler.observe(kind, [(key, None)])
        self.settle()

    def stop(self) -> None:
        """Go as a killed process does: nothing is cleaned up."""
        self._wiring.databases.stop()

    def __enter__(self) -> Harness:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- what came of it ------------------------------------------------------------------------------------

    @property
    def transactions(self) -> dict[str, int]:
        """Transactions so far by database."""
        return {db: sink.transactions for db, sink in self.sinks.items()}

    @property
    def objects(self) -> list[Manifest]:
        """The objects as they are now, with what renderers wrote into them."""
        return list(self.kube.objects.values())

    def names(self, table: str, db: str = "nb") -> set[str]:
        """The names of a table's rows in the real database."""
        return {row["name"] for row in self.server.rows(table, NAMES[db])}

    def content(self) -> Content:
        """Everything that is in the databases."""
        return content(self.server, self.sinks)


Content = dict[str, dict[str, dict[str, Any]]]
"""Rows by `db/table` and UUID."""


def content(server: OvsdbServer, databases: Mapping[str, Any] | Iterable[str] = NAMES) -> Content:
    """Everything that is in the databases, comparable: sets and maps sorted, versions left out."""
    found: Content = {}
    for db in databases:
        schema = server.call("get_schema", [NAMES[db]])
        for table in schema["tables"]:
            rows = server.rows(table, NAMES[db])
            if rows:
                found[f"{db}/{table}"] = {row["_uuid"]: _canonical(row) for row in rows}
    return found


def _canonical(row: Mapping[str, object]) -> dict[str, Any]:
    return {name: _sorted(value) for name, value in row.items() if name not in ("_uuid", "_version")}


def _sorted(value: object) -> Any:
    if isinstance(value, list) and len(value) == 2 and value[0] in ("set", "map"):
        return [value[0], sorted(value[1], key=repr)]
    return value


def difference(one: Content, other: Content) -> list[str]:
    """How two contents differ, a line per row; empty when they are equal."""
    lines = []
    for table in sorted(one.keys() | other.keys()):
        left, right = one.get(table, {}), other.get(table, {})
        for row in sorted(left.keys() | right.keys()):
            if row not in right:
                lines.append(f"- {table} {row} {left[row]}")
            elif row not in left:
                lines.append(f"+ {table} {row} {right[row]}")
            else:
                changed = {n: (v, right[row].get(n)) for n, v in left[row].items() if right[row].get(n) != v}
                if changed:
                    lines.append(f"! {table} {row} {changed}")
    return lines


def make_server(folder: Path) -> OvsdbServer:
    """A started server with the three databases, each with its one global row as OVN's daemons make it."""
    server = OvsdbServer(folder, *NAMES.values()).start()
    for database, table in zip(NAMES.values(), ("NB_Global", "SB_Global", "Open_vSwitch"), strict=True):
        if not server.rows(table, database):
            chosen = str(uuid.uuid5(uuid.NAMESPACE_OID, table))
            server.transact(database, [{"op": "insert", "table": table, "uuid": chosen, "row": {}}])
    return server
