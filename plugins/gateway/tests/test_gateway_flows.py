"""Role node: the annotation, the flows of the external bridge and what the kernel gets, from observed facts."""

from __future__ import annotations

import json
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, GatewayOptions, KubernetesOptions
from ovnkit.api.host import (
    ADDRESSES,
    LINKS,
    ROUTES,
    AddressView,
    Hop,
    LinkAddress,
    LinkView,
    Neighbour,
    Route,
    RouteView,
    Rule,
    UplinkBridge,
)
from ovnkit.api.models import NODES
from ovnkit.api.nft import NftRule
from ovnkit.api.renderers import Role
from ovnkit.network.bridges import OVS_BRIDGES, OVS_INTERFACES, OVS_PORTS, OvsBridge, OvsInterface, OvsPort
from ovnkit.network.gateway import L3_GATEWAY
from ovnkit.network.node import HOST_CIDRS
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit_gateway.node.gateway import MAPPINGS, Mappings
from ovnkit_gateway.plugin import GatewayPlugin

MAC = "02:00:00:00:00:01"
CLUSTER = {4: "10.128.0.0/14/23", 6: "fd01::/48/64"}
SERVICES = {4: ip_network("172.30.0.0/16"), 6: ip_network("fd02::/112")}
SUBNETS = {4: "10.128.{}.0/23", 6: "fd01:0:0:{}::/64"}
OWN = {4: "192.0.2.{}/24", 6: "2001:db8::{}/64"}
HOPS = {4: "192.0.2.254", 6: "2001:db8::fe"}
FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}


def config(mode: str = "shared", families: tuple[int, ...] = (4, 6), **gateway: Any) -> Config:
    return Config(
        default=DefaultOptions(cluster_subnets=tuple(ClusterSubnet.parse(CLUSTER[item]) for item in families)),
        kubernetes=KubernetesOptions(service_cidrs=tuple(SERVICES[family] for family in families)),
        gateway=GatewayOptions(mode=mode, nodeport=True, **gateway),
    )


def member(name: str, number: int, families: tuple[int, ...]) -> Any:
    primary = {f"ipv{family}": OWN[family].format(number) for family in families}
    annotations = {
        "k8s.ovn.org/node-subnets": json.dumps({"default": [SUBNETS[item].format(number) for item in families]}),
        "k8s.ovn.org/node-id": str(number),
        "k8s.ovn.org/node-primary-ifaddr": json.dumps(primary),
    }
    addresses = tuple(OWN[family].format(number).partition("/")[0] for family in families)
    return node(name, annotations, addresses=addresses)


def bench(mode: str = "shared", families: tuple[int, ...] = (4, 6), **gateway: Any) -> Bench:
    """Node n1 of two, with eth0 (port 1) and the patch port (port 2) in br-ex."""
    found = Bench(
        GatewayPlugin(), scope=scope(Role.NODE, node="n1", zone="n1"), config=config(mode, families, **gateway)
    )
    found.put(NODES, member("n1", 2, families), member("n2", 4, families))
    found.put(MAPPINGS, Mappings("row", ()))
    found.put(LINKS, LinkView("br-ex", 3, MAC, 1500, True), LinkView("eth0", 2, MAC, 1500, True))
    for family in families:
        found.put(ADDRESSES, AddressView("br-ex", ip_interface(OWN[family].format(2))))
        everywhere = ip_network("0.0.0.0/0" if family == 4 else "::/0")
        found.put(ROUTES, RouteView(everywhere, (Hop("br-ex", ip_address(HOPS[family])),)))
    names = {"br-ex": "internal", "eth0": "", "patch-br-ex_n1-to-br-int": "patch"}
    for number, (name, kind) in enumerate(names.items()):
        found.put(OVS_INTERFACES, OvsInterface(f"i-{name}", name, kind, number, MAC))
        found.put(OVS_PORTS, OvsPort(f"p-{name}", name, frozenset({f"i-{name}"})))
    found.put(OVS_BRIDGES, OvsBridge("br-ex", frozenset(f"p-{name}" for name in names), "netdev"))
    return found


def flows(found: Bench) -> set[str]:
    return {item.text for item in found.node["flows"].items}


LAYOUTS = [(mode, family) for mode in ("shared", "local") for family in FAMILIES]


