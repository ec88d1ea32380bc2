"""What a node does itself for services: nftables and flows, case by case, and what nft and ovs-ofctl say to it."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from typing import Any

import orjson
import pytest
from attrs import evolve
from pyroute2 import netns

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.flows import Flow, Group
from ovnkit.api.host import HttpAnswer, TrackedFront, TrackedPath
from ovnkit.api.models import NODES
from ovnkit.api.nft import DnatChoice, NftElement, NftItem, NftRule, NftSet, NftType, Protocol, Verdict
from ovnkit.api.renderers import Role
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.sink import Owner
from ovnkit.network.bridges import OVS_BRIDGES, OVS_INTERFACES, OVS_PORTS, OvsBridge, OvsInterface, OvsPort
from ovnkit.network.gateway import L3_GATEWAY, L3Gateway
from ovnkit.network.node import HOST_CIDRS, NODE_SUBNETS
from ovnkit.network.services import ENDPOINT_SLICES, SERVICES, Endpoint, EndpointPort, EndpointSlice, ServicePort
from ovnkit.sinks.host.nftsink import NftSink
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import endpoint_slice, node, service
from ovnkit_services.plugin import ServicesPlugin

WEB = "default/web"
V4, V6 = "10.128.0.0/14/23", "fd01::/48/64"
UPLINK, PATCH = 1, 2


class Node:
    """A bench of node n1 with gateway br-ex."""

    def __init__(self, mode: str = "shared", *subnets: str) -> None:
        default = DefaultOptions(cluster_subnets=tuple(map(ClusterSubnet.parse, subnets or (V4,))))
        self.bench = Bench(ServicesPlugin(), scope=scope(Role.NODE, node="n1"), config=Config(default=default))
        addresses = ("192.0.2.1/24", "2001:db8::1/64")[: len(subnets) or 1]
        interfaces = tuple(map(ipaddress.ip_interface, addresses))
        gateway = L3Gateway(mode, "br-ex", "br-ex_n1", "02:00:00:00:00:01", interfaces, (), True)
        self.bench.put(OVS_INTERFACES, OvsInterface("i1", "eth1", "", UPLINK, ""))
        self.bench.put(OVS_INTERFACES, OvsInterface("i2", "patch-br-ex_n1-to-br-int", "patch", PATCH, ""))
        self.bench.put(OVS_PORTS, *(OvsPort(f"p{n}", f"p{n}", frozenset({f"i{n}"})) for n in (1, 2)))
        self.bench.put(OVS_BRIDGES, OvsBridge("br-ex", frozenset({"p1", "p2"}), "netdev"))
        annotations = {
            NODE_SUBNETS: orjson.dumps({"default": ["10.128.2.0/23"]}).decode(),
            HOST_CIDRS: orjson.dumps(addresses).decode(),
            L3_GATEWAY: gateway.encode(),
        }
        self.bench.put(NODES, node("n1", annotations))

    def put(self, *views: Any) -> Node:
        for view in views:
            self.bench.put(ENDPOINT_SLICES if isinstance(view, EndpointSlice) else SERVICES, view)
        assert self.bench.failures == {}
        return self

    @property
    def elements(self) -> dict[str, dict[tuple[str, ...], tuple[str, ...]]]:
        found: dict[str, dict[tuple[str, ...], tuple[str, ...]]] = {}
        for item in self.bench.node["nft"].items:
            if isinstance(item, NftElement):
                found.setdefault(item.set, {})[words(item.key)] = words(item.value)
        return found

    def rules(self, chain: str) -> list[NftRule]:
        return [item for item in self.bench.node["nft"].items if isinstance(item, NftRule) and item.chain == chain]

    @property
    def flows(self) -> set[str]:
        return {
            f"{item.priority} {item.match} -> {','.join(map(str, item.actions)) or 'drop'}"
            for item in self.bench.node["flows"].items
            if isinstance(item, Flow)
        }


HEALTH: dict[str, Any] = {"type": "LoadBalancer", "external_local": True, "health_check_node_port": 30300}


def answers(found: Node) -> list[tuple[int, int, int]]:
    """Port, status and number of endpoints of each health check."""
    return [
        (item.port, item.status, json.loads(item.body)["localEndpoints"])
        for item in found.bench.node["http"].items
        if isinstance(item, HttpAnswer)
    ]


def test_a_health_check_counts_the_ready_endpoints_of_the_node() -> None:
    found = Node("shared", V4, V6).put(service(WEB, **HEALTH))
    assert answers(found) == [(30300, 503, 0)]
    going = Endpoint(("10.128.2.7",), "n1", ready=False, serving=True, terminating=True)
    found.put(endpoint_slice("default/web-1", Endpoint(("10.128.4.5",), "n2"), going, service=WEB))
    assert answers(found) == [(30300, 503, 0)], "those elsewhere and those that are going don't count"
    both = [Endpoint(("10.128.2.5",), "n1"), Endpoint(("10.128.2.6",), "n1")]
    found.put(endpoint_slice("default/web-2", *both, service=WEB))
    found.put(endpoint_slice("default/web-3", Endpoint(("fd01::5",), "n1"), service=WEB, family=6))
    assert answers(found) == [(30300, 200, 2)], "a pod with two addresses counts once"
    (item,) = found.bench.node["http"].items
    assert json.loads(item.body) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 2,
        "serviceProxyHealthy": True,
    }
    assert dict(item.headers)["X-Load-Balancing-Endpoint-Weight"] == "2"


@pytest.mark.parametrize("other", [{"type": "NodePort"}, {"external_local": False}, {"health_check_node_port": 0}])
def test_no_health_check_where_none_was_asked_for(other: dict[str, Any]) -> None:
    assert answers(Node().put(service(WEB, **{**HEALTH, **other}))) == []


def words(values: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(value.name if isinstance(value, Protocol) else str(value) for value in values)


def pods(*addresses: str, name: str = "default/web-1", family: int = 4) -> EndpointSlice:
    endpoints = [Endpoint((text.partition("@")[0],), text.partition("@")[2]) for text in addresses]
    return endpoint_slice(name, *endpoints, service=WEB, family=family)


NODE_PORT = ServicePort("", "TCP", 80, 30080)
POD, HOST, FAR = "10.128.2.5@n1", "192.0.2.1@n1", "10.128.4.5@n2"
NO_PORTS: dict[str, Any] = {"type": "LoadBalancer", "ingress_ips": ("198.51.100.2",)}


# -- nftables ---------------------------------------------------------------------------------------------------


def test_a_cluster_ip_needs_nothing_on_the_node() -> None:
    found = Node().put(service(WEB), pods(POD))
    assert found.elements == {}
    assert found.flows == set()


@pytest.mark.parametrize("mode", ["shared", "local"])
def test_node_ports_and_external_addresses_lead_to_the_cluster_ip(mode: str) -> None:
    view = service(WEB, NODE_PORT, type="NodePort", external_ips=("198.51.100.1",))
    assert Node(mode).put(view, pods(POD)).elements == {
        "nodeports-v4": {("TCP", "30080"): ("172.16.1.10", "80")},
        "external-ips-v4": {("198.51.100.1", "TCP", "80"): ("172.16.1.10", "80")},
    }


def test_both_families() -> None:
    view = service(WEB, NODE_PORT, type="NodePort", cluster_ips=("fd02::10", "172.16.1.10"))
    pieces = (pods(POD), pods("fd01::5@n1", name="default/web-2", family=6))
    assert Node("local", V4, V6).put(view, *pieces).elements == {
        "nodeports-v4": {("TCP", "30080"): ("172.16.1.10", "80")},
        "nodeports-v6": {("TCP", "30080"): ("fd02::10", "80")},
    }


def test_local_policy_keeps_the_source_on_its_way_to_the_nodes_pods() -> None:
    view = service(WEB, NODE_PORT, **NO_PORTS, external_local=True)
    found = Node("local").put(view, pods(POD, FAR)).elements
    assert found["nodeports-etp-local-v4"] == {("TCP", "30080"): ("169.254.169.3", "30080")}
    assert found["external-ips-etp-local-v4"] == {("198.51.100.2", "TCP", "80"): ("169.254.169.3", "30080")}
    assert found["mgmtport-no-snat-nodeports"] == {("TCP", "30080"): ()}
    assert "nodeports-etp-local-v4" not in Node("shared").put(view, pods(POD)).elements
    assert "nodeports-etp-local-v4" not in Node("local").put(view, pods(HOST)).elements


def test_local_policy_without_node_ports_chooses_among_the_nodes_endpoints() -> None:
    view = service(WEB, **NO_PORTS, external_local=True)
    found = Node("local").put(view, pods(POD, "10.128.2.6@n1", FAR))
    (rule,) = found.rules("services-etp-no-nodeport")
    choice = rule.statements[-1]
    assert isinstance(choice, DnatChoice)
    assert [words(target) for target in choice.targets] == [("10.128.2.5", "8080"), ("10.128.2.6", "8080")]
    assert not choice.by_source
    assert set(found.elements["mgmtport-no-snat-services-v4"]) == {
        ("10.128.2.5", "TCP", "8080"),
        ("10.128.2.6", "TCP", "8080"),
    }
    found.put(pods(FAR))
    (rule,) = found.rules("services-etp-no-nodeport")
    assert rule.statements[-1] is Verdict.DROP


def test_internal_local_goes_to_a_process_of_the_node_or_is_marked() -> None:
    view = service(WEB, internal_local=True)
    key = ("172.16.1.10", "TCP", "80")
    assert Node().put(view, pods(HOST, POD)).elements == {"itp-services-to-redirect-v4": {key: ("8080",)}}
    assert Node().put(view, pods(POD)).elements == {"itp-services-to-mark-v4": {key: ()}}


def test_source_ranges_drop_everybody_else() -> None:
    view = service(WEB, **NO_PORTS, source_ranges=("203.0.113.0/24", "2001:db8::/32"))
    found = Node("local").put(view, pods(POD))
    (rule,) = found.rules("services-sources")
    assert rule.statements[-1] is Verdict.DROP
    (elements,) = [value for name, value in found.elements.items() if name.startswith("services-sources-")]
    assert elements == {("203.0.113.0/24",): ()}


BAD_RANGES = (
    "fd00::%z/64",
    "10.0.0.0/255.0.0.0",
    "0.0.0.0",
    "0.0.0.0/0 }",
    "::ffff:0.0.0.0/96",
    "0.0.0.0/\u0660",
    "\ud800",
)


@pytest.mark.parametrize("mode", ["shared", "local"])
@pytest.mark.parametrize("bad", BAD_RANGES, ids=ascii)
def test_a_source_range_that_nft_reads_differently_lets_nobody_in(mode: str, bad: str) -> None:
    """And what the others have in the same chain and the same bundle is as it would be without it."""
    alone = Node(mode, V4, V6).put(service("shop/other", NODE_PORT, type="NodePort"))
    found = Node(mode, V4, V6).put(service("shop/other", NODE_PORT, type="NodePort"))
    found.put(service(WEB, **NO_PORTS, source_ranges=(bad,)), pods(POD))
    assert {name: value for name, value in found.elements.items() if "sources" in name} == {}
    drops = [item.statements[-1] for item in found.rules("services-sources")]
    assert drops == [Verdict.DROP]
    assert not [flow for flow in found.flows if "nw_dst=198.51.100.2/32,tp_dst=80 -> output" in flow]
    assert alone.flows <= found.flows
    mixed = Node(mode, V4, V6).put(service(WEB, **NO_PORTS, source_ranges=(bad, "203.0.113.0/24")), pods(POD))
    assert {("203.0.113.0/24",): ()} in mixed.elements.values()


def test_the_node_refuses_what_has_no_endpoint_anywhere() -> None:
    ports = (NODE_PORT, ServicePort("dns", "UDP", 53), ServicePort("m3ua", "SCTP", 2905))
    view = service(WEB, *ports, type="NodePort", cluster_ips=("172.16.1.10", "fd02::10"))
    found = Node("shared", V4, V6).put(view, pods(FAR))
    nobody = {
        # TCP has an endpoint in IPv4, and UDP is OVN's to refuse.
        "services-no-endpoints-v4": {("172.16.1.10", "SCTP", "2905"): ()},
        "services-no-endpoints-v6": {("fd02::10", "TCP", "80"): (), ("fd02::10", "SCTP", "2905"): ()},
    }

    def refused() -> dict[str, Any]:
        return {name: value for name, value in found.elements.items() if "no-endpoints" in name}

    assert refused() == nobody
    found.put(pods("fd01::5", name="default/web-2", family=6))
    del nobody["services-no-endpoints-v6"]["fd02::10", "TCP", "80"]
    assert refused() == nobody
    found.put(pods())
    nobody["services-no-endpoints-v4"]["172.16.1.10", "TCP", "80"] = ()
    assert refused() == nobody
    idled = {"idling.alpha.openshift.io/idled-at": "2030-01-01T00:00:00Z"}
    found.put(evolve(view, annotations=idled))
    assert refused() == {}, "clients of an idled service wait"
    found.bench.drop(SERVICES, WEB)
    assert refused() == {}


# -- flows ------------------------------------------------------------------------------------------------------


def test_shared_mode_sends_what_comes_from_outside_to_ovn() -> None:
    view = service(WEB, NODE_PORT, type="NodePort", external_ips=("198.51.100.1",))
    assert Node().put(view, pods(POD)).flows == {
        "110 tcp,in_port=1,tp_dst=30080 -> output:2",
        "110 tcp,in_port=2,dl_src=02:00:00:00:00:01,tp_src=30080 -> output:1",
        "110 tcp,in_port=1,nw_dst=198.51.100.1/32,tp_dst=80 -> output:2",
        "110 tcp,in_port=2,dl_src=02:00:00:00:00:01,nw_src=198.51.100.1/32,tp_src=80 -> output:1",
        "110 icmp,in_port=1,nw_dst=198.51.100.1/32,icmp_type=3,icmp_code=4 -> output:2",
        "110 arp,in_port=1,arp_tpa=198.51.100.1/32,arp_op=1 -> LOCAL",
    }


def test_local_mode_leaves_all_but_address_resolution_to_the_kernel() -> None:
    view = service(WEB, NODE_PORT, type="NodePort", external_ips=("198.51.100.1",))
    assert Node("local").put(view, pods(POD)).flows == {
        "110 arp,in_port=1,arp_tpa=198.51.100.1/32,arp_op=1 -> LOCAL"
    }


@pytest.mark.parametrize("mode", ["shared", "local"])
def test_a_process_of_the_node_behind_a_local_policy_sees_who_calls(mode: str) -> None:
    view = service(WEB, NODE_PORT, type="NodePort", external_local=True)
    assert Node(mode).put(view, pods(HOST)).flows == {
        "110 tcp,in_port=1,tp_dst=30080 -> ct(commit,zone=64003,table=6,nat(dst=192.0.2.1:8080))",
        "110 tcp,in_port=LOCAL,tp_src=8080 -> ct(zone=64003,table=7,nat)",
    }


def test_several_target_ports_on_the_node_make_a_group() -> None:
    one = endpoint_slice(
        "default/web-2",
        Endpoint(("192.0.2.1",), "n1"),
        service=WEB,
        ports=(pods().ports[0].__class__("", "TCP", 9090),),
    )
    found = Node().put(service(WEB, NODE_PORT, type="NodePort", external_local=True), pods(HOST), one)
    (group,) = {item for item in found.bench.node["flows"].items if isinstance(item, Group)}
    assert len(group.buckets) == 2
    assert f"110 tcp,in_port=1,tp_dst=30080 -> group:{group.number}" in found.flows
    assert not group.by_source
    found.put(service(WEB, NODE_PORT, type="NodePort", external_local=True, affinity_timeout=60))
    (group,) = {item for item in found.bench.node["flows"].items if isinstance(item, Group)}
    assert group.by_source, "with affinity one client is one endpoint"


def test_source_ranges_in_shared_mode() -> None:
    view = service(WEB, **NO_PORTS, source_ranges=("203.0.113.0/24",))
    flows = Node().put(view, pods(POD)).flows
    assert "110 tcp,in_port=1,nw_src=203.0.113.0/24,nw_dst=198.51.100.2/32,tp_dst=80 -> output:2" in flows
    assert "109 tcp,in_port=1,nw_dst=198.51.100.2/32,tp_dst=80 -> drop" in flows
    assert "110 tcp,in_port=1,nw_dst=198.51.100.2/32,tp_dst=80 -> output:2" not in flows


def test_no_flows_before_the_bridge_has_both_ports() -> None:
    found = Node()
    found.bench.drop(OVS_INTERFACES, "i2")
    found.put(service(WEB, NODE_PORT, type="NodePort"))
    assert found.flows == set()
    found.bench.put(OVS_INTERFACES, OvsInterface("i2", "patch-br-ex_n1-to-br-int", "patch", 7, ""))
    assert "110 tcp,in_port=1,tp_dst=30080 -> output:7" in found.flows


# -- what the programs say --------------------------------------------------------------------------------------


def everything(mode: str) -> Node:
    """All features at once, in both families."""
    more: dict[str, Any] = {
        "cluster_ips": ("172.16.1.10", "fd02::10"),
        "ingress_ips": ("198.51.100.2", "2001:db8:1::2"),
    }
    found = Node(mode, V4, V6)
    found.put(service("default/web", NODE_PORT, type="LoadBalancer", external_local=True, **more))
    found.put(pods(HOST, POD), pods("fd01::5@n1", name="default/web-2", family=6))
    more["ingress_ips"] = ("198.51.100.3", "2001:db8:1::3")
    more["source_ranges"] = ("203.0.113.0/24", "2001:db8:2::/48")
    found.put(
        service("default/b", ServicePort("", "UDP", 53), type="LoadBalancer", external_local=True, **more),
        service(
            "default/c", ServicePort("", "SCTP", 80), internal_local=True, cluster_ips=("172.16.1.12", "fd02::12")
        ),
    )
    pieces = [
        endpoint_slice(f"default/b-{f}", Endpoint((a,), "n1"), service="default/b", family=f, ports=port("UDP"))
        for f, a in ((4, "10.128.2.7"), (6, "fd01::7"))
    ]
    return found.put(*pieces)


def port(protocol: str) -> Any:
    return (type(pods().ports[0])("", protocol, 5353),)


@pytest.mark.parametrize("mode", ["shared", "local"])
def test_ovs_ofctl_reads_the_flows(mode: str) -> None:
    flows = [item for item in everything(mode).bench.node["flows"].items if isinstance(item, Flow)]
    assert len(flows) > 5
    text = "\n".join(flow.text for flow in flows)
    subprocess.run(["ovs-ofctl", "parse-flows", "-"], input=text, text=True, check=True, capture_output=True)


@pytest.mark.parametrize("mode", ["shared", "local"])
def test_nft_takes_the_rules(mode: str, tmp_path: Any) -> None:
    name = f"ovnkit-svc-{mode}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        items: list[NftItem] = list(everything(mode).bench.node["nft"].items)
        for version, kind in ((4, NftType.IPV4), (6, NftType.IPV6)):
            items.append(NftSet(f"mgmtport-no-snat-services-v{version}", (kind, NftType.PROTOCOL, NftType.PORT)))
        items.append(NftSet("mgmtport-no-snat-nodeports", (NftType.PROTOCOL, NftType.PORT)))
        inbox = Inbox()
        reports: list[str] = []
        # A thread starts in the namespace of the one that makes it.
        netns.pushns(name)
        sink = NftSink(inbox.post, lambda _owner, error: reports.append(str(error)))
        sink.start()
        try:
            assert inbox.run_until(lambda: sink.ready, 20)
            sink.want(Owner("services", "test", ""), items)
            sink.settle()
            sink.flush()
            assert inbox.run_until(lambda: sink.idle, 20), (reports, sink.status())
        finally:
            sink.stop()
            netns.popns()
        listed = subprocess.run(
            ["ip", "netns", "exec", name, "nft", "list", "table", "inet", "ovn-kubernetes"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        assert reports == []
        assert "198.51.100.2 . tcp . 80 : 172.16.1.10 . 80" in listed
        assert "dnat ip to numgen random mod 1 map" in listed
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def tracks(found: Node) -> set[tuple[str, int, str, int]]:
    return {
        (str(item.address), item.port, str(item.target), item.target_port)
        for item in found.bench.node["conntrack"].items
        if isinstance(item, TrackedPath)
    }


def test_ways_of_udp_are_known_so_that_they_can_be_forgotten() -> None:
    ports = (ServicePort("dns", "UDP", 53, 30053), ServicePort("web", "TCP", 80, 30080))
    found = Node("shared", V4, V6).put(
        service(WEB, *ports, type="NodePort", cluster_ips=("172.16.1.10", "fd02::10")),
        endpoint_slice(
            "default/web-1",
            Endpoint(("10.128.2.5",), "n1"),
            Endpoint(("192.0.2.1",), "n1"),
            service=WEB,
            ports=(EndpointPort("dns", "UDP", 5353), EndpointPort("web", "TCP", 8080)),
        ),
    )
    targets = {("10.128.2.5", 5353), ("192.0.2.1", 5353), ("169.254.169.2", 5353)}
    fronts = {("172.16.1.10", 53), ("192.0.2.1", 30053)}
    assert tracks(found) == {(*front, *target) for front in fronts for target in targets}
    found.bench.drop(SERVICES, WEB)
    assert tracks(found) == set()


def test_a_node_without_a_gateway_forgets_what_its_pods_have_with_services() -> None:
    found = Node("shared", V4, V6)
    found.bench.put(NODES, node("n1", {NODE_SUBNETS: orjson.dumps({"default": ["10.128.2.0/23"]}).decode()}))
    found.put(
        service(
            WEB, ServicePort("dns", "UDP", 53, 30053), type="NodePort", cluster_ips=("172.16.1.10", "fd02::10")
        ),
        endpoint_slice(
            "default/web-1",
            Endpoint(("10.128.4.5",), "n2"),
            service=WEB,
            ports=(EndpointPort("dns", "UDP", 5353),),
        ),
    )
    fronts = {item for item in found.bench.node["conntrack"].items if isinstance(item, TrackedFront)}
    assert {(str(item.address), item.port, item.answers) for item in fronts} == {
        ("172.16.1.10", 53, True),
        ("fd02::10", 53, False),
    }
    assert tracks(found) == {("172.16.1.10", 53, "10.128.4.5", 5353)}


def test_every_address_and_port_is_known_so_that_earlier_connections_can_be_forgotten() -> None:
    ports = (ServicePort("dns", "UDP", 53, 30053), ServicePort("web", "TCP", 80, 30080))
    view = service(WEB, *ports, type="LoadBalancer", cluster_ips=("172.16.1.10", "fd02::10"), external_local=True)
    found = Node("shared", V4, V6).put(view)

    def fronts(*, answers: bool) -> set[tuple[str, str, int]]:
        items = [item for item in found.bench.node["conntrack"].items if isinstance(item, TrackedFront)]
        return {(item.protocol, str(item.address), item.port) for item in items if item.answers is answers}

    inside = {(protocol, ip, port) for ip in view.cluster_ips for protocol, port in (("UDP", 53), ("TCP", 80))}
    own = ("192.0.2.1", "2001:db8::1", "169.254.169.3", "fd69::3")
    outside = {(protocol, ip, port) for ip in own for protocol, port in (("UDP", 30053), ("TCP", 30080))}
    assert fronts(answers=False) == inside | outside
    slices = (EndpointPort("web", "TCP", 8080),)
    found.put(endpoint_slice("default/web-1", Endpoint(("10.128.4.5",), "n2"), service=WEB, ports=slices))
    assert fronts(answers=True) == {("TCP", "172.16.1.10", 80)}, "none on this node"
    found.put(endpoint_slice("default/web-1", Endpoint(("10.128.2.5",), "n1"), service=WEB, ports=slices))
    assert fronts(answers=True) == {
        ("TCP", "172.16.1.10", 80),
        ("TCP", "192.0.2.1", 30080),
        ("TCP", "169.254.169.3", 30080),
    }
