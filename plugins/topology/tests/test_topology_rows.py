"""The rows of the northbound and southbound: names and columns that OVN-Kubernetes' tools expect."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, KubernetesOptions
from ovnkit.api.identity import RowId, hash_name
from ovnkit.api.items import Lookup, Member, Ref, Row, Slot
from ovnkit.api.models import NODES, Node
from ovnkit.api.renderers import Role
from ovnkit.network import rows
from ovnkit.network.northd import NORTHD
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit_topology.plugin import TopologyPlugin

CLUSTER = {4: "10.128.0.0/14/23", 6: "fd01::/48"}
FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}


def config(families: tuple[int, ...] = (4, 6)) -> Config:
    subnets = tuple(ClusterSubnet.parse(CLUSTER[family]) for family in families)
    return Config(default=DefaultOptions(cluster_subnets=subnets))


def annotated(name: str, number: int, families: tuple[int, ...] = (4, 6), **more: str) -> Node:
    """A node as the cluster and node roles annotate it."""
    subnets = {4: f"10.128.{2 * number}.0/23", 6: f"fd01:0:0:{number}::/64"}
    transit = {4: f"100.88.0.{number}/16", 6: f"fd97::{number}/64"}
    return node(
        name,
        {
            "k8s.ovn.org/node-subnets": json.dumps({"default": [subnets[family] for family in families]}),
            "k8s.ovn.org/node-id": str(number),
            "k8s.ovn.org/node-chassis-id": f"chassis-{name}",
            "k8s.ovn.org/node-encap-ips": json.dumps([f"192.0.2.{number}"]),
            "k8s.ovn.org/node-transit-switch-port-ifaddr": json.dumps(
                {f"ipv{family}": transit[family] for family in families}
            ),
            **more,
        },
    )


def bench(zone: str = "a", families: tuple[int, ...] = (4, 6), settings: Config | None = None) -> Bench:
    per_node = zone != "global"
    return Bench(
        TopologyPlugin(),
        scope=scope(Role.ZONE, zone=zone, per_node_zones=per_node),
        config=settings or config(families),
    )


def everything(found: Bench) -> dict[str, Any]:
    """All rows and members by owner path, for comparison."""
    wanted: dict[str, Any] = {}
    for name, sink in found.databases.items():
        for owner, items in sink.wanted.items():
            for item in items:
                label = item.name if isinstance(item, Row) else f"{item.slot.column}/{item.key}"
                wanted[f"{name}/{owner}/{label}"] = item
    return wanted


def test_what_a_zone_has_once() -> None:
    found = bench()
    router = found.row("Logical_Router", "ovn_cluster_router")
    assert router == {
        "name": "ovn_cluster_router",
        "external_ids": {"k8s-cluster-router": "yes"},
        "options": {"always_learn_from_arp_request": "false"},
        "copp": Ref.to(rows.copp()),
    }
    assert found.row("Logical_Switch", "join") == {"name": "join"}
    assert found.row("Logical_Router_Port", "rtoj-ovn_cluster_router") == {
        "name": "rtoj-ovn_cluster_router",
        "networks": frozenset({"100.64.0.1/16", "fd98::1/64"}),
        "mac": "0a:58:64:40:00:01",
    }
    assert found.row("Logical_Switch_Port", "jtor-ovn_cluster_router") == {
        "name": "jtor-ovn_cluster_router",
        "type": "router",
        "addresses": frozenset({"router"}),
        "options": {"router-port": "rtoj-ovn_cluster_router"},
    }
    assert set(found.rows("Load_Balancer_Group")) == {
        "clusterLBGroup",
        "clusterSwitchLBGroup",
        "clusterRouterLBGroup",
    }
    assert found.row("Logical_Switch", "transit_switch")["other_config"] == {
        "interconn-ts": "transit_switch",
        "requested-tnl-key": "16711683",
        "mcast_snoop": "true",
        "mcast_querier": "false",
        "mcast_flood_unregistered": "true",
    }
    group = found.row("Port_Group", hash_name("default-network-controller:Cluster:clusterPortGroup"))
    assert group["external_ids"] == {
        "k8s.ovn.org/owner-controller": "default-network-controller",
        "k8s.ovn.org/owner-type": "Cluster",
        "k8s.ovn.org/name": "clusterPortGroup",
        "k8s.ovn.org/id": "default-network-controller:Cluster:clusterPortGroup",
    }


def test_punted_packets_are_limited() -> None:
    found = bench()
    meters = found.row("Copp", "ovnkube-default")["meters"]
    assert meters["arp"] == "arp-rate-limiter"
    assert len(meters) == 9
    for name in meters.values():
        assert found.row("Meter", name) == {"name": name, "unit": "pktps", "fair": True}
    assert {band["rate"] for band in found.rows("Meter_Band").values()} == {25}


def test_the_database_is_named_after_its_zone() -> None:
    members = bench("a").members()
    assert members["name", None] == "a"
    assert members["options", "name"] == "a"
    assert bench("global").members()["options", "name"] == "global"


@pytest.mark.parametrize("families", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("zone", ["a", "global"])
def test_the_switch_of_a_node(zone: str, families: tuple[int, ...]) -> None:
    found = bench(zone, families)
    found.put(NODES, annotated("a", 2, families))
    dual = {4: {"subnet": "10.128.4.0/23"}, 6: {"ipv6_prefix": "fd01:0:0:2::"}}
    assert found.row("Logical_Switch", "a") == {
        "name": "a",
        "other_config": {key: value for family in families for key, value in dual[family].items()},
        "load_balancer_group": frozenset({Ref.to(rows.cluster_lb_group()), Ref.to(rows.switch_lb_group())}),
    }
    networks = " ".join(str(subnet.network) for subnet in config(families).default.cluster_subnets)
    assert found.row("Logical_Switch_Port", "stor-a") == {
        "name": "stor-a",
        "type": "router",
        "addresses": frozenset({"router"}),
        "options": {
            "router-port": "rtos-a",
            "arp_proxy": f"0a:58:a9:fe:01:01 169.254.1.1 fe80::1 {networks}",
        },
    }
    gateways = {4: "10.128.4.1/23", 6: "fd01:0:0:2::1/64"}
    port = found.row("Logical_Router_Port", "rtos-a")
    assert port["networks"] == frozenset(gateways[family] for family in families)
    assert port["options"] == {"gateway_mtu": "1400"}
    if 4 in families:
        assert port["mac"] == "0a:58:0a:80:04:01"
    assert found.row("Gateway_Chassis", "rtos-a-chassis-a") == {
        "name": "rtos-a-chassis-a",
        "chassis_name": "chassis-a",
        "priority": 1,
    }
    matches = {4: "ip4.src==10.128.4.2", 6: "ip6.src==fd01:0:0:2::2"}
    acls = found.rows("ACL").values()
    assert {acl["match"] for acl in acls} == {matches[family] for family in families}
    for acl in acls:
        assert (acl["direction"], acl["priority"], acl["action"]) == ("to-lport", 1001, "allow-related")
        assert acl["external_ids"]["k8s.ovn.org/owner-type"] == "NetpolNode"
        assert (acl["name"], acl["meter"], acl["log"], acl["severity"]) == (None, "acl-logging", False, None)


def test_a_node_joins_the_transit_switch() -> None:
    found = bench()
    found.put(NODES, annotated("a", 2))
    assert found.row("Logical_Router_Port", "rtots-a") == {
        "name": "rtots-a",
        "networks": frozenset({"100.88.0.2/16", "fd97::2/64"}),
        "mac": "0a:58:64:58:00:02",
        "options": {"mcast_flood": "true"},
    }
    assert found.row("Logical_Switch_Port", "tstor-a") == {
        "name": "tstor-a",
        "type": "router",
        "addresses": frozenset({"router"}),
        "options": {"router-port": "rtots-a", "requested-tnl-key": "2"},
        "external_ids": {"node": "a"},
    }


def test_a_node_of_another_zone_is_a_port_routes_and_a_chassis() -> None:
    found = bench()
    found.put(NODES, annotated("a", 2), annotated("b", 3))
    assert "b" not in found.rows("Logical_Switch")
    assert found.row("Logical_Switch_Port", "tstor-b") == {
        "name": "tstor-b",
        "type": "remote",
        "addresses": frozenset({"0a:58:64:58:00:03 100.88.0.3/16 fd97::3/64"}),
        "options": {"requested-tnl-key": "3", "requested-chassis": "chassis-b"},
        "external_ids": {"node": "b"},
    }
    routes = found.rows("Logical_Router_Static_Route").values()
    assert {(route["ip_prefix"], route["nexthop"]) for route in routes} == {
        ("10.128.6.0/23", "100.88.0.3"),
        ("fd01:0:0:3::/64", "fd97::3"),
        ("100.64.0.3/32", "100.88.0.3"),
        ("fd98::3/128", "fd97::3"),
    }
    assert all(route["external_ids"] == {"ic-node": "b", "k8s.ovn.org/network": "default"} for route in routes)
    assert found.row("Chassis", "chassis-b", "sb") == {
        "name": "chassis-b",
        "hostname": "b",
        "other_config": {"is-remote": "true"},
    }
    (encap,) = found.rows("Encap", "sb").values()
    assert encap == {
        "type": "geneve",
        "ip": "192.0.2.3",
        "chassis_name": "chassis-b",
        "options": {"csum": "true"},
    }


@pytest.mark.parametrize(("release", "by_us"), [("23.03.1-20.27.0-70.6", True), ("25.03.0-20.41.0-78.6", False)])
def test_remote_ports_are_bound_where_northd_does_not(release: str, by_us: bool) -> None:
    found = bench()
    raw = {"_uuid": "nb-global", "options": {"northd_internal_version": release}}
    found.put(NORTHD, NORTHD.view(raw))
    found.put(NODES, annotated("a", 2), annotated("b", 3))
    chassis = RowId("topology", "remote", "b", "chassis")
    slot = Slot("Port_Binding", Lookup("Port_Binding", "logical_port", "tstor-b"), "chassis")
    wanted = Member(slot, Ref.to(chassis), db="sb")
    assert (wanted in found.databases["sb"].items) is by_us


def test_another_tunnel_port_reaches_the_remote_chassis() -> None:
    settings = evolve(config(), default=evolve(config().default, encap_port=6099))
    found = bench(settings=settings)
    found.put(NODES, annotated("b", 3))
    (encap,) = found.rows("Encap", "sb").values()
    assert encap["options"] == {"csum": "true", "dst_port": "6099"}


def test_one_central_zone_has_every_switch_and_nothing_between_zones() -> None:
    found = bench("global")
    found.put(NODES, annotated("a", 2), annotated("b", 3))
    assert set(found.rows("Logical_Switch")) == {"join", "a", "b"}
    assert not found.rows("Chassis", "sb")
    assert not found.rows("Logical_Router_Static_Route")
    assert set(found.rows("Logical_Switch_Port")) == {"jtor-ovn_cluster_router", "stor-a", "stor-b"}


@pytest.mark.parametrize("zone", ["a", "global"])
def test_the_order_of_events_does_not_matter(zone: str) -> None:
    nodes = [annotated("a", 2), annotated("b", 3), annotated("c", 4)]
    clean = bench(zone)
    clean.put(NODES, *nodes)
    expected = everything(clean)
    bare = [node(view.name) for view in nodes]
    for order in itertools.permutations(nodes):
        found = bench(zone)
        found.put(NODES, annotated("gone", 9), *bare)
        for view in order:
            found.put(NODES, view)
        found.drop(NODES, "gone")
        assert everything(found) == expected


def test_a_node_that_is_gone_leaves_nothing() -> None:
    found = bench()
    before = everything(found)
    found.put(NODES, annotated("a", 2), annotated("b", 3))
    found.drop(NODES, "a", "b")
    assert everything(found) == before


def test_a_change_of_chassis_reaches_port_and_southbound() -> None:
    found = bench()
    found.put(NODES, annotated("a", 2), annotated("b", 3))
    found.annotate(NODES, "b", {"k8s.ovn.org/node-chassis-id": "new"})
    found.annotate(NODES, "a", {"k8s.ovn.org/node-chassis-id": "own"})
    assert found.row("Logical_Switch_Port", "tstor-b")["options"]["requested-chassis"] == "new"
    assert set(found.rows("Chassis", "sb")) == {"new"}
    assert set(found.rows("Gateway_Chassis")) == {"rtos-a-own"}


def test_a_change_of_subnet_moves_switch_gateway_and_routes() -> None:
    found = bench(families=(4,))
    found.put(NODES, annotated("a", 2, (4,)), annotated("b", 3, (4,)))
    moved = {"k8s.ovn.org/node-subnets": '{"default":["10.129.0.0/23"]}'}
    found.annotate(NODES, "a", moved)
    assert found.row("Logical_Switch", "a")["other_config"] == {"subnet": "10.129.0.0/23"}
    assert found.row("Logical_Router_Port", "rtos-a")["networks"] == frozenset({"10.129.0.1/23"})
    found.annotate(NODES, "b", moved)
    prefixes = {route["ip_prefix"] for route in found.rows("Logical_Router_Static_Route").values()}
    assert prefixes == {"10.129.0.0/23", "100.64.0.3/32"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k8s.ovn.org/node-subnets", '{"default":["192.168.0.0/24"]}'),
        ("k8s.ovn.org/node-subnets", "nonsense"),
        ("k8s.ovn.org/node-id", "seven"),
        ("k8s.ovn.org/node-transit-switch-port-ifaddr", '{"ipv4":"100.88.0.x"}'),
        ("k8s.ovn.org/node-transit-switch-port-ifaddr", '{"ipv4":"100.88.0.3/16"}'),
        ("k8s.ovn.org/node-chassis-id", 'x" || true'),
        ("k8s.ovn.org/node-encap-ips", '"192.0.2.3"'),
    ],
)
def test_a_node_with_a_bad_annotation_keeps_its_rows_and_stops_nobody_else(name: str, value: str) -> None:
    found = bench()
    found.put(NODES, annotated("a", 2), annotated("b", 3))
    before = everything(found)
    good = found.get(NODES, "b").annotations[name]
    found.annotate(NODES, "b", {name: value})
    assert everything(found) == before
    assert list(found.failures) == ["topology/remote/b"]

    fresh = bench()
    fresh.put(NODES, found.get(NODES, "b"), annotated("a", 2), annotated("c", 4))
    assert "tstor-c" in fresh.rows("Logical_Switch_Port")
    assert "a" in fresh.rows("Logical_Switch")
    assert "tstor-b" not in fresh.rows("Logical_Switch_Port")
    fresh.annotate(NODES, "b", {name: good})
    assert "tstor-b" in fresh.rows("Logical_Switch_Port")
    assert fresh.failures == {}


def test_large_packets_are_not_checked_where_the_node_cannot() -> None:
    found = bench()
    found.put(NODES, annotated("a", 2, **{"k8s.ovn.org/gateway-mtu-support": "false"}))  # type: ignore[arg-type]
    assert found.row("Logical_Router_Port", "rtos-a")["options"] == {}


def test_an_unmanaged_node_has_no_switch() -> None:
    settings = evolve(config(), kubernetes=KubernetesOptions(no_hostsubnet_nodes="os=windows"))
    for zone in ("a", "global"):
        found = bench(zone, settings=settings)
        found.put(NODES, annotated("a", 2), evolve(annotated("w", 3), labels={"os": "windows"}))
        assert "w" not in found.rows("Logical_Switch")
        assert "tstor-w" not in found.rows("Logical_Switch_Port")
        found.put(NODES, evolve(found.get(NODES, "a"), labels={"os": "windows"}))
        assert "a" not in found.rows("Logical_Switch")


def test_what_does_not_concern_the_network_renders_nothing() -> None:
    found = bench()
    found.put(NODES, annotated("a", 2), annotated("b", 3))
    before = sum(found.reconciler.renders_total.values())
    found.annotate(NODES, "b", {"example.com/heartbeat": "17"})
    assert sum(found.reconciler.renders_total.values()) == before


def test_every_row_is_explained() -> None:
    found = bench()
    found.put(NODES, annotated("a", 2), annotated("b", 3))
    plugin = TopologyPlugin()
    for path, item in everything(found).items():
        if isinstance(item, Member):
            continue
        sentence = plugin.ovnkit_explain(RowId.parse(path.partition("/")[2]))
        if item.table not in ("Load_Balancer_Group", "Meter_Band"):
            assert sentence, path