@pytest.mark.parametrize(("mode", "family"), LAYOUTS)
def test_the_annotation_and_the_mapping(mode: str, family: str) -> None:
    families = FAMILIES[family]
    found = bench(mode, families)
    (text,) = [item.value for item in found.kube.items if item.name == L3_GATEWAY]
    said = json.loads(text)["default"]
    assert {
        key: said[key] for key in ("mode", "bridge-id", "interface-id", "mac-address", "node-port-enable")
    } == {
        "mode": mode,
        "bridge-id": "br-ex",
        "interface-id": "br-ex_n1",
        "mac-address": MAC,
        "node-port-enable": "true",
    }
    assert said["ip-addresses"] == [OWN[item].format(2) for item in families]
    assert said["next-hops"] == [HOPS[item] for item in families]
    assert ("ip-address" in said) == (len(families) == 1), "the singular key only for one family"
    assert found.members("ovs") == {("external_ids", "ovn-bridge-mappings"): "physnet:br-ex"}
    assert found.failures == {}


@pytest.mark.parametrize(("mode", "family"), LAYOUTS)
def test_open_vswitch_takes_every_flow(mode: str, family: str) -> None:
    found = bench(mode, FAMILIES[family], disable_snat_multiple_gws=True)
    assert len(found.node["flows"].items) > 20
    places = [item.place for item in found.node["flows"].items]
    assert len(places) == len(set(places)), "no two flows of one place"
    for text in flows(found):
        command = ["ovs-ofctl", "-O", "OpenFlow15", "parse-flow", text]
        parsed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, (text, parsed.stderr)


# What the bridge of an IPv4 node does in shared mode, flow by flow (port 1: eth0, port 2: patch port).
SHARED_V4 = Path(__file__).with_name("shared_ipv4.flows").read_text().splitlines()


def test_the_flows_of_shared_mode() -> None:
    assert flows(bench("shared", (4,))) == set(SHARED_V4)


def test_what_local_mode_has_instead() -> None:
    shared, local = set(SHARED_V4), flows(bench("local", (4,)))
    assert sorted(shared - local) == [
        "table=0,priority=102,ip,in_port=2,dl_src=02:00:00:00:00:01,nw_dst=192.0.2.0/24,"
        "actions=ct(commit,zone=64000,exec(set_field:0x1->ct_mark)),NORMAL",
        "table=0,priority=110,ip,in_port=1,nw_frag=yes,actions=ct(zone=64004,table=0)",
        "table=0,priority=700,icmp,in_port=2,nw_dst=192.0.2.4/32,icmp_type=3,icmp_code=4,actions=drop",
        "table=1,priority=100,ip,ct_state=+trk+est,ct_mark=1,actions=output:2",
        "table=1,priority=100,ip,ct_state=+trk+rel,ct_mark=1,actions=output:2",
        "table=1,priority=12,icmp,in_port=1,dl_dst=02:00:00:00:00:01,icmp_type=3,icmp_code=4,"
        "actions=output:2,LOCAL",
    ]
    larger = "check_pkt_larger(1414)->NXM_NX_REG0[0],resubmit(,11)"
    assert sorted(local - shared) == [
        "table=0,priority=102,ip,in_port=LOCAL,dl_src=02:00:00:00:00:01,nw_dst=192.0.2.0/24,"
        "actions=ct(commit,zone=64000,exec(set_field:0x2->ct_mark)),NORMAL",
        *(
            f"table=0,priority=175,{protocol},in_port=2,nw_src=192.0.2.2/32,actions=ct(zone=64001,table=4)"
            for protocol in ("sctp", "tcp", "udp")
        ),
        f"table=1,priority=100,ip,ct_state=+trk+est,ct_mark=1,actions={larger}",
        f"table=1,priority=100,ip,ct_state=+trk+rel,ct_mark=1,actions={larger}",
        "table=11,priority=1,actions=output:2",
        "table=11,priority=10,reg0=1,actions=LOCAL",
    ]


def test_ipv6_is_the_same_and_its_neighbour_discovery() -> None:
    dual, v4 = flows(bench("shared", (4, 6))), flows(bench("shared", (4,)))
    assert v4 <= dual
    v6 = flows(bench("shared", (6,)))
    # The MAC of the next hop is that of its first address.
    assert {flow.replace("0a:58:1b:ac:71:41", "0a:58:a9:fe:a9:04") for flow in v6} | v4 == dual
    assert {
        "table=0,priority=700,icmp6,in_port=2,ipv6_dst=2001:db8::4/128,icmp_type=2,icmp_code=0,actions=drop",
        "table=0,priority=102,icmp6,in_port=2,dl_src=02:00:00:00:00:01,icmp_type=135,actions=NORMAL",
        "table=0,priority=102,icmp6,in_port=2,dl_src=02:00:00:00:00:01,icmp_type=136,actions=NORMAL",
        "table=1,priority=12,icmp6,in_port=1,dl_dst=02:00:00:00:00:01,icmp_type=2,icmp_code=0,"
        "actions=output:2,LOCAL",
        "table=1,priority=14,icmp6,icmp_type=134,actions=FLOOD",
        "table=1,priority=14,icmp6,icmp_type=136,actions=FLOOD",
    } <= dual


