"""Node ids and subnets: who gets what, what is kept, and what bad annotations get."""

from __future__ import annotations

import itertools
import json
from ipaddress import ip_network
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, GatewayOptions, KubernetesOptions
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit_topology.cluster import Slices
from ovnkit_topology.plugin import TopologyPlugin

SUBNETS = "k8s.ovn.org/node-subnets"
NODE_ID = "k8s.ovn.org/node-id"
TRANSIT = "k8s.ovn.org/node-transit-switch-port-ifaddr"


def config(*subnets: str, **kubernetes: Any) -> Config:
    parsed = tuple(ClusterSubnet.parse(text) for text in subnets or ("10.128.0.0/14/23",))
    return Config(default=DefaultOptions(cluster_subnets=parsed), kubernetes=KubernetesOptions(**kubernetes))


def bench(settings: Config | None = None, *, per_node_zones: bool = True) -> Bench:
    return Bench(
        TopologyPlugin(),
        scope=scope(Role.CLUSTER, zone="" if per_node_zones else "global", per_node_zones=per_node_zones),
        config=settings or config(),
    )


def restart(before: Bench, settings: Config | None = None) -> Bench:
    """A new process finds the objects as the old one left them."""
    after = Bench(TopologyPlugin(), scope=scope(Role.CLUSTER), config=settings or config(), listed=())
    after.put(NODES, *before.reconciler._store.select(NODES, "", "").values())
    return after


def annotation(found: Bench, name: str, key: str) -> str | None:
    value: str | None = found.get(NODES, name).annotations.get(key)
    return value


def subnets(found: Bench, *names: str) -> list[list[str]]:
    return [json.loads(annotation(found, name, SUBNETS) or "{}").get("default") for name in names]


def test_nodes_get_ids_subnets_and_transit_addresses() -> None:
    found = bench(config("10.128.0.0/14/23", "fd01::/48"))
    found.put(NODES, node("a"), node("b"))
    assert found.get(NODES, "a").annotations == {
        NODE_ID: "2",
        TRANSIT: '{"ipv4":"100.88.0.2/16","ipv6":"fd97::2/64"}',
        SUBNETS: '{"default":["10.128.0.0/23","fd01::/64"]}',
    }
    assert annotation(found, "b", NODE_ID) == "3"
    assert subnets(found, "b") == [["10.128.2.0/23", "fd01:0:0:1::/64"]]


def test_one_central_zone_has_no_transit_addresses() -> None:
    found = bench(per_node_zones=False)
    found.put(NODES, node("a", {TRANSIT: "{}"}))
    assert annotation(found, "a", TRANSIT) is None
    assert annotation(found, "a", NODE_ID) == "2"


def test_several_cluster_networks_with_several_lengths_follow_each_other() -> None:
    found = bench(config("10.1.0.0/25/26", "10.2.0.0/24/25", "fd01::/63", "fd02::/63"))
    found.put(NODES, *(node(name) for name in "abcd"))
    assert subnets(found, *"abcd") == [
        ["10.1.0.0/26", "fd01::/64"],
        ["10.1.0.64/26", "fd01:0:0:1::/64"],
        ["10.2.0.0/25", "fd02::/64"],
        ["10.2.0.128/25", "fd02:0:0:1::/64"],
    ]


def test_slices_are_a_sequence_of_all_of_them() -> None:
    slices = Slices((ClusterSubnet.parse("10.1.0.0/25/26"), ClusterSubnet.parse("10.2.0.0/24/26")))
    assert list(slices) == [
        ip_network(text)
        for text in (
            "10.1.0.0/26",
            "10.1.0.64/26",
            "10.2.0.0/26",
            "10.2.0.64/26",
            "10.2.0.128/26",
            "10.2.0.192/26",
        )
    ]
    assert all(item in slices for item in slices)
    assert ip_network("10.1.0.0/27") not in slices
    assert ip_network("10.3.0.0/26") not in slices


