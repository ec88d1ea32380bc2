"""The rows of services, case by case: names, options, addresses, targets, and what refers to them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.identity import RowId
from ovnkit.api.items import Absent, Member, Ref, Row
from ovnkit.api.matches.syntax import fault
from ovnkit.api.models import NODES, Node
from ovnkit.api.renderers import Role
from ovnkit.network import rows
from ovnkit.network.gateway import L3_GATEWAY, L3Gateway
from ovnkit.network.node import CHASSIS_ID, HOST_CIDRS, NODE_SUBNETS
from ovnkit.network.northd import NORTHD
from ovnkit.network.services import (
    ENDPOINT_SLICES,
    SERVICES,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    ServicePort,
)
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import endpoint_slice, node, service
from ovnkit_services.idling import BALANCERS, EMPTY_BALANCERS, BalancerOwner, EmptyBalancer
from ovnkit_services.options import ServicesOptions
from ovnkit_services.plugin import ServicesPlugin

V4 = "10.128.0.0/14/23"
V6 = "fd01::/48/64"
WEB = "default/web"
GROUPS = {
    rows.cluster_lb_group(): "clusterLBGroup",
    rows.switch_lb_group(): "clusterSwitchLBGroup",
    rows.router_lb_group(): "clusterRouterLBGroup",
}


def config(*subnets: str, **options: Any) -> Config:
    default = DefaultOptions(cluster_subnets=tuple(ClusterSubnet.parse(text) for text in subnets or (V4,)))
    return Config(default=default).with_options("services", ServicesOptions(**options))


def gateway_node(number: int, *, node_port: bool = True, gateway: bool = True, families: str = "46") -> Node:
    """Node n<number> with addresses 192.0.2.<number> and 2001:db8::<number>."""
    addresses = [f"192.0.2.{number}/24"] * ("4" in families) + [f"2001:db8::{number}/64"] * ("6" in families)
    annotations = {
        NODE_SUBNETS: orjson.dumps({"default": [f"10.128.{number * 2}.0/23"]}).decode(),
        CHASSIS_ID: f"chassis-{number}",
        HOST_CIDRS: orjson.dumps(addresses).decode(),
    }
    if gateway:
        interfaces = tuple(ipaddress.ip_interface(address) for address in addresses)
        found = L3Gateway("shared", "br-ex", f"br-ex_n{number}", "02:00:00:00:00:01", interfaces, (), node_port)
        annotations[L3_GATEWAY] = found.encode()
    return node(f"n{number}", annotations)


class Services:
    """A bench with the services plugin and its rows in a readable form."""

    def __init__(
        self, *nodes: Node, config: Config | None = None, central: bool = False, cluster: bool = True
    ) -> None:
        roles = (Role.ZONE, Role.CLUSTER) if cluster else (Role.ZONE,)
        where = scope(*roles, zone="global" if central else "n1", per_node_zones=not central)
        self.bench = Bench(ServicesPlugin(), scope=where, config=config or globals()["config"]())
        self.bench.put(NODES, *nodes)

    def put(self, *views: Any) -> Services:
        for view in views:
            self.bench.put(ENDPOINT_SLICES if isinstance(view, EndpointSlice) else SERVICES, view)
        return self

    @property
    def vips(self) -> dict[str, Mapping[str, str]]:
        return {
            name.removeprefix(f"Service_{WEB}_"): columns["vips"]
            for name, columns in self.bench.rows("Load_Balancer").items()
        }

    @property
    def slots(self) -> dict[str, set[str]]:
        """Where each load balancer hangs, by the last parts of its name."""
        found: dict[str, set[str]] = {}
        uuids = {}
        for owner, items in self.bench.databases["nb"].wanted.items():
            for item in items:
                if isinstance(item, Row) and item.table == "Load_Balancer":
                    row = RowId(owner.plugin, owner.renderer, owner.key, item.name)
                    uuids[row.uuid] = str(item.columns["name"]).removeprefix(f"Service_{WEB}_")
        for item in self.bench.databases["nb"].items:
            if isinstance(item, Member) and item.slot.column == "load_balancer":
                assert isinstance(item.slot.row, RowId)
                place = GROUPS.get(item.slot.row, f"{item.slot.table} {item.slot.row.key}")
                assert isinstance(item.value, Ref)
                found.setdefault(uuids[item.value.uuid], set()).add(place)
        return found

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(key, reason) for key, reason, _ in self.bench.events]

    def options(self, name: str) -> Mapping[str, str]:
        options: Mapping[str, str] = self.bench.row("Load_Balancer", f"Service_{WEB}_{name}")["options"]
        return options


def pods(*addresses: str, name: str = "default/web-1", **more: Any) -> EndpointSlice:
    """A slice of ready endpoints; `a@n1` puts one on a node."""
    endpoints = []
    for text in addresses:
        address, _, where = text.partition("@")
        endpoints.append(Endpoint((address,), where))
    return endpoint_slice(name, *endpoints, service=WEB, **more)


# -- cluster IPs ------------------------------------------------------------------------------------------------


def test_a_cluster_ip_is_one_load_balancer_on_the_group_of_all() -> None:
    found = Services(gateway_node(1)).put(service(WEB), pods("10.128.2.5@n1", "10.128.4.5@n2"))
    assert found.bench.rows("Load_Balancer") == {
        "Service_default/web_TCP_cluster": {
            "name": "Service_default/web_TCP_cluster",
            "protocol": "tcp",
            "vips": {"172.16.1.10:80": "10.128.2.5:8080,10.128.4.5:8080"},
            "options": {
                "reject": "true",
                "event": "false",
                "skip_snat": "false",
                "neighbor_responder": "none",
                "hairpin_snat_ip": "169.254.169.5 fd69::5",
            },
            "selection_fields": frozenset(),
            "external_ids": {"k8s.ovn.org/kind": "Service", "k8s.ovn.org/owner": "default/web"},
        }
    }
    assert found.slots == {"TCP_cluster": {"clusterLBGroup"}}
    assert found.bench.events == []
    assert found.bench.failures == {}


def test_without_endpoints_the_address_stays_with_no_targets() -> None:
    found = Services(gateway_node(1)).put(service(WEB))
    assert found.vips == {"TCP_cluster": {"172.16.1.10:80": ""}}


@pytest.mark.parametrize(
    "view",
    [
        service(WEB, cluster_ips=()),
        service(WEB, type="ExternalName", cluster_ips=()),
    ],
)
def test_headless_services_and_names_have_no_rows(view: Any) -> None:
    assert Services(gateway_node(1)).put(view, pods("10.128.2.5")).vips == {}


def test_protocols_have_load_balancers_of_their_own_and_names_join_ports() -> None:
    ports = (
        ServicePort("dns", "UDP", 53),
        ServicePort("dns-tcp", "TCP", 53),
        ServicePort("web", "TCP", 80),
        ServicePort("sig", "SCTP", 2905),
    )
    piece = pods(
        "10.128.2.5",
        ports=(
            EndpointPort("dns", "UDP", 5353),
            EndpointPort("dns-tcp", "TCP", 5354),
            EndpointPort("web", "TCP", 8080),
            EndpointPort("sig", "SCTP", 2906),
            EndpointPort("unknown", "TCP", 1),
        ),
    )
    assert Services(gateway_node(1)).put(service(WEB, *ports), piece).vips == {
        "UDP_cluster": {"172.16.1.10:53": "10.128.2.5:5353"},
        "TCP_cluster": {"172.16.1.10:53": "10.128.2.5:5354", "172.16.1.10:80": "10.128.2.5:8080"},
        "SCTP_cluster": {"172.16.1.10:2905": "10.128.2.5:2906"},
    }


@pytest.mark.parametrize("addresses", [("172.16.1.10", "fd02::10"), ("fd02::10", "172.16.1.10")])
def test_dual_stack_in_either_order(addresses: tuple[str, str]) -> None:
    found = Services(gateway_node(1), config=config(V4, V6))
    found.put(
        service(WEB, cluster_ips=addresses),
        pods("10.128.2.5"),
        pods("fd01::5", "fd01::6", name="default/web-2", family=6),
    )
    assert found.vips == {
        "TCP_cluster": {"172.16.1.10:80": "10.128.2.5:8080", "[fd02::10]:80": "[fd01::5]:8080,[fd01::6]:8080"}
    }


def test_several_slices_and_target_ports_of_one_port_are_joined_once() -> None:
    found = Services(gateway_node(1)).put(
        service(WEB, ServicePort("http", "TCP", 80)),
        pods("10.128.2.6", "10.128.2.5", ports=(EndpointPort("http", "TCP", 8080),)),
        pods("10.128.2.7", "10.128.2.5", name="default/web-2", ports=(EndpointPort("http", "TCP", 8080),)),
        pods("10.128.2.8", name="default/web-3", ports=(EndpointPort("http", "TCP", 9090),)),
    )
    assert found.vips["TCP_cluster"]["172.16.1.10:80"] == (
        "10.128.2.5:8080,10.128.2.6:8080,10.128.2.7:8080,10.128.2.8:9090"
    )


# -- which endpoints --------------------------------------------------------------------------------------------

READY = Endpoint(("10.128.2.1",))
NOT_READY = Endpoint(("10.128.2.2",), ready=False, serving=False)
GOING = Endpoint(("10.128.2.3",), ready=False, serving=True, terminating=True)
GONE = Endpoint(("10.128.2.4",), ready=False, serving=False, terminating=True)
STARTING = Endpoint(("10.128.2.5",), ready=False, serving=True)


@pytest.mark.parametrize(
    ("endpoints", "everyone", "expected"),
    [
        ([READY, NOT_READY, GOING], False, "1"),
        ([NOT_READY, GOING, GONE], False, "3"),
        ([NOT_READY, GONE, STARTING], False, ""),
        ([READY, NOT_READY, GOING, GONE], True, "1234"),
    ],
)
def test_ready_endpoints_then_those_that_are_going(
    endpoints: list[Endpoint], everyone: bool, expected: str
) -> None:
    view = service(WEB, publish_not_ready=everyone)
    found = Services(gateway_node(1)).put(view, endpoint_slice("default/web-1", *endpoints, service=WEB))
    assert found.vips["TCP_cluster"]["172.16.1.10:80"] == ",".join(f"10.128.2.{last}:8080" for last in expected)


def test_an_endpoint_that_is_no_address_is_left_out_and_told() -> None:
    piece = pods("10.128.2.5", "web.example", "127.0.0.1", "fd01::1", "10.128.2.6")
    found = Services(gateway_node(1)).put(service(WEB), piece)
    assert found.vips["TCP_cluster"]["172.16.1.10:80"] == "10.128.2.5:8080,10.128.2.6:8080"
    assert found.bench.events == [
        (
            "default/web-1",
            "InvalidEndpoint",
            "endpoint 'web.example' is no address; endpoint 127.0.0.1 is no address of a host; "
            "endpoint fd01::1 is no IPv4 address",
        )
    ]


# -- endpoints outside of the cluster network -------------------------------------------------------------------


def test_host_network_endpoints_make_load_balancers_of_the_node() -> None:
    found = Services(gateway_node(1)).put(service(WEB), pods("192.0.2.1@n1", "192.0.2.2@n2"))
    assert found.vips == {
        "TCP_node_switch_n1": {"172.16.1.10:80": "192.0.2.1:8080,192.0.2.2:8080"},
        "TCP_node_router_n1": {"172.16.1.10:80": "169.254.169.2:8080,192.0.2.2:8080"},
    }
    assert found.slots == {
        "TCP_node_switch_n1": {"clusterSwitchLBGroup"},
        "TCP_node_router_n1": {"clusterRouterLBGroup"},
    }


def test_a_gateway_router_without_node_ports_is_named_as_it_is_in_no_group() -> None:
    found = Services(gateway_node(1, node_port=False)).put(service(WEB), pods("192.0.2.1@n1"))
    assert found.slots["TCP_node_router_n1"] == {"Logical_Router n1"}


def test_switch_and_router_share_one_when_they_are_the_same() -> None:
    found = Services(gateway_node(1)).put(service(WEB), pods("198.51.100.7"))
    assert found.vips == {"TCP_node_router+switch_n1": {"172.16.1.10:80": "198.51.100.7:8080"}}
    assert found.slots == {"TCP_node_router+switch_n1": {"clusterLBGroup"}}


def test_without_a_gateway_only_the_switch_is_served() -> None:
    found = Services(gateway_node(1, gateway=False)).put(service(WEB), pods("192.0.2.1@n1"))
    assert set(found.vips) == {"TCP_node_switch_n1"}


def test_in_a_central_zone_the_switches_share_and_routers_differ_where_they_must() -> None:
    nodes = [gateway_node(number) for number in (1, 2, 3, 4)]
    found = Services(*nodes, central=True).put(service(WEB), pods("192.0.2.1@n1", "198.51.100.7"))
    assert found.slots == {
        "TCP_node_switch_n1_merged": {"clusterSwitchLBGroup"},
        "TCP_node_router_n2_merged": {"Logical_Router n2", "Logical_Router n3", "Logical_Router n4"},
        "TCP_node_router_n1": {"Logical_Router n1"},
    }
    assert found.vips["TCP_node_router_n1"] == {"172.16.1.10:80": "169.254.169.2:8080,198.51.100.7:8080"}
    assert found.vips["TCP_node_router_n2_merged"] == {"172.16.1.10:80": "192.0.2.1:8080,198.51.100.7:8080"}


# -- policies ---------------------------------------------------------------------------------------------------


def test_internal_traffic_stays_on_the_node() -> None:
    found = Services(gateway_node(1)).put(
        service(WEB, internal_local=True), pods("10.128.2.5@n1", "10.128.4.5@n2")
    )
    assert found.vips == {
        "TCP_node_switch_n1": {"172.16.1.10:80": "10.128.2.5:8080"},
        "TCP_node_router_n1": {"172.16.1.10:80": "10.128.2.5:8080,10.128.4.5:8080"},
    }


def test_internal_traffic_without_a_local_endpoint_is_refused() -> None:
    found = Services(gateway_node(1)).put(service(WEB, internal_local=True), pods("10.128.4.5@n2"))
    assert found.vips["TCP_node_switch_n1"] == {"172.16.1.10:80": ""}


def test_local_endpoints_that_are_going_serve_when_the_node_has_no_ready_one() -> None:
    piece = endpoint_slice("default/web-1", evolve(GOING, node="n1"), evolve(READY, node="n2"), service=WEB)
    found = Services(gateway_node(1)).put(service(WEB, internal_local=True), piece)
    assert found.vips["TCP_node_switch_n1"] == {"172.16.1.10:80": "10.128.2.3:8080"}


EXTERNAL: dict[str, Any] = {
    "type": "LoadBalancer",
    "external_ips": ("198.51.100.1",),
    "ingress_ips": ("198.51.100.2",),
}


def test_external_addresses_are_served_like_cluster_ips() -> None:
    found = Services(gateway_node(1)).put(service(WEB, **EXTERNAL), pods("10.128.2.5@n1"))
    assert found.vips == {
        "TCP_cluster": {
            "172.16.1.10:80": "10.128.2.5:8080",
            "198.51.100.1:80": "10.128.2.5:8080",
            "198.51.100.2:80": "10.128.2.5:8080",
        }
    }


def test_source_ranges_are_an_acl_per_address_before_load_balancing() -> None:
    view = service(WEB, **EXTERNAL, source_ranges=("10.0.0.0/8", "203.0.113.0/24", "2001:db8::/32"))
    found = Services(gateway_node(1)).put(view)
    (acl,) = found.bench.rows("ACL").values()
    assert acl["match"] == (
        "ip4.dst == 198.51.100.2 && tcp.dst == 80 && !(ip4.src == {10.0.0.0/8, 203.0.113.0/24})"
    )
    assert (acl["direction"], acl["priority"], acl["action"]) == ("from-lport", 1120, "drop")
    assert (acl["name"], acl["meter"], acl["log"], acl["severity"]) == (None, "acl-logging", False, None)
    assert acl["external_ids"]["k8s.ovn.org/id"] == (
        "default-network-controller:ServiceSourceRanges:default/web:198.51.100.2:tcp-80"
    )


def test_a_source_range_that_ovn_cannot_match_lets_nobody_in() -> None:
    addresses: dict[str, Any] = {"type": "LoadBalancer", "ingress_ips": ("198.51.100.2", "2001:db8::2")}
    view = service(WEB, **addresses, source_ranges=("10.0.0.0/8", "fd00::%z/64"))
    found = Services(gateway_node(1)).put(view)
    matches = [acl["match"] for acl in found.bench.rows("ACL").values()]
    assert "ip4.dst == 198.51.100.2 && tcp.dst == 80 && !(ip4.src == {10.0.0.0/8})" in matches
    assert not any("%" in match or fault(match) for match in matches)


def test_a_source_range_that_others_read_differently_is_told_and_lets_nobody_in() -> None:
    bad = ("fd00::%z/64", "10.0.0.0/255.0.0.0", "0.0.0.0/0\n|| 1")
    found = Services(gateway_node(1)).put(service(WEB, **EXTERNAL, source_ranges=bad))
    (acl,) = found.bench.rows("ACL").values()
    assert acl["match"] == "ip4.dst == 198.51.100.2 && tcp.dst == 80"
    assert acl["action"] == "drop"
    told = [(key, message) for key, reason, message in found.bench.events if reason == "InvalidSourceRange"]
    assert [key for key, _ in told] == [WEB] * len(bad)
    assert told[0][1] == "loadBalancerSourceRanges: 'fd00::%z/64' is not a CIDR"


def test_external_local_keeps_the_source_and_the_node() -> None:
    found = Services(gateway_node(1)).put(
        service(WEB, ServicePort("", "TCP", 80, 30080), **EXTERNAL, external_local=True),
        pods("10.128.2.5@n1", "10.128.4.5@n2"),
    )
    everyone = "10.128.2.5:8080,10.128.4.5:8080"
    assert found.vips == {
        "TCP_cluster": {"172.16.1.10:80": everyone},
        "TCP_node_switch_n1": {
            "198.51.100.1:80": everyone,
            "198.51.100.2:80": everyone,
            "192.0.2.1:30080": everyone,
            "169.254.169.3:30080": "10.128.2.5:8080",
        },
        "TCP_node_local_router_n1": {
            "198.51.100.1:80": "10.128.2.5:8080",
            "198.51.100.2:80": "10.128.2.5:8080",
            "192.0.2.1:30080": "10.128.2.5:8080",
        },
    }
    assert found.options("TCP_node_local_router_n1")["skip_snat"] == "true"
    assert found.options("TCP_node_switch_n1")["skip_snat"] == "false"
    assert found.slots["TCP_node_local_router_n1"] == {"clusterRouterLBGroup"}


def test_external_local_without_a_local_endpoint_refuses_on_the_router() -> None:
    found = Services(gateway_node(1)).put(
        service(WEB, ServicePort("", "TCP", 80, 30080), external_local=True, type="NodePort"),
        pods("10.128.4.5@n2"),
    )
    assert found.vips["TCP_node_router_n1"] == {"192.0.2.1:30080": ""}
    assert found.vips["TCP_node_switch_n1"]["169.254.169.3:30080"] == ""
    assert "TCP_node_local_router_n1" not in found.vips


# -- NodePorts --------------------------------------------------------------------------------------------------


def test_node_ports_answer_at_every_address_of_the_node() -> None:
    found = Services(gateway_node(1), config=config(V4, V6)).put(
        service(WEB, ServicePort("", "TCP", 80, 30080), type="NodePort", cluster_ips=("172.16.1.10", "fd02::10")),
        pods("10.128.2.5"),
        pods("fd01::5", name="default/web-2", family=6),
    )
    assert found.vips["TCP_node_router+switch_n1"] == {
        "192.0.2.1:30080": "10.128.2.5:8080",
        "[2001:db8::1]:30080": "[fd01::5]:8080",
    }
    assert found.slots["TCP_node_router+switch_n1"] == {"clusterLBGroup"}


def test_no_node_ports_where_the_gateway_says_so_or_none_were_allocated() -> None:
    view = service(WEB, ServicePort("", "TCP", 80, 30080), type="NodePort")
    assert set(Services(gateway_node(1, node_port=False)).put(view, pods("10.128.2.5")).vips) == {"TCP_cluster"}
    view = service(WEB, ServicePort("", "TCP", 80, 0), **EXTERNAL)
    assert set(Services(gateway_node(1)).put(view, pods("10.128.2.5")).vips) == {"TCP_cluster"}


def test_templates_serve_node_ports_of_all_nodes_with_one_load_balancer() -> None:
    found = Services(gateway_node(1), gateway_node(2), central=True).put(
        service(WEB, ServicePort("", "TCP", 80, 30080), type="NodePort"), pods("10.128.2.5@n1")
    )
    assert found.vips["TCP_node_switch_template_IPv4"] == {"^NODEIP_IPv4_0:30080": "10.128.2.5:8080"}
    assert found.vips["TCP_node_router_template_IPv4"] == {"^NODEIP_IPv4_0:30080": "10.128.2.5:8080"}
    assert found.slots["TCP_node_switch_template_IPv4"] == {"clusterSwitchLBGroup"}
    assert found.slots["TCP_node_router_template_IPv4"] == {"clusterRouterLBGroup"}
    assert found.options("TCP_node_switch_template_IPv4")["template"] == "true"
    assert found.options("TCP_node_switch_template_IPv4")["address-family"] == "ipv4"
    chassis = sorted(row["chassis"] for row in found.bench.rows("Chassis_Template_Var").values())
    assert chassis == ["chassis-1", "chassis-2"]
    assert variables(found) == {
        ("chassis-1", "NODEIP_IPv4_0"): "192.0.2.1",
        ("chassis-2", "NODEIP_IPv4_0"): "192.0.2.2",
    }


def variables(found: Services) -> dict[tuple[str, str | None], Any]:
    return {
        (item.slot.row.key, item.key): item.value
        for item in found.bench.databases["nb"].items
        if isinstance(item, Member) and isinstance(item.slot.row, RowId) and item.slot.column == "variables"
    }


def test_templates_fill_in_what_differs_by_node() -> None:
    found = Services(gateway_node(1), gateway_node(2), central=True).put(
        service(WEB, ServicePort("", "TCP", 80, 30080), type="NodePort"), pods("192.0.2.1@n1", "10.128.4.5@n2")
    )
    name = "Service__default_web__TCP__30080__node__router__template__IPv4"
    assert found.vips["TCP_node_switch_template_IPv4"] == {
        "^NODEIP_IPv4_0:30080": "10.128.4.5:8080,192.0.2.1:8080"
    }
    assert found.vips["TCP_node_router_template_IPv4"] == {"^NODEIP_IPv4_0:30080": f"^{name}"}
    values = {node: value for (node, key), value in variables(found).items() if key == name}
    assert values == {
        "chassis-1": "10.128.4.5:8080,169.254.169.2:8080",
        "chassis-2": "10.128.4.5:8080,192.0.2.1:8080",
    }


@pytest.mark.parametrize("more", [{"affinity_timeout": 60}, {"external_local": True}])
def test_no_templates_with_affinity_or_a_local_policy(more: dict[str, Any]) -> None:
    found = Services(gateway_node(1), gateway_node(2), central=True).put(
        service(WEB, ServicePort("", "TCP", 80, 30080), type="NodePort", **more), pods("10.128.2.5@n1")
    )
    assert not any("template" in name for name in found.vips)
    assert found.vips["TCP_node_switch_n2"]["192.0.2.2:30080"] == "10.128.2.5:8080"
    assert found.slots["TCP_node_switch_n2"] == {"Logical_Switch n2"}


# -- session affinity, idling -----------------------------------------------------------------------------------


OLD, NEW = "23.03.1-20.27.0-70.6", "25.03.0-20.41.0-78.6"


@pytest.mark.parametrize(
    ("seconds", "option"), [(0, None), (10_800, "10800"), (7, "7"), (65_535, "65535"), (86_400, None)]
)
def test_the_time_of_session_affinity(seconds: int, option: str | None) -> None:
    found = Services(gateway_node(1)).put(service(WEB, affinity_timeout=seconds), pods("10.128.2.5"))
    row = found.bench.row("Load_Balancer", "Service_default/web_TCP_cluster")
    assert row["options"].get("affinity_timeout") == option


@pytest.mark.parametrize(
    ("seconds", "subnets", "release", "fields"),
    [
        (0, (V4, V6), NEW, set()),
        (60, (V4, V6), NEW, {"ip_src", "ipv6_src"}),
        (60, (V4,), NEW, {"ip_src"}),
        (60, (V6,), NEW, {"ipv6_src"}),
        (60, (V4,), OLD, {"ip_src"}),
        (60, (V4,), "", {"ip_src"}),
        # OVN would find nothing to tell IPv6 clients apart by.
        (60, (V4, V6), OLD, set()),
        (60, (V6,), OLD, set()),
        (86_400, (V4, V6), NEW, {"ip_src", "ip_dst", "ipv6_src", "ipv6_dst"}),
        (86_400, (V4, V6), OLD, {"ip_src", "ip_dst"}),
        (86_400, (V4,), NEW, {"ip_src", "ip_dst"}),
    ],
)
def test_with_affinity_the_clients_address_chooses_from_the_first_packet_on(
    seconds: int, subnets: tuple[str, ...], release: str, fields: set[str]
) -> None:
    found = Services(gateway_node(1), config=config(*subnets))
    raw = {"_uuid": "nb-global", "options": {"northd_internal_version": release} if release else {}}
    found.bench.put(NORTHD, NORTHD.view(raw))
    addresses = ("172.16.1.10", "fd02::10")
    found.put(service(WEB, affinity_timeout=seconds, cluster_ips=addresses), pods("10.128.2.5"))
    row = found.bench.row("Load_Balancer", "Service_default/web_TCP_cluster")
    assert row["selection_fields"] == fields


def test_an_idled_service_asks_for_its_pods_instead_of_refusing() -> None:
    view = service(WEB, annotations={"idling.alpha.openshift.io/idled-at": "2030-01-01T00:00:00Z"})
    options = Services(gateway_node(1)).put(view).options("TCP_cluster")
    assert (options["reject"], options["event"]) == ("false", "true")
    options = Services(gateway_node(1), config=config(ovn_empty_lb_events=False)).put(view).options("TCP_cluster")
    assert (options["reject"], options["event"]) == ("true", "false")


UNIDLED = "k8s.ovn.org/unidled-at"
IDLED = {"idling.alpha.openshift.io/idled-at": "2030-01-01T00:00:00Z"}


def idle_options(found: Services) -> tuple[str, str]:
    options = found.options("TCP_cluster")
    return options["reject"], options["event"]


def test_for_half_a_minute_after_idling_clients_are_not_refused() -> None:
    found = Services(gateway_node(1)).put(service(WEB, annotations=IDLED))
    assert UNIDLED not in found.bench.get(SERVICES, WEB).annotations
    found.bench.sleep(100)
    found.bench.annotate(SERVICES, WEB, dict.fromkeys(IDLED))
    assert found.bench.get(SERVICES, WEB).annotations == {UNIDLED: "2030-01-01T00:01:40Z"}
    assert idle_options(found) == ("false", "true")
    found.bench.sleep(29)
    assert idle_options(found) == ("false", "true")
    found.bench.sleep(1)
    assert idle_options(found) == ("true", "false")
    found.bench.annotate(SERVICES, WEB, IDLED)
    assert UNIDLED not in found.bench.get(SERVICES, WEB).annotations
    assert idle_options(found) == ("false", "true")


def test_the_grace_is_known_to_those_who_start_within_it() -> None:
    cases = (("2029-12-31T23:59:50Z", "false"), ("2029-12-31T23:59:10Z", "true"), ("soon", "true"))
    for ended, answer in (*cases, ("9999-12-31T23:59:59+00:00", "true"), ("9000-01-01T00:00:00Z", "true")):
        found = Services(gateway_node(1)).put(service(WEB, annotations={UNIDLED: ended}))
        assert found.options("TCP_cluster")["reject"] == answer
        assert found.bench.get(SERVICES, WEB).annotations == {UNIDLED: ended}, "it stays as it is"


def test_nobody_is_refused_before_the_end_of_idling_has_been_noted() -> None:
    """The zone hears of the end before the cluster's leader has written when it was."""
    found = Services(gateway_node(1), cluster=False).put(service(WEB, annotations={"ovnkit.io/idled": "true"}))
    assert UNIDLED not in found.bench.get(SERVICES, WEB).annotations
    assert idle_options(found) == ("false", "true")


