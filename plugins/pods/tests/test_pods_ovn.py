"""Pods' ports on a real northbound, with northd and ovn-trace to judge them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.identity import hash_name
from ovnkit.api.models import NAMESPACES, NODES, PODS, Node
from ovnkit.api.renderers import Role
from ovnkit.network.pod import ANNOTATION
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import namespace, node, pod
from ovnkit.testing.zone import RELEASES, Zone, zone_of
from ovnkit_pods.plugin import PodsPlugin

pytestmark = pytest.mark.ovn
topology = pytest.importorskip("ovnkit_topology.plugin", reason="the switches come from the topology plugin")

SUBNETS = tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48")))
CONFIG = Config(default=DefaultOptions(cluster_subnets=SUBNETS))


@pytest.fixture(params=RELEASES)
def zone(request: pytest.FixtureRequest) -> Iterator[Zone]:
    with zone_of(request.param, Zone) as made:
        yield made


@pytest.fixture
def connect(zone: Zone) -> Iterator[Callable[[], Bench]]:
    made: list[Bench] = []

    def start() -> Bench:
        place = scope(Role.ZONE, zone="global", per_node_zones=False)
        plugins = (topology.TopologyPlugin(), PodsPlugin())
        bench = Bench(*plugins, scope=place, config=CONFIG, connect=zone.endpoints)
        made.append(bench)
        return bench

    yield start
    for bench in made:
        bench.stop()


def worker(name: str, number: int) -> Node:
    subnets = [f"10.128.{2 * number}.0/23", f"fd01:0:0:{number}::/64"]
    annotations = {
        "k8s.ovn.org/node-subnets": json.dumps({"default": subnets}),
        "k8s.ovn.org/node-id": str(number),
        "k8s.ovn.org/node-chassis-id": f"chassis-{name}",
    }
    return node(name, annotations)


def network(bench: Bench, key: str) -> dict[str, Any]:
    text = bench.get(PODS, key).annotations["k8s.ovn.org/pod-networks"]
    found: dict[str, Any] = json.loads(text)["default"]
    return found


def addresses(bench: Bench, key: str) -> list[str]:
    return [item.partition("/")[0] for item in network(bench, key)["ip_addresses"]]


def test_pods_on_different_nodes_reach_each_other(zone: Zone, connect: Callable[[], Bench]) -> None:
    bench = connect()
    bench.put(NODES, worker("n1", 2), worker("n2", 3))
    bench.put(NAMESPACES, namespace("shop"))
    bench.put(PODS, pod("shop/web", "n1"), pod("shop/db", "n2"))
    source, target = network(bench, "shop/web"), "shop_db"
    for version, (own, other) in enumerate(
        zip(addresses(bench, "shop/web"), addresses(bench, "shop/db"), strict=True)
    ):
        ip, ping = (("ip4", "icmp4.type==8"), ("ip6", "icmp6.type==128"))[version]
        start = f'inport=="shop_web" && eth.src=={source["mac_address"]} && eth.dst==0a:58:0a:80:04:01'
        flow = f"{start} && ip.ttl==64 && {ip}.src=={own} && {ip}.dst=={other} && {ping}"
        assert f'output to "{target}"' in zone.trace("n1", flow)
        spoofed = flow.replace(f"{ip}.src=={own}", f"{ip}.src=={own}9")
        assert f'output to "{target}"' not in zone.trace("n1", spoofed)

    name = hash_name("default-network-controller:Namespace:shop:v4")
    found = zone.nb("--bare", "--columns=addresses", "find", "Address_Set", f"name={name}").split()
    assert sorted(found) == sorted(addresses(bench, key)[0] for key in ("shop/web", "shop/db"))


def test_a_restart_writes_nothing_and_a_deleted_pod_leaves_nothing(
    zone: Zone, connect: Callable[[], Bench]
) -> None:
    first = connect()
    nodes = [worker("n1", 2), worker("n2", 3)]
    first.put(NODES, *nodes)
    first.put(NAMESPACES, namespace("shop"))
    first.settle()
    before = _ports(zone)
    first.put(PODS, *(pod(f"shop/p{number}", f"n{number % 2 + 1}") for number in range(200)))
    assert len(_ports(zone)) == len(before) + 200
    views = [first.get(PODS, f"shop/p{number}") for number in range(200)]
    first.stop()

    second = connect()
    for kind, objects in ((NODES, nodes), (NAMESPACES, [namespace("shop")]), (PODS, views)):
        second.reconciler.observe(kind, [(view.key, view) for view in objects])
    second.settle()
    assert {name: sink.transactions for name, sink in second.sinks.items()} == {"nb": 0, "sb": 0}
    second.drop(PODS, *(view.key for view in views))
    assert _ports(zone) == before


def test_a_restart_leaves_the_port_of_a_pod_whose_annotation_went_bad(
    zone: Zone, connect: Callable[[], Bench]
) -> None:
    nodes = [worker("n1", 2), worker("n2", 3)]
    first = connect()
    first.put(NODES, *nodes)
    first.put(PODS, pod("shop/web", "n1"), pod("shop/db", "n1"), pod("shop/gone", "n1"))
    good = first.get(PODS, "shop/web"), first.get(PODS, "shop/db")
    first.stop()

    bad = evolve(good[0], annotations={ANNOTATION: "nonsense"})
    second = connect()
    for kind, objects in ((NODES, nodes), (NAMESPACES, []), (PODS, [bad, good[1]])):
        second.reconciler.observe(kind, [(view.key, view) for view in objects])
    second.settle()
    assert {"shop_web", "shop_db"}.issubset(_ports(zone))
    assert "shop_gone" not in _ports(zone), "leftovers of others go"
    second.put(PODS, good[0])
    assert second.reconciler.failures() == []
    second.put(PODS, bad)
    second.drop(PODS, "shop/web")
    assert "shop_web" not in _ports(zone)
    second.stop()

    # Nor does it stay when the pod goes while nobody has been able to make sense of it.
    third = connect()
    third.reconciler.observe(NODES, [(view.key, view) for view in nodes])
    third.put(PODS, good[0])
    third.stop()
    fourth = connect()
    for kind, objects in ((NODES, nodes), (NAMESPACES, []), (PODS, [bad])):
        fourth.reconciler.observe(kind, [(view.key, view) for view in objects])
    fourth.settle()
    assert "shop_web" in _ports(zone)
    fourth.drop(PODS, "shop/web")
    assert "shop_web" not in _ports(zone)


def test_a_pod_that_is_created_again_on_another_node_moves_its_port(
    zone: Zone, connect: Callable[[], Bench]
) -> None:
    bench = connect()
    bench.put(NODES, worker("n1", 2), worker("n2", 3))
    bench.put(PODS, pod("shop/web", "n1", uid="1"))
    assert "shop_web" in zone.nb("lsp-list", "n1")
    bench.put(PODS, pod("shop/web", "n2", uid="2"))
    assert "shop_web" not in zone.nb("lsp-list", "n1")
    assert "shop_web" in zone.nb("lsp-list", "n2")
    assert "chassis-n2" in zone.nb("lsp-get-options", "shop_web")


def _ports(zone: Zone) -> list[str]:
    return sorted(zone.nb("--bare", "--columns=name", "list", "Logical_Switch_Port").split())