def test_a_restart_keeps_everything_and_a_gap_is_filled() -> None:
    before = bench()
    before.put(NODES, node("a"), node("b"), node("c"))
    before.drop(NODES, "b")
    after = restart(before)
    for name in "ac":
        assert after.get(NODES, name) == before.get(NODES, name)
    after.put(NODES, node("d"))
    assert annotation(after, "d", NODE_ID) == "3"
    assert subnets(after, "d") == [["10.128.2.0/23"]]


def test_no_order_of_arrival_gives_one_thing_to_two_nodes() -> None:
    nodes = [
        node("a", {NODE_ID: "7", SUBNETS: '{"default":["10.128.4.0/23"]}'}),
        node("b", {NODE_ID: "2", SUBNETS: '{"default":["10.128.0.0/23"]}'}),
        node("c"),
        node("d"),
    ]
    for order in itertools.permutations(nodes):
        found = bench()
        found.put(NODES, *order)
        ids = {name: annotation(found, name, NODE_ID) for name in "abcd"}
        assert ids["a"] == "7"
        assert ids["b"] == "2"
        assert {ids["c"], ids["d"]} == {"3", "4"}
        assert len({tuple(item) for item in subnets(found, *"abcd")}) == 4


def test_two_nodes_that_claim_one_id_the_older_keeps_it() -> None:
    claims = {NODE_ID: "5", SUBNETS: '{"default":["10.128.8.0/23"]}'}
    nodes = [
        node("young", claims, created="2026-02-02T00:00:00Z"),
        node("old", claims, created="2026-01-01T00:00:00Z"),
    ]
    found = bench()
    found.put(NODES, *nodes)
    assert annotation(found, "old", NODE_ID) == "5"
    assert annotation(found, "young", NODE_ID) == "2"
    assert subnets(found, "old", "young") == [["10.128.8.0/23"], ["10.128.0.0/23"]]


def test_a_duplicate_is_reported_on_the_node_that_loses_it() -> None:
    found = bench()
    found.put(NODES, node("a"))
    view = node("b", {NODE_ID: "2"})
    found.reconciler.observe(NODES, [("b", view)])
    while found.reconciler._work():
        pass
    events = [event for event in found.events if event[0] == "b"]
    assert events == [("b", "AlreadyInUse", "node id 2 is in use by a; b has 3 now")]
    found.settle()
    assert annotation(found, "b", NODE_ID) == "3"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (SUBNETS, '{"default":["192.168.0.0/23"]}', "192.168.0.0/23 is not a slice of the cluster network"),
        (SUBNETS, '{"default":["10.128.0.0/24"]}', "10.128.0.0/24 is not a slice"),
        (SUBNETS, '{"default":["fd00::/64"]}', "fd00::/64 is not a slice"),
        (SUBNETS, "nonsense", "annotation k8s.ovn.org/node-subnets is 'nonsense'"),
        (SUBNETS, "[]", "not a JSON object"),
        (SUBNETS, '{"other":[]}', "no network 'default'"),
        (SUBNETS, '{"default":[7]}', "not a JSON list of strings"),
        (SUBNETS, '{"default":["10.128.0.1/23"]}', "has host bits set"),
        (NODE_ID, "seven", "annotation k8s.ovn.org/node-id is 'seven'"),
        (NODE_ID, "-1", "not a number from 1 to 32767"),
        (NODE_ID, "99999", "not a number from 1 to 32767"),
    ],
)
def test_a_bad_annotation_gets_an_event_and_stops_nobody_else(name: str, value: str, says: str) -> None:
    found = bench()
    found.put(NODES, node("bad", {name: value}), node("good"))
    assert [event[0] for event in found.events] == ["bad"]
    assert says in found.events[0][2]
    assert name in found.events[0][2]
    assert annotation(found, "good", NODE_ID) is not None
    assert subnets(found, "good")[0] is not None
    assert annotation(found, "bad", name) == value
    assert set(found.get(NODES, "bad").annotations) == {NODE_ID, SUBNETS, TRANSIT} - (
        {TRANSIT} if name == NODE_ID else set()
    )

    found.annotate(NODES, "bad", {name: None})
    assert found.failures == {}
    assert set(found.get(NODES, "bad").annotations) == {NODE_ID, SUBNETS, TRANSIT}