def test_a_load_balancer_without_targets_asks_for_pods_and_the_message_goes() -> None:
    found = Services(gateway_node(1)).put(service(WEB, annotations=IDLED))
    found.bench.put(BALANCERS, BalancerOwner("ours", WEB), BalancerOwner("theirs", ""))
    found.bench.put(EMPTY_BALANCERS, EmptyBalancer("e1", "ours"), EmptyBalancer("e2", "theirs"))
    found.bench.put(EMPTY_BALANCERS, EmptyBalancer("e3", "gone"))
    assert found.bench.events == [(WEB, "NeedPods", "The service web needs pods")]
    sb = found.bench.databases["sb"]
    assert [item for item in sb.items if isinstance(item, Absent)] == [
        Absent("Controller_Event", "e1", db="sb"),
        Absent("Controller_Event", "e3", db="sb"),
    ]


# -- bad input --------------------------------------------------------------------------------------------------


def test_an_address_of_a_family_the_cluster_lacks_is_left_out_and_told() -> None:
    view = service(WEB, cluster_ips=("172.16.1.10", "fd02::10"), external_ips=("2001:db8::99", "bogus"))
    found = Services(gateway_node(1)).put(view, pods("10.128.2.5"))
    assert found.vips == {"TCP_cluster": {"172.16.1.10:80": "10.128.2.5:8080"}}
    assert found.bench.events == [
        (WEB, "UnsupportedIPFamily", "cluster IP fd02::10: the cluster network has no IPv6"),
        (WEB, "UnsupportedIPFamily", "external IP 2001:db8::99: the cluster network has no IPv6"),
        (WEB, "InvalidAddress", "external IP 'bogus' is no address"),
    ]


