"""The gateway router's rows: names and columns that OVN-Kubernetes' tools expect."""

from __future__ import annotations

from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, GatewayOptions
from ovnkit.api.errors import ConfigError
from ovnkit.api.items import Ref
from ovnkit.api.models import NODES, PODS, Node
from ovnkit.api.renderers import Role
from ovnkit.network import rows
from ovnkit.network.gateway import L3_GATEWAY
from ovnkit.network.pod import ANNOTATION, PodNetwork, render
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.conformance import ConformanceSuite
from ovnkit.testing.objects import node, pod
from ovnkit_gateway.facts import check
from ovnkit_gateway.plugin import GatewayPlugin

GATEWAY = (
    '{"default":{"mode":"MODE","bridge-id":"br-ex","interface-id":"br-ex_n1","mac-address":"02:00:00:00:00:01",'
    '"ip-addresses":["192.0.2.1/24","2001:db8::1/64"],"next-hops":["192.0.2.254","2001:db8::fe"],'
    '"node-port-enable":"true","vlan-id":"0"}}'
)


def config(mode: str = "shared", **gateway: Any) -> Config:
    subnets = tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48")))
    return Config(default=DefaultOptions(cluster_subnets=subnets), gateway=GatewayOptions(mode=mode, **gateway))


def member(mode: str = "shared", **more: str) -> Node:
    annotations = {
        "k8s.ovn.org/node-subnets": '{"default":["10.128.2.0/23","fd01:0:0:2::/64"]}',
        "k8s.ovn.org/node-id": "2",
        "k8s.ovn.org/node-chassis-id": "chassis-1",
        "k8s.ovn.org/host-cidrs": '["192.0.2.1/24","198.51.100.1/24","2001:db8::1/64"]',
        L3_GATEWAY: GATEWAY.replace("MODE", mode),
        **more,
    }
    return node("n1", annotations, addresses=("192.0.2.1",))


def bench(mode: str = "shared", **gateway: Any) -> Bench:
    found = Bench(GatewayPlugin(), scope=scope(Role.ZONE, zone="n1"), config=config(mode, **gateway))
    found.put(NODES, member(mode))
    return found


def routes(found: Bench) -> set[tuple[str, str, str, str]]:
    return {
        (row["ip_prefix"], row["nexthop"], row["output_port"] or "", row["policy"] or "")
        for row in found.rows("Logical_Router_Static_Route").values()
    }


def test_the_router_and_its_ports() -> None:
    found = bench()
    assert found.row("Logical_Router", "GR_n1") == {
        "name": "GR_n1",
        "options": {
            "chassis": "chassis-1",
            "always_learn_from_arp_request": "false",
            "dynamic_neigh_routers": "false",
            "lb_force_snat_ip": "router_ip",
            "mac_binding_age_threshold": "300",
            "snat-ct-zone": "0",
        },
        "load_balancer_group": frozenset({Ref.to(rows.cluster_lb_group()), Ref.to(rows.router_lb_group())}),
        "copp": Ref.to(rows.copp()),
        "external_ids": {"physical_ip": "192.0.2.1", "physical_ips": "192.0.2.1,2001:db8::1"},
    }
    assert found.row("Logical_Router_Port", "rtoj-GR_n1") == {
        "name": "rtoj-GR_n1",
        "networks": frozenset({"100.64.0.2/16", "fd98::2/64"}),
        "mac": "0a:58:64:40:00:02",
        "options": {"gateway_mtu": "1400"},
    }
    assert found.row("Logical_Router_Port", "rtoe-GR_n1") == {
        "name": "rtoe-GR_n1",
        "networks": frozenset({"192.0.2.1/24", "2001:db8::1/64"}),
        "mac": "02:00:00:00:00:01",
        "external_ids": {"gateway-physical-ip": "yes"},
    }
    assert found.row("Logical_Switch_Port", "br-ex_n1") == {
        "name": "br-ex_n1",
        "type": "localnet",
        "addresses": frozenset({"unknown"}),
        "options": {"network_name": "physnet"},
        "tag_request": None,
    }
    assert found.row("Logical_Switch_Port", "etor-GR_n1")["options"] == {
        "router-port": "rtoe-GR_n1",
        "nat-addresses": "router",
        "exclude-lb-vips-from-garp": "true",
    }


@pytest.mark.parametrize(
    ("mode", "hops"),
    [("shared", ("100.64.0.2", "fd98::2")), ("local", ("10.128.2.2", "fd01:0:0:2::2"))],
)
def test_routes(mode: str, hops: tuple[str, str]) -> None:
    outside = "rtoe-GR_n1"
    assert routes(bench(mode)) == {
        ("10.128.0.0/14", "100.64.0.1", "", ""),
        ("fd01::/48", "fd98::1", "", ""),
        ("169.254.169.0/29", "169.254.169.4", outside, ""),
        ("fd69::/125", "fd69::4", outside, ""),
        ("0.0.0.0/0", "192.0.2.254", outside, ""),
        ("::/0", "2001:db8::fe", outside, ""),
        ("100.64.0.2", "100.64.0.2", "", ""),
        ("fd98::2", "fd98::2", "", ""),
        ("10.128.2.0/23", hops[0], "", "src-ip"),
        ("fd01:0:0:2::/64", hops[1], "", "src-ip"),
    }