def test_without_translation_pods_pass_by_their_own_addresses() -> None:
    more = flows(bench("shared", (4,), disable_snat_multiple_gws=True)) - set(SHARED_V4)
    assert more == {
        "table=0,priority=104,ip,in_port=2,dl_src=02:00:00:00:00:01,nw_src=10.128.2.0/23,actions=output:1",
        "table=0,priority=300,ip,in_port=1,nw_dst=10.128.2.0/23,actions=output:2",
    }


def test_a_vlan_is_matched_stripped_and_set() -> None:
    found = flows(bench("shared", (4,), vlan_id=77))
    assert "table=0,priority=50,ip,dl_vlan=77,dl_dst=02:00:00:00:00:01,actions=ct(zone=64000,table=1,nat)" in found
    assert "table=1,priority=10,dl_dst=02:00:00:00:00:01,actions=strip_vlan,LOCAL" in found
    assert (
        "table=0,priority=100,ip,in_port=LOCAL,actions=ct(commit,zone=64000,exec(set_field:0x2->ct_mark)),"
        "mod_vlan_vid:77,output:1" in found
    )


def test_no_flows_until_both_ports_are_there_so_that_the_bridge_switches() -> None:
    found = bench("shared", (4,))
    patch = found.get(OVS_INTERFACES, "i-patch-br-ex_n1-to-br-int")
    found.put(OVS_INTERFACES, evolve(patch, ofport=0))
    assert flows(found) == set()
    found.put(OVS_INTERFACES, evolve(patch, ofport=9))
    assert flows(found) == {
        text.replace("in_port=2", "in_port=9").replace("output:2", "output:9") for text in SHARED_V4
    }


def test_a_node_that_gets_another_address() -> None:
    """At run time: everything follows, nothing else has to."""
    found = bench("shared", (4,))
    found.put(ADDRESSES, AddressView("br-ex", ip_interface("192.0.2.77/24")))
    found.drop(ADDRESSES, "br-ex/192.0.2.2/24")
    assert "192.0.2.2/" not in "".join(flows(found))
    assert flows(found) == {
        text.replace("192.0.2.2/32", "192.0.2.77/32").replace("=192.0.2.2)", "=192.0.2.77)") for text in SHARED_V4
    }
    annotation = json.loads(found.get(NODES, "n1").annotations[L3_GATEWAY])["default"]
    assert annotation["ip-addresses"] == ["192.0.2.77/24"]
    assert (
        Route(ip_network("169.254.169.1/32"), "br-ex", source=ip_address("192.0.2.77")) in found.node["host"].items
    )