def test_an_address_that_every_node_has_for_itself_is_no_services() -> None:
    bad = ("127.0.0.1", "0.0.0.0", "224.0.0.1")
    view = service(WEB, type="LoadBalancer", external_ips=bad[:2], ingress_ips=(*bad, "198.51.100.2"))
    found = Services(gateway_node(1)).put(view, pods("10.128.2.5"))
    served = {vip for vips in found.vips.values() for vip in vips}
    assert served == {"172.16.1.10:80", "198.51.100.2:80"}
    assert (WEB, "InvalidAddress", "external IP 127.0.0.1 can't be that of a service") in found.bench.events
    assert (
        WEB,
        "InvalidAddress",
        "load balancer address 224.0.0.1 can't be that of a service",
    ) in found.bench.events


def test_of_two_services_with_one_external_ip_the_older_has_it() -> None:
    old = service("default/old", created="2030-01-01T00:00:00Z", external_ips=("198.51.100.1",))
    new = service(
        WEB, created="2030-01-02T00:00:00Z", external_ips=("198.51.100.1",), cluster_ips=("172.16.1.11",)
    )
    found = Services(gateway_node(1)).put(new)
    assert "198.51.100.1:80" in found.vips["TCP_cluster"]
    found.put(old)
    assert found.vips["TCP_cluster"] == {"172.16.1.11:80": ""}
    assert found.vips["Service_default/old_TCP_cluster"] == {"172.16.1.10:80": "", "198.51.100.1:80": ""}
    assert found.bench.events == [
        (WEB, "DuplicateExternalIP", "198.51.100.1 is served by default/old already: TCP 80")
    ]
    found.bench.drop(SERVICES, "default/old")
    assert "198.51.100.1:80" in found.vips["TCP_cluster"], "the address is free again"


