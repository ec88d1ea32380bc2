"""The gateway's interface is chosen at start and stays, whatever becomes of the default routes."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config
from ovnkit.api.errors import HostError
from ovnkit.api.host import ADDRESSES, LINKS, ROUTES, AddressView, Hop, LinkView, RouteView, Sysctl, UplinkBridge
from ovnkit.api.kinds import Kind
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.network.bridges import OVS_BRIDGES, OVS_INTERFACES, OVS_PORTS, OvsBridge, OvsInterface, OvsPort
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit_gateway.node.gateway import MAPPINGS, Mappings
from ovnkit_gateway.plugin import GatewayPlugin

CONFIG = evolve(Config(), gateway=evolve(Config().gateway, mode="shared"))
PLACE = scope(Role.NODE, node="n1")
Facts = dict[Kind[Any], list[Any]]


def route(link: str, via: str, metric: int = 0) -> RouteView:
    hop = ip_address(via)
    return RouteView(ip_network("0.0.0.0/0" if hop.version == 4 else "::/0"), (Hop(link, hop),), metric=metric)


def bridge(name: str, *ports: str, made_for: str = "") -> Facts:
    """A bridge of Open vSwitch with its own port and others."""
    everyone = (name, *ports)
    return {
        OVS_BRIDGES: [OvsBridge(name, frozenset(f"p-{port}" for port in everyone), "", made_for)],
        OVS_PORTS: [OvsPort(f"p-{port}", port, frozenset({f"i-{port}"})) for port in everyone],
        OVS_INTERFACES: [OvsInterface(f"i-{port}", port, "", 1, "02:00:00:00:00:01") for port in everyone],
    }


def host(*links: str) -> Facts:
    addresses = [AddressView(link, ip_interface(f"192.0.{number}.5/24")) for number, link in enumerate(links)]
    views = [LinkView(link, number + 1, "02:00:00:00:00:01", 1500, True) for number, link in enumerate(links)]
    return {LINKS: views, ADDRESSES: addresses}


def started(facts: Facts, config: Config = CONFIG) -> Bench:
    """A process that starts on a host with these facts."""
    plugin = GatewayPlugin()
    plugin.ovnkit_check_host(config, PLACE, lambda kind: list(facts.get(kind, ())))
    bench = Bench(plugin, scope=PLACE, config=config, listed=(MAPPINGS, *facts))
    for kind, views in facts.items():
        bench.put(kind, *views)
    bench.put(NODES, node("n1", {}))
    return bench


def uplinks(bench: Bench) -> list[UplinkBridge]:
    return list(bench.node["uplinks"].items)


def mapped(bench: Bench) -> str | None:
    found: str | None = bench.members("ovs").get(("external_ids", "ovn-bridge-mappings"))
    return found


@pytest.mark.parametrize("metric", [0, 50])
def test_a_better_default_route_of_a_vpn_moves_nothing_and_is_told(metric: int) -> None:
    bench = started({**host("eth0"), ROUTES: [route("eth0", "192.0.0.1", 100)]})
    assert uplinks(bench) == [UplinkBridge("breth0", "eth0")]
    assert bench.events == []
    bench.put(LINKS, LinkView("wg0", 9, "", 1420, True))
    bench.put(ROUTES, route("wg0", "10.9.9.1", metric))
    assert uplinks(bench) == [UplinkBridge("breth0", "eth0")]
    ((where, reason, message),) = bench.events
    assert (where, reason) == ("n1", "DefaultRouteChanged")
    assert "wg0 via 10.9.9.1" in message
    assert "stay on eth0" in message
    bench.drop(ROUTES, route("wg0", "10.9.9.1", metric).key)
    assert bench.events == []


def test_egress_stays_on_the_bridge_when_its_route_is_gone() -> None:
    facts = {**host("br-ex", "eth0"), **bridge("br-ex", "eth0"), ROUTES: [route("br-ex", "192.0.0.1", 100)]}
    bench = started(facts)
    assert mapped(bench) == "physnet:br-ex"
    annotation = bench.get(NODES, "n1").annotations["k8s.ovn.org/l3-gateway-config"]
    bench.put(ROUTES, route("wg0", "10.9.9.1"))
    bench.drop(ROUTES, route("br-ex", "192.0.0.1", 100).key)
    assert mapped(bench) == "physnet:br-ex"
    assert bench.get(NODES, "n1").annotations["k8s.ovn.org/l3-gateway-config"] == annotation
    assert [reason for _, reason, _ in bench.events] == ["DefaultRouteChanged"]


FORMER = [Mappings("row", (("physnet", "breth0"),))]


@pytest.mark.parametrize("vpn_metric", [0, 200])
def test_a_restart_keeps_the_bridge_it_has(vpn_metric: int) -> None:
    facts = {
        **host("breth0", "eth0"),
        **bridge("breth0", "eth0", made_for="eth0"),
        ROUTES: [route("breth0", "192.0.0.1", 100), route("wg0", "10.9.9.1", vpn_metric)],
        MAPPINGS: FORMER,
    }
    bench = started(facts)
    assert uplinks(bench) == [UplinkBridge("breth0", "eth0")]
    assert mapped(bench) == "physnet:breth0"


def test_a_restart_moves_when_the_former_bridge_leads_nowhere_or_another_is_configured() -> None:
    facts: Facts = {
        **host("breth0", "eth0", "eth1"),
        **bridge("breth0", "eth0", made_for="eth0"),
        ROUTES: [route("eth1", "192.0.2.1")],
        MAPPINGS: FORMER,
    }
    assert uplinks(started(facts)) == [UplinkBridge("breth1", "eth1")]
    facts[ROUTES] = [route("breth0", "192.0.0.1"), route("eth1", "192.0.2.1", 100)]
    configured = evolve(CONFIG, gateway=evolve(CONFIG.gateway, interface="eth1"))
    assert uplinks(started(facts, configured)) == [UplinkBridge("breth1", "eth1")]


def test_both_families_must_lead_through_the_former_bridge() -> None:
    subnets = tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48")))
    dual = evolve(CONFIG, default=evolve(CONFIG.default, cluster_subnets=subnets))
    facts: Facts = {
        **host("breth0", "eth0", "eth1"),
        **bridge("breth0", "eth0", made_for="eth0"),
        ROUTES: [route("breth0", "192.0.0.1"), route("eth1", "fd00::1")],
        MAPPINGS: FORMER,
    }
    with pytest.raises(HostError, match="multiple gateway interfaces detected: breth0 eth1"):
        started(facts, dual)
    facts[ROUTES] += [route("breth0", "fd00::2", 100)]
    assert uplinks(started(facts, dual)) == [UplinkBridge("breth0", "eth0")]


@pytest.mark.parametrize(
    ("length", "routes", "expected"),
    [
        (128, [("2001:db8::/64", "br-ex", None)], 64),
        (128, [("2001:db8::/64", "br-ex", None), ("2001:db8::/48", "br-ex", None)], 64),
        (
            128,
            [("2001:db8::/48", "br-ex", "fe80::1"), ("2001:db8::/64", "eth9", None), ("::/0", "br-ex", None)],
            128,
        ),
        (96, [("2001:db8::/64", "br-ex", None)], 96),
    ],
)
def test_an_address_alone_is_in_the_network_of_its_link(
    length: int, routes: list[tuple[str, str, str | None]], expected: int
) -> None:
    """DHCPv6 gives a /128, and the router says which /64 is on-link."""
    six = evolve(CONFIG, default=evolve(CONFIG.default, cluster_subnets=(ClusterSubnet.parse("fd01::/48"),)))
    address = AddressView("br-ex", ip_interface(f"2001:db8::5/{length}"))
    learned = [
        RouteView(ip_network(prefix), (Hop(link, ip_address(via) if via else None),))
        for prefix, link, via in routes
    ]
    facts = {
        **host("br-ex", "eth0"),
        **bridge("br-ex", "eth0"),
        ADDRESSES: [address],
        ROUTES: [route("br-ex", "2001:db8::1", 7), *learned],
    }
    bench = started(facts, six)
    config = json.loads(bench.get(NODES, "n1").annotations["k8s.ovn.org/l3-gateway-config"])["default"]
    assert config["ip-addresses"] == [f"2001:db8::5/{expected}"]


@pytest.mark.parametrize(("protocols", "hears"), [([9], True), ([], True), ([9, 4], False), ([16], False)])
def test_a_bridge_hears_routers_unless_its_way_out_is_from_elsewhere(protocols: list[int], hears: bool) -> None:
    six = evolve(CONFIG, default=evolve(CONFIG.default, cluster_subnets=(ClusterSubnet.parse("fd01::/48"),)))
    routes = [evolve(route("br-ex", "fe80::1", 7 + number), protocol=number) for number in protocols]
    facts = {
        **host("br-ex", "eth0"),
        **bridge("br-ex", "eth0"),
        ADDRESSES: [AddressView("br-ex", ip_interface("2001:db8::5/64"))],
        ROUTES: routes or [route("br-ex", "fe80::1")],
    }
    bench = started(facts, evolve(six, gateway=evolve(six.gateway, next_hop="2001:db8::1")))
    if not protocols:
        bench.drop(ROUTES, route("br-ex", "fe80::1").key)
    accept = Sysctl(("net", "ipv6", "conf", "br-ex", "accept_ra"), "2", only_from="1")
    assert (accept in bench.node["host"].items) is hears
    assert Sysctl(("net", "ipv6", "conf", "all", "forwarding"), "1") in bench.node["host"].items
