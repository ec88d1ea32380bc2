"""What the management port plugin wants, in each family, and what bad input gets."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config
from ovnkit.api.host import Link, LinkAddress, Neighbour, Route, Sysctl
from ovnkit.api.models import NODES
from ovnkit.api.nft import NftElement, NftRule, NftSet, Snat
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit_management_port.plugin import ManagementPortPlugin

SUBNETS = {4: "10.244.1.0/24", 6: "fd00:10:244:2::/64"}
CLUSTER = {4: "10.244.0.0/16/24", 6: "fd00:10:244::/48/64"}
NODE_SUBNETS = "k8s.ovn.org/node-subnets"
EXCLUDE = "k8s.ovn.org/node-ingress-snat-exclude-subnets"
PORT = "ovn-k8s-mp0"


def config(*families: int) -> Config:
    subnets = tuple(ClusterSubnet.parse(CLUSTER[family]) for family in families)
    base = Config()
    return evolve(base, default=evolve(base.default, cluster_subnets=subnets))


def annotated(*families: int, **more: str) -> dict[str, str]:
    return {NODE_SUBNETS: json.dumps({"default": [SUBNETS[family] for family in families]}), **more}


def bench(*families: int, roles: tuple[Role, ...] = (Role.ZONE, Role.NODE)) -> Bench:
    return Bench(ManagementPortPlugin(), scope=scope(*roles, node="n1"), config=config(*families))


def host(bench: Bench, kind: type) -> set[Any]:
    return {item for item in bench.node["host"].items if isinstance(item, kind)}


def test_dual_stack() -> None:
    b = bench(4, 6)
    b.put(NODES, node("n1", annotated(4, 6)), node("n2", {NODE_SUBNETS: '{"default":["10.244.2.0/24"]}'}))
    mac = "0a:58:0a:f4:01:02"
    assert b.rows("Logical_Switch_Port") == {
        "k8s-n1": {"name": "k8s-n1", "addresses": frozenset({f"{mac} 10.244.1.2 fd00:10:244:2::2"})}
    }
    assert {column for column, _ in b.members()} == {"ports"}
    interface = b.row("Interface", PORT, "ovs")
    assert interface["type"] == "internal"
    assert interface["mac"] == mac
    assert interface["mtu_request"] == 1400
    assert interface["external_ids"] == {"iface-id": "k8s-n1"}
    assert host(b, Link) == {Link(PORT, mac, 1400)}
    assert host(b, LinkAddress) == {
        LinkAddress(PORT, ip_interface("10.244.1.2/24")),
        LinkAddress(PORT, ip_interface("fd00:10:244:2::2/64")),
    }
    v4, v6 = ip_address("10.244.1.1"), ip_address("fd00:10:244:2::1")
    assert host(b, Route) == {
        Route(ip_network("10.244.0.0/16"), PORT, v4),
        Route(ip_network("169.254.169.3/32"), PORT, v4),
        Route(ip_network("fd00:10:244::/48"), PORT, v6),
        Route(ip_network("fd69::3/128"), PORT, v6),
    }
    router = "0a:58:0a:f4:01:01"
    assert host(b, Neighbour) == {Neighbour(PORT, v4, router), Neighbour(PORT, v6, router)}
    assert {("/".join(item.path), item.value) for item in host(b, Sysctl)} == {
        (f"net/ipv4/conf/{PORT}/forwarding", "1"),
        (f"net/ipv6/conf/{PORT}/forwarding", "1"),
        (f"net/ipv4/conf/{PORT}/rp_filter", "2"),
    }


@pytest.mark.parametrize("family", [4, 6])
def test_one_family_has_nothing_of_the_other(family: int) -> None:
    b = bench(family)
    b.put(NODES, node("n1", annotated(family)))
    assert {item.address.version for item in host(b, LinkAddress)} == {family}
    assert {item.destination.version for item in host(b, Route)} == {family}
    snats = {item.to.version for rule in b.node["nft"].items if isinstance(rule, NftRule)
             for item in rule.statements if isinstance(item, Snat)}  # fmt: skip
    assert snats == {family}
    assert {item.name for item in b.node["nft"].items if isinstance(item, NftSet)} == {
        "mgmtport-no-snat-nodeports",
        f"mgmtport-no-snat-services-v{family}",
        f"mgmtport-no-snat-subnets-v{family}",
    }


def test_a_node_waits_for_its_subnet_and_nothing_is_left_of_one_that_goes() -> None:
    b = bench(4)
    b.put(NODES, node("n1"))
    assert (b.node["host"].items, b.node["nft"].items, b.rows("Logical_Switch_Port")) == ([], [], {})
    assert not b.events
    b.annotate(NODES, "n1", annotated(4))
    assert b.node["host"].items
    assert b.rows("Logical_Switch_Port")
    b.drop(NODES, "n1")
    assert b.rows("Logical_Switch_Port") == {}


def test_a_subnet_outside_the_cluster_network_is_an_event_and_heals() -> None:
    b = bench(4)
    b.put(NODES, node("n1", annotated(4)))
    before = set(b.node["host"].items)
    b.annotate(NODES, "n1", {NODE_SUBNETS: '{"default":["192.168.7.0/24"]}'})
    assert any("192.168.7.0/24" in message for _, _, message in b.events)
    assert set(b.node["host"].items) == before, "the last good run stays"
    b.annotate(NODES, "n1", {NODE_SUBNETS: '{"default":["10.244.9.0/24"]}'})
    assert host(b, LinkAddress) == {LinkAddress(PORT, ip_interface("10.244.9.2/24"))}
    assert not b.failures


def test_networks_that_keep_their_source() -> None:
    b = bench(4, 6)
    b.put(NODES, node("n1", annotated(4, 6, **{EXCLUDE: '["192.0.2.0/24", "2001:db8::/32"]'})))
    assert {(item.set, item.key[0]) for item in b.node["nft"].items if isinstance(item, NftElement)} == {
        ("mgmtport-no-snat-subnets-v4", ip_network("192.0.2.0/24")),
        ("mgmtport-no-snat-subnets-v6", ip_network("2001:db8::/32")),
    }


@pytest.mark.parametrize("text", ["nonsense", '{"a": 1}', '["192.0.2.5/24"]', '["x; drop"]', "[1]"])
def test_nonsense_among_them_stops_only_them(text: str) -> None:
    b = bench(4)
    b.put(NODES, node("n1", annotated(4, **{EXCLUDE: text})))
    assert host(b, Link), "the port itself works"
    assert any(EXCLUDE in message for _, _, message in b.events)
    b.annotate(NODES, "n1", {EXCLUDE: '["192.0.2.0/24"]'})
    assert any(isinstance(item, NftElement) for item in b.node["nft"].items)


def test_a_central_zone_has_all_ports_and_a_node_only_its_own() -> None:
    central = Bench(ManagementPortPlugin(), scope=scope(Role.ZONE, per_node_zones=False), config=config(4))
    central.put(
        NODES,
        node("n1", annotated(4)),
        node("n2", {NODE_SUBNETS: '{"default":["10.244.2.0/24"]}'}),
    )
    assert set(central.rows("Logical_Switch_Port")) == {"k8s-n1", "k8s-n2"}
    assert central.node == {}