def test_two_services_may_share_an_external_ip_by_port() -> None:
    one = service("default/one", external_ips=("198.51.100.1",))
    two = service(WEB, ServicePort("", "TCP", 81), external_ips=("198.51.100.1",), cluster_ips=("172.16.1.11",))
    found = Services(gateway_node(1)).put(one, two)
    assert "198.51.100.1:81" in found.vips["TCP_cluster"]
    assert found.events == []


def test_nobody_takes_the_cluster_ip_of_another_as_external_ip() -> None:
    thief = service(WEB, created="2000-01-01T00:00:00Z", external_ips=("172.16.1.99",))
    owner = service("default/owner", created="2030-01-01T00:00:00Z", cluster_ips=("172.16.1.99",))
    found = Services(gateway_node(1)).put(thief, owner)
    assert found.vips["TCP_cluster"] == {"172.16.1.10:80": ""}
    assert found.events == [(WEB, "DuplicateExternalIP")]


def test_five_thousand_ports_are_told_and_harm_nobody() -> None:
    many = tuple(ServicePort(f"p{port}", "TCP", port) for port in range(1, 5001))
    found = Services(gateway_node(1)).put(
        service(WEB, *many), service("default/other", cluster_ips=("172.16.1.11",))
    )
    assert len(found.vips["TCP_cluster"]) == 1000
    assert found.vips["Service_default/other_TCP_cluster"] == {"172.16.1.11:80": ""}
    assert found.bench.events == [(WEB, "TooManyPorts", "5000 ports; only the first 1000 are served")]


