"""MAC addresses that pods may not ask for, in every family layout, and those that they may."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.identity import mac_from_ip
from ovnkit.api.models import NODES, PODS
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node, pod
from ovnkit_pods.options import PodsOptions
from ovnkit_pods.plugin import PodsPlugin

POD_NETWORKS = "k8s.ovn.org/pod-networks"
REQUEST = "v1.multus-cni.io/default-network"
CLUSTER = {4: "10.128.0.0/14/24", 6: "fd01::/48"}
SUBNETS = {4: "10.128.1.0/24", 6: "fd01:0:0:1::/64"}
BASE = {4: "10.128.1.", 6: "fd01:0:0:1::"}
FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}

in_every_layout = pytest.mark.parametrize("families", FAMILIES.values(), ids=FAMILIES)


def bench(families: tuple[int, ...], *, hybrid: bool = False) -> Bench:
    subnets = tuple(ClusterSubnet.parse(CLUSTER[family]) for family in families)
    config = Config(
        default=DefaultOptions(cluster_subnets=subnets),
        plugin_options={"pods": PodsOptions(reserve_hybrid_address=hybrid)},
    )
    found = Bench(PodsPlugin(), scope=scope(Role.ZONE, zone="n1"), config=config)
    annotations = {
        "k8s.ovn.org/node-subnets": json.dumps({"default": [SUBNETS[family] for family in families]}),
        "k8s.ovn.org/node-chassis-id": "chassis-n1",
    }
    found.put(NODES, node("n1", annotations))
    return found


def asks(**fields: Any) -> dict[str, str]:
    return {REQUEST: json.dumps([{"name": "default", **fields}])}


def derived(families: tuple[int, ...], number: int) -> str:
    """The MAC of the port with address number `number` of the subnet."""
    return mac_from_ip(ip_address(f"{BASE[families[0]]}{number}"))


def refusals(found: Bench) -> list[tuple[str, str]]:
    return [(key, reason) for key, reason, _ in found.events]


@in_every_layout
@pytest.mark.parametrize("number", [1, 2, 3, 9], ids=["router", "management port", "pod", "pod that comes later"])
def test_a_mac_that_is_derived_from_another_address_is_refused(families: tuple[int, ...], number: int) -> None:
    found = bench(families)
    found.put(PODS, pod("a/victim", "n1"))
    found.put(PODS, pod("a/bad", "n1", asks(mac=derived(families, number))))
    assert refusals(found) == [("a/bad", "InvalidNetworkRequest")]
    assert set(found.rows("Logical_Switch_Port")) == {"a_victim"}
    assert POD_NETWORKS not in found.get(PODS, "a/bad").annotations
    # who comes first makes no difference
    found.put(PODS, *(pod(f"b/p{more}", "n1") for more in range(8)))
    assert len(found.rows("Logical_Switch_Port")) == 9
    assert refusals(found) == [("a/bad", "InvalidNetworkRequest")]


@in_every_layout
@pytest.mark.parametrize(
    "mac",
    [
        "0a:58:a9:fe:01:01",
        mac_from_ip(ip_address("100.64.0.1")),
        mac_from_ip(ip_address("100.64.0.2")),
        mac_from_ip(ip_address("fd98::1")),
        mac_from_ip(ip_address("100.88.0.2")),
        mac_from_ip(ip_address("fd97::2")),
        "0A:58:A9:FE:01:01",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:00:00:01",
        "33:33:00:00:00:01",
        "0a-58-a9-fe-01-01",
        "0a58.a9fe.0101",
        7,
    ],
)
def test_macs_that_are_no_pods_are_refused(families: tuple[int, ...], mac: Any) -> None:
    found = bench(families)
    found.put(PODS, pod("a/bad", "n1", asks(mac=mac)), pod("a/good", "n1"))
    assert refusals(found) == [("a/bad", "InvalidNetworkRequest")]
    assert set(found.rows("Logical_Switch_Port")) == {"a_good"}


@in_every_layout
def test_a_pod_may_ask_for_the_mac_of_its_own_address_and_for_one_that_nobody_has(
    families: tuple[int, ...],
) -> None:
    found = bench(families)
    own = [f"{BASE[family]}77" for family in families]
    found.put(
        PODS,
        pod("a/own", "n1", asks(ips=own, mac=derived(families, 77))),
        pod("a/free", "n1", asks(mac="02:AA:00:00:00:01")),
    )
    assert found.events == []
    ports = found.rows("Logical_Switch_Port")
    assert ports["a_own"]["addresses"] == frozenset({" ".join((derived(families, 77), *own))})
    assert next(iter(ports["a_free"]["addresses"])).startswith("02:aa:00:00:00:01 ")


@in_every_layout
def test_an_annotation_by_hand_has_no_more_choice_of_macs(families: tuple[int, ...]) -> None:
    found = bench(families)
    lengths = {4: 24, 6: 64}
    text = json.dumps(
        {
            "default": {
                "ip_addresses": [f"{BASE[family]}77/{lengths[family]}" for family in families],
                "mac_address": "0a:58:a9:fe:01:01",
            }
        }
    )
    found.put(PODS, pod("a/bad", "n1", {POD_NETWORKS: text}), pod("a/good", "n1"))
    assert refusals(found) == [("a/bad", "InvalidPodNetworks")]
    assert set(found.rows("Logical_Switch_Port")) == {"a_good"}


@in_every_layout
@pytest.mark.parametrize("number", ["0", "1", "2", "3"], ids=["base", "router", "management port", "hybrid"])
def test_reserved_addresses_are_refused(families: tuple[int, ...], number: str) -> None:
    for family in families:
        found = bench(families, hybrid=True)
        found.put(PODS, pod("a/bad", "n1", asks(ips=[f"{BASE[family]}{number}"])), pod("a/good", "n1"))
        assert refusals(found) == [("a/bad", "OutsideOfPool")]
        assert set(found.rows("Logical_Switch_Port")) == {"a_good"}


@in_every_layout
@pytest.mark.parametrize(
    "address", ["10.128.2.9", "100.64.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255", "fd98::1", "fe80::1",
                "ff02::1", "::", "::1", "fd01:0:0:2::9"],
)  # fmt: skip
def test_addresses_of_others_are_refused(families: tuple[int, ...], address: str) -> None:
    found = bench(families)
    found.put(PODS, pod("a/bad", "n1", asks(ips=[address])), pod("a/good", "n1"))
    assert refusals(found) == [("a/bad", "ForeignAddress")]
    assert set(found.rows("Logical_Switch_Port")) == {"a_good"}