def test_translations_and_none_for_the_cluster_when_each_pod_has_its_own() -> None:
    def pairs(found: Bench) -> set[tuple[str, str]]:
        return {(row["logical_ip"], row["external_ip"]) for row in found.rows("NAT").values()}

    join = {("100.64.0.2", "192.0.2.1"), ("fd98::2", "2001:db8::1")}
    assert pairs(bench()) == {*join, ("10.128.0.0/14", "192.0.2.1"), ("fd01::/48", "2001:db8::1")}
    assert pairs(bench(disable_snat_multiple_gws=True)) == join


def test_each_pod_has_a_translation_of_its_own_instead() -> None:
    def pairs() -> set[tuple[str, str]]:
        return {(row["logical_ip"], row["external_ip"]) for row in found.rows("NAT").values()}

    found = bench(disable_snat_multiple_gws=True)
    before = pairs()
    network = PodNetwork((ip_interface("10.128.2.5/23"), ip_interface("fd01:0:0:2::5/64")), "0a:58:0a:80:02:05")
    annotations = {ANNOTATION: render(None, "default", network)}
    found.put(PODS, pod("default/a", "n1", annotations), pod("default/far", "n2", annotations))
    found.put(PODS, pod("default/unplugged", "n1"), pod("default/host", "n1", annotations, host_network=True))
    assert pairs() - before == {("10.128.2.5", "192.0.2.1"), ("fd01:0:0:2::5", "2001:db8::1")}
    found.put(NODES, member(**{L3_GATEWAY: GATEWAY.replace("MODE", "shared").replace(".1/24", ".77/24")}))
    assert ("10.128.2.5", "192.0.2.77") in pairs()
    found.put(PODS, pod("default/a", "n1", annotations, completed=True))
    assert not {inside for inside, _ in pairs()} & {"10.128.2.5", "fd01:0:0:2::5"}


def test_ports_of_translations() -> None:
    def ports(found: Bench) -> set[str]:
        return {row["external_port_range"] for row in found.rows("NAT").values()}

    assert ports(bench(ephemeral_port_range="40000-41000")) == {"40000-41000"}
    own = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert ports(bench()) == {"-".join(own)}, "by default those of the host's own connections"
    for wrong in ("40000", "5-4", "a-b", "1-70000"):
        with pytest.raises(ConfigError, match="ephemeral-port-range"):
            check(config(ephemeral_port_range=wrong))


@pytest.mark.parametrize(
    ("mode", "addresses"),
    [
        ("shared", {"192.0.2.1": "10.128.2.2", "198.51.100.1": "10.128.2.2", "2001:db8::1": "fd01:0:0:2::2"}),
        ("local", {"192.0.2.1": "10.128.2.2", "2001:db8::1": "fd01:0:0:2::2"}),
    ],
)
def test_what_pods_send_to_their_node_goes_by_the_management_port(mode: str, addresses: dict[str, str]) -> None:
    found = bench(mode).rows("Logical_Router_Policy").values()
    assert {(row["match"], row["priority"], row["action"], *row["nexthops"]) for row in found} == {
        (
            f'inport == "rtos-n1" && ip{6 if ":" in address else 4}.dst == {address} /* n1 */',
            1004,
            "reroute",
            hop,
        )
        for address, hop in addresses.items()
    }


def test_no_sizes_are_checked_where_the_node_cannot() -> None:
    found = bench()
    found.put(NODES, member(**{"k8s.ovn.org/gateway-mtu-support": "false"}))
    assert found.row("Logical_Router_Port", "rtoj-GR_n1")["options"] == {}


def test_a_changed_node_address_moves_everything() -> None:
    found = bench()
    found.put(
        NODES, member(**{L3_GATEWAY: GATEWAY.replace("MODE", "shared").replace("192.0.2.1/", "192.0.2.77/")})
    )
    assert {row["external_ip"] for row in found.rows("NAT").values()} == {"192.0.2.77", "2001:db8::1"}
    assert found.row("Logical_Router", "GR_n1")["external_ids"]["physical_ip"] == "192.0.2.77"


@pytest.mark.parametrize("wrong", ["nonsense", '{"default":{"mode":"odd"}}', '{"default":{"mode":"shared"}}'])
def test_a_wrong_annotation_keeps_the_gateway_and_heals(wrong: str) -> None:
    found = bench()
    found.put(NODES, member(**{L3_GATEWAY: wrong}))
    assert "GR_n1" in found.rows("Logical_Router")
    assert any(event[:2] == ("n1", "InvalidAnnotation") for event in found.events)
    found.put(NODES, member())
    assert found.failures == {}


def test_a_node_whose_gateway_is_disabled_has_no_router() -> None:
    found = bench()
    found.put(NODES, member(**{L3_GATEWAY: '{"default":{"mode":""}}'}))
    assert found.rows("Logical_Router") == {}


@pytest.mark.ovn
class TestGatewayConformance(ConformanceSuite):
    plugin = "gateway"
    scenarios = {
        "one gateway": """
apiVersion: v1
kind: Node
metadata:
  name: n1
  uid: n1-uid
  annotations:
    k8s.ovn.org/node-chassis-id: chassis-1
    k8s.ovn.org/node-id: "2"
    k8s.ovn.org/node-subnets: 'SUBNETS'
    k8s.ovn.org/l3-gateway-config: 'GATEWAY'
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
"""
    }

    def prepare(self, text: str, family: str) -> str:
        subnets = {"ipv4": '"10.128.2.0/23"', "ipv6": '"fd01:0:0:2::/64"'}
        wanted = list(subnets.values()) if family == "dual" else [subnets[family]]
        text = text.replace("SUBNETS", f'{{"default":[{",".join(wanted)}]}}')
        return text.replace("GATEWAY", GATEWAY.replace("MODE", "shared"))