# -- work -------------------------------------------------------------------------------------------------------


def test_a_change_of_endpoints_renders_one_service() -> None:
    found = Services(gateway_node(1)).put(service(WEB), service("default/b", cluster_ips=("172.16.1.11",)))
    found.put(pods("10.128.2.5"))
    renders = found.bench.reconciler.renders_total
    before = renders[("services", "service")]
    found.put(pods("10.128.2.5", "10.128.2.6"))
    assert renders[("services", "service")] == before + 1
    found.put(evolve(pods("10.128.2.5", "10.128.2.6"), labels={"touched": "yes"}))
    assert renders[("services", "service")] == before + 1, "what nobody reads causes nothing"


def test_a_node_concerns_only_services_that_differ_by_node() -> None:
    found = Services(gateway_node(1), central=True).put(
        service(WEB), service("default/b", internal_local=True, cluster_ips=("172.16.1.11",)), pods("10.128.2.5")
    )
    renders = found.bench.reconciler.renders_total
    before = renders[("services", "service")]
    found.bench.put(NODES, gateway_node(2))
    assert renders[("services", "service")] == before + 1


@pytest.mark.parametrize("more", [{}, {"type": "NodePort"}])
def test_more_nodes_cost_services_nothing(more: dict[str, Any]) -> None:
    def references(nodes: int) -> int:
        found = Services(*(gateway_node(number) for number in range(1, nodes + 1)), central=True)
        port = ServicePort("", "TCP", 80, 30080 if more else 0)
        found.put(service(WEB, port, **more), pods("10.128.2.5"))
        return sum(map(len, found.slots.values()))

    assert references(2) == references(20)
