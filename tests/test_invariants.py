"""The design's invariants on the real thing: in-tree plugins, the reconciler, a real ovsdb-server.

Hypothesis drives histories of objects, with crashes and tampering at any point. Whatever the history, the end
must equal a clean render of the objects as they are then; rows of others stay; a restart writes nothing.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovnkit.api.config import Config
from ovnkit.api.items import Annotation
from ovnkit.api.kinds import Kind
from ovnkit.api.models import NAMESPACES, NODES, PODS
from ovnkit.api.renderers import Role
from ovnkit.engine.sink import AnySink, Owner
from ovnkit.plugins.registry import Plugins
from ovnkit.process.wiring import Wiring
from ovnkit.sinks.kube.writer import KubeSink
from ovnkit.sinks.ovsdb.sink import OvsdbSink
from ovnkit.testing.bench import scope
from ovnkit.testing.doubles import DoubleEdges, MemorySink, check_enabled
from ovnkit.testing.harness import only
from ovnkit.testing.objects import namespace, node, pod
from ovnkit.testing.ovsdb import OvsdbServer

pytestmark = pytest.mark.ovn

PLUGINS = ("topology", "pods", "gateway", "services")
CONFIG = Config()
SCOPE = scope(Role.ZONE, node="n1", zone="global", per_node_zones=False)
NB = "OVN_Northbound"
FOREIGN = {"name": "of-somebody-else", "external_ids": ["map", [["owner", "somebody"]]]}
GATEWAY = (
    '{{"default":{{"mode":"shared","bridge-id":"br-ex","interface-id":"br-ex_{0}","mac-address":"02:00:00:00:00:0{1}",'
    '"ip-addresses":["192.0.2.{1}/24"],"next-hops":["192.0.2.254"],"node-port-enable":"true","vlan-id":"0"}}}}'
)


class Api:
    """What the API server holds: views by kind and key. It outlives the process."""

    def __init__(self) -> None:
        self.objects: dict[Kind[Any], dict[str, Any]] = {kind: {} for kind in (NODES, NAMESPACES, PODS)}

    def put(self, kind: Kind[Any], view: Any) -> None:
        before = self.objects[kind].get(view.key)
        if before is not None and before.uid == view.uid:  # a user's change keeps what ovnkit annotated
            view = evolve(view, annotations={**before.annotations, **view.annotations})
        self.objects[kind][view.key] = view


class ApiSink(MemorySink):
    """Applies annotations to the API, at once."""

    def __init__(self, api: Api, wiring: Wiring) -> None:
        super().__init__(KubeSink.name, KubeSink.item_types)
        self.api = api
        self.wiring = wiring

    def want(self, owner: Owner, items: Sequence[Any]) -> None:
        super().want(owner, items)
        for item in items:
            view = self.api.objects[item.kind].get(item.object) if isinstance(item, Annotation) else None
            if view is not None and view.annotations.get(item.name) != item.value:
                merged = {**view.annotations, item.name: item.value}
                view = evolve(view, annotations={k: v for k, v in merged.items() if v is not None})
                self.api.objects[item.kind][item.object] = view
                self.wiring.inbox.post(partial(self.wiring.reconciler.observe, item.kind, [(item.object, view)]))


class Edges(DoubleEdges):
    """A real northbound, and the API."""

    def __init__(self, server: OvsdbServer, api: Api) -> None:
        super().__init__({"nb": server.endpoint})
        self.api = api

    def kube(self, wiring: Wiring) -> AnySink:
        return ApiSink(self.api, wiring)


ALIVE: list[Process] = []


class Process:
    """One life of a zone process: from its start to its crash."""

    def __init__(self, server: OvsdbServer, api: Api, *, plugins: Sequence[str] = PLUGINS) -> None:
        self.api = api
        found = Plugins.discover()
        config = only(CONFIG, plugins, found.all)
        found.configure(config)
        self.wiring = wiring = Wiring(config, SCOPE, found, Edges(server, api))
        self.inbox, self.reconciler = wiring.inbox, wiring.reconciler
        sink = wiring.databases.databases["nb"].sink
        assert isinstance(sink, OvsdbSink)
        self.sink, self.session = sink, sink.session
        self.written: list[Any] = []
        transact = self.session.transact
        self.session.transact = lambda ops, done: (self.written.extend(ops), transact(ops, done))  # type: ignore
        ALIVE.append(self)
        wiring.databases.start()
        assert self.inbox.run_until(lambda: wiring.rendering, 30)
        check_enabled(found, plugins)
        self._list(set(wiring.kinds.values()))
        wiring.activate(SCOPE.roles)

    def _list(self, kinds: set[Kind[Any]]) -> None:
        """The first listings, in any order."""
        order = sorted(kinds, key=lambda kind: kind.name)
        random.shuffle(order)
        for kind in order:
            views = list(self.api.objects.get(kind, {}).items())
            random.shuffle(views)
            self.reconciler.observe(kind, views)
            self.reconciler.listed(kind)

    def see(self, kind: Kind[Any], key: str) -> None:
        self.reconciler.observe(kind, [(key, self.api.objects[kind].get(key))])

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.inbox._turn(0.001)

    def settle(self) -> None:
        """Work until all is as wanted, everything that happened to the database before included."""
        assert self.inbox.run_until(lambda: self.sink.ready, 30), self.sink.status()
        seen: list[Any] = []
        self.session.transact([], lambda *answer: seen.append(answer))
        assert self.inbox.run_until(lambda: bool(seen), 30)
        done = self.inbox.run_until(lambda: self.sink.ready and self.reconciler.synced, 30)
        assert done, (self.sink.status(), self.reconciler.failures())
        failures = [failure for failure in self.reconciler.failures() if failure.what in ("failed", "refused")]
        assert not failures

    def crash(self) -> None:
        self.wiring.databases.stop()
        ALIVE.remove(self)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[OvsdbServer, OvsdbServer]]:
    folder = Path(tempfile.mkdtemp(prefix="ovnkit-"))
    try:
        with OvsdbServer(folder / "a", NB) as tried, OvsdbServer(folder / "b", NB) as clean:
            yield tried, clean
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tables(server: OvsdbServer) -> list[str]:
    return sorted(server.call("get_schema", [NB])["tables"])


def content(server: OvsdbServer) -> dict[str, dict[str, Any]]:
    """Everything in a database, by UUID, without what the server itself counts."""
    found: dict[str, dict[str, Any]] = {}
    for table in tables(server):
        for row in server.rows(table):
            row.pop("_version", None)
            found[f"{table}/{row.pop('_uuid')}"] = {name: _plain(value) for name, value in row.items()}
    return found


def _plain(value: Any) -> Any:
    """Sets and maps in the order of their elements."""
    return sorted(map(repr, value[1])) if isinstance(value, list) and value[0] in ("set", "map") else repr(value)


def wipe(server: OvsdbServer) -> None:
    server.transact(NB, [{"op": "delete", "table": table, "where": []} for table in tables(server)])
    server.transact(NB, [{"op": "insert", "table": "NB_Global", "row": {}}])


NO_IDS = ("external_ids", ["map", []])
ALTERATIONS: dict[str, list[tuple[str, Any]]] = {
    "Logical_Switch": [NO_IDS, ("name", "renamed"), ("ports", ["set", []])],
    "Logical_Switch_Port": [NO_IDS, ("addresses", ["set", ["unknown", "router"]]), ("options", ["map", []])],
    "Address_Set": [NO_IDS, ("addresses", ["set", ["10.9.9.9"]])],
    "Logical_Router": [NO_IDS, ("name", "renamed"), ("static_routes", ["set", []])],
    "NAT": [NO_IDS, ("external_ip", "203.0.113.9")],
}


def tamper(server: OvsdbServer, dice: random.Random) -> None:
    """Delete, alter or duplicate a row, as a careless hand would."""
    table = dice.choice(sorted(ALTERATIONS))
    rows = [row for row in server.rows(table) if row.get("name") != FOREIGN["name"]]
    if not rows:
        return
    row = dice.choice(rows)
    where = [["_uuid", "==", ["uuid", row["_uuid"]]]]
    how = dice.choice(["delete", "alter", "duplicate"])
    if how == "delete":
        operation: dict[str, Any] = {"op": "delete", "table": table, "where": where}
    elif how == "alter" or table not in ("Logical_Switch", "Logical_Router"):
        column, value = dice.choice(ALTERATIONS[table])
        operation = {"op": "update", "table": table, "where": where, "row": {column: value}}
    else:
        copy = {"name": row["name"], "external_ids": row["external_ids"]}
        operation = {"op": "insert", "table": table, "row": copy}
    try:
        server.transact(NB, [operation])
    except RuntimeError as error:
        assert "referential" in str(error)  # noqa: PT017  - some rows are held by others; then nothing happened


nodes = st.builds(
    lambda number, subnet, gateway: (
        NODES,
        f"n{number}",
        node(
            f"n{number}",
            {
                "k8s.ovn.org/node-subnets": f'{{"default":["10.128.{subnet}.0/23"]}}',
                "k8s.ovn.org/node-id": str(number + 1),
                "k8s.ovn.org/node-chassis-id": f"chassis-{number}",
                **({"k8s.ovn.org/l3-gateway-config": GATEWAY.format(f"n{number}", number)} if gateway else {}),
            },
            addresses=(f"192.0.2.{number}",),
        ),
    ),
    st.integers(1, 2),
    st.sampled_from([0, 2, 4]),
    st.booleans(),
)
pods = st.builds(
    lambda space, name, where, done, uid: (
        PODS,
        f"{space}/p{name}",
        pod(f"{space}/p{name}", where, completed=done, uid=f"uid-{space}-{name}-{uid}"),
    ),
    st.sampled_from(["a", "b"]),
    st.integers(0, 4),
    st.sampled_from(["n1", "n2", ""]),
    st.booleans(),
    st.integers(0, 1),
)
spaces = st.sampled_from(["a", "b"]).map(lambda name: (NAMESPACES, name, namespace(name)))
gone = st.one_of(
    st.sampled_from(["n1", "n2"]).map(lambda name: (NODES, name, None)),
    st.tuples(st.sampled_from("ab"), st.integers(0, 4)).map(lambda key: (PODS, f"{key[0]}/p{key[1]}", None)),
    st.sampled_from("ab").map(lambda name: (NAMESPACES, name, None)),
)
steps = st.one_of(
    nodes, pods, pods, spaces, gone, st.just("crash"), st.just("tamper"), st.integers(1, 5), st.just("settle")
)


def play(server: OvsdbServer, api: Api, history: list[Any], seed: int) -> Process:
    dice = random.Random(seed)
    process = Process(server, api)
    for step in history:
        if step == "crash":
            process.crash()
            process = Process(server, api)
        elif step == "tamper":
            tamper(server, dice)
        elif step == "settle":
            process.settle()
        elif isinstance(step, int):
            process.turns(step)
        else:
            kind, key, view = step
            if view is None:
                api.objects[kind].pop(key, None)
            else:
                api.put(kind, view)
            process.see(kind, key)
    process.settle()
    return process


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(history=st.lists(steps, max_size=25), seed=st.integers(0, 1000))
def test_any_history_ends_in_a_clean_render(
    servers: tuple[OvsdbServer, OvsdbServer], history: list[Any], seed: int
) -> None:
    tried, clean = servers
    for process in list(ALIVE):  # of an example that failed
        process.crash()
    wipe(tried)
    wipe(clean)
    for server in servers:
        server.transact(
            NB,
            [
                {
                    "op": "insert",
                    "table": "Logical_Switch",
                    "row": FOREIGN,
                    "uuid": "0" * 8 + "-0000-0000-0000-" + "0" * 12,
                }
            ],
        )
    api = Api()
    process = play(tried, api, history, seed)
    process.crash()

    again = Process(tried, api)
    again.settle()
    assert again.written == [], "a restart with nothing changed writes nothing"
    again.crash()

    fresh = Process(clean, api)
    fresh.settle()
    fresh.crash()
    ours, theirs = content(tried), content(clean)
    assert {key: value for key, value in ours.items() if not key.startswith("NB_Global")} == {
        key: value for key, value in theirs.items() if not key.startswith("NB_Global")
    }
    _no_address_twice(api)


def _no_address_twice(api: Api) -> None:
    alive = [view for view in api.objects[PODS].values() if not view.completed and view.node]
    held = [
        (view.node, view.annotations["k8s.ovn.org/pod-networks"])
        for view in alive
        if "k8s.ovn.org/pod-networks" in view.annotations
    ]
    assert len(held) == len(set(held))


def test_a_disabled_plugin_leaves_no_row(servers: tuple[OvsdbServer, OvsdbServer]) -> None:
    tried, clean = servers
    wipe(tried)
    wipe(clean)
    api = Api()
    history = [node_step(1), (NAMESPACES, "a", namespace("a")), (PODS, "a/p1", pod("a/p1", "n1"))]
    play(tried, api, history, 0).crash()
    assert any(row.get("name") == "a_p1" for row in tried.rows("Logical_Switch_Port"))
    for server in servers:
        process = Process(server, api, plugins=["topology"])
        process.settle()
        process.crash()
    assert {k: v for k, v in content(tried).items() if "NB_Global" not in k} == {
        k: v for k, v in content(clean).items() if "NB_Global" not in k
    }


def node_step(number: int) -> tuple[Kind[Any], str, Any]:
    name = f"n{number}"
    annotations = {
        "k8s.ovn.org/node-subnets": f'{{"default":["10.128.{number * 2}.0/23"]}}',
        "k8s.ovn.org/node-id": str(number + 1),
        "k8s.ovn.org/node-chassis-id": f"chassis-{number}",
        "k8s.ovn.org/l3-gateway-config": GATEWAY.format(name, number),
    }
    return NODES, name, node(name, annotations, addresses=(f"192.0.2.{number}",))