def test_an_address_that_goes_without_another_keeps_what_was_built() -> None:
    found = bench("shared", (4,))
    found.drop(ADDRESSES, "br-ex/192.0.2.2/24")
    assert flows(found) == set(SHARED_V4)
    assert any("failed to find IPv4 address on interface br-ex" in text for text in found.failures.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernels_way_to_services(family: str) -> None:
    items = set(bench("shared", FAMILIES[family]).node["host"].items)
    wanted: set[Any] = set()
    if 4 in FAMILIES[family]:
        wanted |= {
            LinkAddress("br-ex", ip_interface("169.254.169.2/29")),
            Route(ip_network("169.254.169.1/32"), "br-ex", source=ip_address("192.0.2.2")),
            Route(
                SERVICES[4], "br-ex", via=ip_address("169.254.169.4"), source=ip_address("169.254.169.2"), mtu=1400
            ),
            Route(SERVICES[4], "ovn-k8s-mp0", via=ip_address("10.128.2.1"), table=7),
            Neighbour("br-ex", ip_address("169.254.169.1"), "0a:58:a9:fe:a9:01"),
            Neighbour("br-ex", ip_address("169.254.169.4"), "0a:58:a9:fe:a9:04"),
            Rule(4, 30, 7, fwmark=0x1745EC),
        }
    if 6 in FAMILIES[family]:
        wanted |= {
            LinkAddress("br-ex", ip_interface("fd69::2/125"), deprecated=True),
            Route(ip_network("fd69::1/128"), "br-ex", source=ip_address("2001:db8::2")),
            Route(SERVICES[6], "br-ex", via=ip_address("fd69::4"), source=ip_address("fd69::2"), mtu=1400),
            Route(SERVICES[6], "ovn-k8s-mp0", via=ip_address("fd01:0:0:2::1"), table=7),
            Rule(6, 30, 7, fwmark=0x1745EC),
        }
    assert wanted <= items


@pytest.mark.parametrize(("mode", "rules"), [("shared", 0), ("local", 5)])
def test_only_local_mode_translates_in_the_kernel(mode: str, rules: int) -> None:
    found = [item for item in bench(mode).node["nft"].items if isinstance(item, NftRule)]
    assert len(found) == rules
    assert {rule.chain for rule in found} <= {"ovn-kube-local-gw-masq", "ovn-kube-pod-subnet-masq"}


def test_a_configured_interface_that_is_a_port_of_a_bridge_means_the_bridge() -> None:
    found = bench("shared", (4,), interface="eth0")
    assert found.failures == {}
    annotation = json.loads(found.get(NODES, "n1").annotations[L3_GATEWAY])["default"]
    assert (annotation["bridge-id"], annotation["next-hops"]) == ("br-ex", [HOPS[4]])


# -- the bridge itself ----------------------------------------------------------------------------------------


def bare_bench(**gateway: Any) -> Bench:
    """Node n1 with ens4 on no bridge, which all default routes lead through."""
    found = Bench(
        GatewayPlugin(), scope=scope(Role.NODE, node="n1", zone="n1"), config=config("shared", **gateway)
    )
    found.put(LINKS, LinkView("ens4", 2, MAC, 1500, True))
    for family in (4, 6):
        everywhere = ip_network("0.0.0.0/0" if family == 4 else "::/0")
        found.put(ROUTES, RouteView(everywhere, (Hop("ens4", ip_address(HOPS[family])),)))
    return found


@pytest.mark.parametrize(
    ("gateway", "name"), [({}, "brens4"), ({"interface": "ens4"}, "brens4"), ({"bridge": "br-ex"}, "br-ex")]
)
def test_a_bare_interface_gets_a_bridge(gateway: dict[str, str], name: str) -> None:
    found = bare_bench(**gateway)
    assert set(found.node["uplinks"].items) == {UplinkBridge(name, "ens4")}
    # It is there, and one family's route has moved already: nothing changes.
    found.put(OVS_INTERFACES, OvsInterface("i1", name, "internal", 1, MAC), OvsInterface("i2", "ens4", "", 2, MAC))
    found.put(OVS_PORTS, OvsPort("p1", name, frozenset({"i1"})), OvsPort("p2", "ens4", frozenset({"i2"})))
    found.put(OVS_BRIDGES, OvsBridge(name, frozenset({"p1", "p2"}), "", "ens4"))
    found.put(ROUTES, RouteView(ip_network("0.0.0.0/0"), (Hop(name, ip_address(HOPS[4])),)))
    assert set(found.node["uplinks"].items) == {UplinkBridge(name, "ens4")}
    assert found.events == []


def test_a_bridge_of_somebody_else_is_used_and_stays_theirs() -> None:
    assert set(bench().node["uplinks"].items) == set()


def test_an_interface_that_is_not_there_is_waited_for() -> None:
    found = bare_bench(interface="ens9")
    assert set(found.node["uplinks"].items) == set()
    found.put(LINKS, LinkView("ens9", 5, MAC, 1500, True))
    assert set(found.node["uplinks"].items) == {UplinkBridge("brens9", "ens9")}


def test_what_ovn_sends_to_an_address_of_the_node_stays_here_and_what_is_for_another_node_leaves() -> None:
    found = bench(families=(4,))
    hosts = json.dumps(["192.0.2.2/24", "198.51.100.2/24", "2001:db8::2/64"])
    found.annotate(NODES, "n1", {HOST_CIDRS: hosts})
    found.annotate(NODES, "n2", {HOST_CIDRS: json.dumps(["192.0.2.4/24", "198.51.100.4/24"])})
    hairpins = {text for text in flows(found) if "priority=500,ip,in_port=2,nw_src=192.0.2.2/32" in text}
    assert {text.partition("nw_dst=")[2].partition("/")[0] for text in hairpins} == {
        "169.254.169.2",
        "198.51.100.2",
    }


@pytest.mark.parametrize("cause", ["", "configured", "offload"])
def test_routers_check_sizes_unless_the_node_cannot(cause: str) -> None:
    found = bench("local", (4,), disable_pkt_mtu_check=cause == "configured")
    if cause == "offload":
        found.put(MAPPINGS, Mappings("row", (), hw_offload=True))
    annotation = found.get(NODES, "n1").annotations.get("k8s.ovn.org/gateway-mtu-support")
    assert annotation == ("false" if cause else None)
    assert any("check_pkt_larger" in text for text in flows(found)) is not bool(cause)