def test_what_other_networks_have_in_the_annotation_frees_nothing_and_stays() -> None:
    mine = '{"blue":{"x":NaN},"default":["10.128.0.0/23"]}'
    torn = '{"default":["10.128.2.0/23","fd01::%x/64"]}'
    found = bench()
    views = (node("new"), node("torn", {SUBNETS: torn}), node("mine", {SUBNETS: mine}))
    found.reconciler.observe(NODES, [(view.key, view) for view in views])
    found.settle()
    assert subnets(found, "new") == [["10.128.4.0/23"]]
    assert annotation(found, "mine", SUBNETS) == mine
    assert annotation(found, "torn", SUBNETS) == torn
    assert [event[0] for event in found.events] == ["torn"]


def test_when_subnets_run_out_the_node_says_so_and_gets_one_as_soon_as_another_goes() -> None:
    found = bench(config("10.1.0.0/24/25"))
    found.put(NODES, node("a"), node("b"), node("c"))
    assert found.events == [("c", "Exhausted", "no IPv4 node subnet left")]
    assert annotation(found, "c", NODE_ID) == "4"
    found.drop(NODES, "a")
    assert subnets(found, "c") == [["10.1.0.0/25"]]
    assert found.failures == {}


def test_ids_run_out_where_the_join_subnet_ends() -> None:
    gateway = GatewayOptions(v4_join_subnet=ip_network("100.64.0.0/29"))  # type: ignore[arg-type]
    found = bench(evolve(config(), gateway=gateway))
    found.put(NODES, *(node(f"n{number}") for number in range(6)))
    assert sorted(annotation(found, f"n{number}", NODE_ID) or "" for number in range(6)) == ["", *"23456"]
    assert found.events == [("n5", "Exhausted", "no node id left")]


def test_nodes_of_the_selector_get_no_subnet() -> None:
    settings = config(no_hostsubnet_nodes="kubernetes.io/os=windows")
    found = bench(settings)
    windows = {"kubernetes.io/os": "windows"}
    found.put(NODES, node("a"), node("w", {SUBNETS: '{"default":["10.128.0.0/23"]}'}, labels=windows))
    assert subnets(found, "a") == [["10.128.0.0/23"]]
    assert annotation(found, "w", SUBNETS) is None
    assert annotation(found, "w", NODE_ID) == "3"
    found.put(NODES, evolve(found.get(NODES, "w"), labels={}))
    assert subnets(found, "w") == [["10.128.2.0/23"]]


def test_annotations_of_older_releases_go() -> None:
    found = bench()
    found.put(NODES, node("a", {"k8s.ovn.org/node-gateway-router-lrp-ifaddr": "{}", "other": "stays"}))
    assert "k8s.ovn.org/node-gateway-router-lrp-ifaddr" not in found.get(NODES, "a").annotations
    assert annotation(found, "a", "other") == "stays"


def test_an_annotation_that_is_removed_comes_back_as_it_was() -> None:
    found = bench()
    found.put(NODES, node("a"), node("b"))
    found.annotate(NODES, "a", {SUBNETS: None, NODE_ID: None})
    assert annotation(found, "a", NODE_ID) == "2"
    assert subnets(found, "a") == [["10.128.0.0/23"]]


def test_a_dual_stack_cluster_keeps_what_a_node_has_and_adds_the_other_family() -> None:
    found = bench(config("10.128.0.0/14/23", "fd01::/48"))
    found.put(NODES, node("a", {SUBNETS: '{"default":"10.128.6.0/23"}'}))
    assert subnets(found, "a") == [["10.128.6.0/23", "fd01::/64"]]


def test_nodes_with_one_chassis_are_told_until_each_has_its_own() -> None:
    found = bench()

    def put(name: str, chassis: str) -> None:
        found.put(NODES, node(name, {"k8s.ovn.org/node-chassis-id": chassis}))

    for name in "abc":
        put(name, name)
    assert found.events == []
    put("b", "a")
    assert sorted(event[:2] for event in found.events) == [("a", "DuplicateChassis"), ("b", "DuplicateChassis")]
    assert all("has the system-id a, as that of " in text for _, _, text in found.events)
    put("b", "d")
    assert found.events == []
