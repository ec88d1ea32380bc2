"""What a node says about itself, and how its Open vSwitch is set up."""

from __future__ import annotations

import json
from ipaddress import ip_interface, ip_network

from attrs import evolve

from ovnkit.api.config import Config, DatabaseOptions, DefaultOptions
from ovnkit.api.host import ADDRESSES, LINKS, ROUTES, AddressView, Hop, LinkView, RouteView
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit_topology.node import OVS_SYSTEM, OvsSystem
from ovnkit_topology.plugin import TopologyPlugin


def bench(config: Config | None = None, *, central: bool = False, mtu: int = 1500) -> Bench:
    place = scope(Role.NODE, node="a", per_node_zones=not central)
    found = Bench(TopologyPlugin(), scope=place, config=config)
    found.put(LINKS, LinkView("eth0", 2, "02:00:00:00:00:01", mtu, True))
    for link, text in (
        ("lo", "127.0.0.1/8"),
        ("eth0", "192.0.2.10/24"),
        ("eth0", "fe80::1/64"),
        ("eth0", "2001:db8::a/64"),
        ("eth1", "198.51.100.7/24"),
        ("ovn-k8s-mp0", "10.128.0.2/23"),
        ("breth0", "169.254.169.2/29"),
    ):
        found.put(ADDRESSES, AddressView(link, ip_interface(text)))
    return found


def annotated(found: Bench) -> dict[str, str]:
    return {name.removeprefix("k8s.ovn.org/"): value for name, value in found.get(NODES, "a").annotations.items()}


def test_a_node_annotates_what_others_need() -> None:
    found = bench()
    found.put(OVS_SYSTEM, OvsSystem("row", "6f-chassis"))
    found.put(NODES, node("a", addresses=("192.0.2.10",)), node("b", addresses=("192.0.2.11",)))
    assert annotated(found) == {
        "node-chassis-id": "6f-chassis",
        "zone-name": "a",
        "host-cidrs": '["192.0.2.10/24","198.51.100.7/24","2001:db8::a/64"]',
        "node-primary-ifaddr": '{"ipv4":"192.0.2.10/24","ipv6":"2001:db8::a/64"}',
        "node-encap-ips": '["192.0.2.10"]',
    }
    assert found.get(NODES, "b").annotations == {}


def test_a_missing_system_id_is_reported_and_the_rest_still_annotated() -> None:
    found = bench()
    found.put(NODES, node("a", addresses=("192.0.2.10",)))
    assert [event[1] for event in found.events] == ["NoSystemId"]
    assert "node-encap-ips" in annotated(found)
    found.put(OVS_SYSTEM, OvsSystem("row", "late"))
    assert annotated(found)["node-chassis-id"] == "late"
    assert found.events == []


def test_a_new_address_of_the_host_is_annotated() -> None:
    found = bench()
    found.put(NODES, node("a", addresses=("192.0.2.10",)))
    found.put(ADDRESSES, AddressView("eth1", ip_interface("198.51.100.8/24")))
    found.drop(ADDRESSES, "eth1/198.51.100.7/24")
    assert json.loads(annotated(found)["host-cidrs"]) == ["192.0.2.10/24", "198.51.100.8/24", "2001:db8::a/64"]


def test_an_ipv6_node_has_an_ipv6_tunnel() -> None:
    found = bench()
    found.put(NODES, node("a", addresses=("2001:db8::a",)))
    assert annotated(found)["node-encap-ips"] == '["2001:db8::a"]'
    assert found.members("ovs")["external_ids", "ovn-encap-ip"] == "2001:db8::a"


def test_open_vswitch_learns_where_the_southbound_is() -> None:
    found = bench()
    found.put(NODES, node("a", addresses=("192.0.2.10",)))
    assert {key: value for (column, key), value in found.members("ovs").items() if column == "external_ids"} == {
        "hostname": "a",
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": "192.0.2.10",
        "ovn-remote": "unix:/var/run/ovn/ovnsb_db.sock",
        "ovn-remote-probe-interval": "100000",
        "ovn-bridge-remote-probe-interval": "0",
        "ovn-openflow-probe-interval": "0",
        "ovn-is-interconn": "true",
        "ovn-monitor-all": "true",
        "ovn-ofctrl-wait-before-clear": "0",
        "ovn-enable-lflow-cache": "true",
        "ovn-set-local-ip": "true",
    }
    assert found.members("ovs")["other_config", "bundle-idle-timeout"] == "0"


def test_a_central_zone_is_reached_at_its_address() -> None:
    config = Config(
        default=DefaultOptions(encap_ip="192.0.2.10,198.51.100.7"),
        ovnsouth=DatabaseOptions(address="tcp:192.0.2.1:6642,tcp:192.0.2.2:6642"),
    )
    found = bench(config, central=True)
    found.put(NODES, node("a", addresses=("192.0.2.10",)))
    members = found.members("ovs")
    assert members["external_ids", "ovn-remote"] == "tcp:192.0.2.1:6642,tcp:192.0.2.2:6642"
    assert members["external_ids", "ovn-is-interconn"] == "false"
    assert members["external_ids", "ovn-encap-ip"] == "192.0.2.10,198.51.100.7"
    assert annotated(found)["zone-name"] == "global"


def test_nothing_is_set_before_the_node_is_registered_or_has_an_address() -> None:
    found = bench()
    assert found.members("ovs") == {}
    found.put(NODES, node("a"))
    assert found.members("ovs") == {}
    assert "has no InternalIP address yet" in found.failures["topology/ovs/a"]
    found.put(NODES, node("a", addresses=("192.0.2.10",)))
    assert found.members("ovs")["external_ids", "ovn-encap-ip"] == "192.0.2.10"
    assert found.failures == {}


def test_a_wrong_tunnel_address_is_reported_on_the_node() -> None:
    found = bench(Config(default=DefaultOptions(encap_ip="192.0.2.x")))
    found.put(NODES, node("a", addresses=("192.0.2.10",)))
    assert ("a", "InvalidConfiguration") in [event[:2] for event in found.events]


def test_a_tunnel_interface_with_too_small_an_mtu_is_reported_until_it_is_raised() -> None:
    found = bench(mtu=1450)
    found.put(NODES, node("a", addresses=("192.0.2.10",)))
    found.put(OVS_SYSTEM, OvsSystem("row", "x"))
    message = "MTU (1450) of network interface eth0 is too small for specified overlay MTU (1458)"
    assert found.events == [("a", "MtuTooSmall", message)]
    found.put(LINKS, evolve(found.get(LINKS, "eth0"), mtu=1458))
    assert found.events == []


def test_an_address_of_dhcpv6_is_in_the_network_that_its_router_advertises() -> None:
    found = bench()
    found.drop(ADDRESSES, "eth0/2001:db8::a/64")
    found.put(ADDRESSES, AddressView("eth0", ip_interface("2001:db8::a/128")))
    found.put(ROUTES, RouteView(ip_network("2001:db8::/64"), (Hop("eth0"),)))
    found.put(NODES, node("a", addresses=("192.0.2.10",)))
    assert json.loads(annotated(found)["node-primary-ifaddr"])["ipv6"] == "2001:db8::a/64"
