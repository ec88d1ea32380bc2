"""Load balancers on a real northbound, with northd and ovn-trace to judge them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.models import NODES, PODS, Node
from ovnkit.api.renderers import Role
from ovnkit.network.gateway import L3_GATEWAY
from ovnkit.network.node import CHASSIS_ID
from ovnkit.network.services import ENDPOINT_SLICES, SERVICES, Endpoint, ServicePort
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.installs import OvnInstall
from ovnkit.testing.objects import endpoint_slice, node, pod, service
from ovnkit.testing.zone import RELEASES, Zone, zone_of
from ovnkit_services.plugin import ServicesPlugin

pytestmark = pytest.mark.ovn
topology = pytest.importorskip("ovnkit_topology.plugin", reason="the switches come from the topology plugin")
pods = pytest.importorskip("ovnkit_pods.plugin", reason="the clients' ports come from the pods plugin")
port = pytest.importorskip("ovnkit_management_port.plugin", reason="guards apply where management ports are")

SUBNETS = tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48")))
CONFIG = Config(default=DefaultOptions(cluster_subnets=SUBNETS))
VIPS = {4: "172.16.1.10", 6: "fd02::10"}


class ServiceZone(Zone):
    """A central zone with node n1, pods shop/client and shop/server."""

    def __init__(self, folder: Path, install: OvnInstall) -> None:
        super().__init__(folder, install)
        place = scope(Role.ZONE, zone="global", per_node_zones=False)
        plugins = (
            topology.TopologyPlugin(),
            pods.PodsPlugin(),
            port.ManagementPortPlugin(),
            ServicesPlugin(),
        )
        self.bench = Bench(*plugins, scope=place, config=CONFIG, connect=self.endpoints)
        self.bench.put(NODES, worker("n1", 2))
        self.bench.put(PODS, pod("shop/client", "n1"), pod("shop/server", "n1"))

    def flows(self, switch: str) -> str:
        return self.sb("lflow-list", switch)

    def address(self, name: str, family: int) -> str:
        network = json.loads(self.bench.get(PODS, name).annotations["k8s.ovn.org/pod-networks"])["default"]
        return str(network["ip_addresses"][0 if family == 4 else 1]).partition("/")[0]

    def connection(self, family: int, address: str, port: int = 80) -> str:
        """What becomes of a TCP connection of shop/client."""
        network = json.loads(self.bench.get(PODS, "shop/client").annotations["k8s.ovn.org/pod-networks"])
        mac = network["default"]["mac_address"]
        own = self.address("shop/client", family)
        flow = (
            f'inport=="shop_client" && eth.src=={mac} && eth.dst==0a:58:0a:80:04:01 && ip.ttl==64 && '
            f"ip{family}.src=={own} && ip{family}.dst=={address} && tcp && tcp.src==4000 && tcp.dst=={port}"
        )
        return self.trace("n1", flow, "--ct=new")

    def stop(self) -> None:
        self.bench.stop()
        super().stop()


@pytest.fixture(params=RELEASES)
def zone(request: pytest.FixtureRequest) -> Iterator[ServiceZone]:
    with zone_of(request.param, ServiceZone) as made:
        yield made


def worker(name: str, number: int) -> Node:
    gateway = {
        "mode": "shared", "bridge-id": "br-ex", "interface-id": f"br-ex_{name}",
        "mac-address": "02:00:00:00:00:01",
        "ip-addresses": [f"192.0.2.{number}/24", f"2001:db8::{number}/64"], "node-port-enable": "true",
    }  # fmt: skip
    annotations = {
        "k8s.ovn.org/node-subnets": json.dumps(
            {"default": [f"10.128.{2 * number}.0/23", f"fd01:0:0:{number}::/64"]}
        ),
        "k8s.ovn.org/node-id": str(number),
        "k8s.ovn.org/node-chassis-id": f"chassis-{name}",
        "k8s.ovn.org/host-cidrs": json.dumps(gateway["ip-addresses"]),
        L3_GATEWAY: json.dumps({"default": gateway}),
    }
    return node(name, annotations)


def serve(zone: ServiceZone, **more: object) -> None:
    """Service shop/web with shop/server behind it."""
    for family in (4, 6):
        endpoint = Endpoint((zone.address("shop/server", family),), "n1")
        zone.bench.put(
            ENDPOINT_SLICES, endpoint_slice(f"shop/web-{family}", endpoint, service="shop/web", family=family)
        )
    zone.bench.put(SERVICES, service("shop/web", cluster_ips=tuple(VIPS.values()), **more))
    assert zone.bench.failures == {}


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_reaches_the_endpoint_and_is_refused_without_one(zone: ServiceZone, family: int) -> None:
    serve(zone)
    target = zone.address("shop/server", family)
    trace = zone.connection(family, VIPS[family])
    assert 'output to "shop_server"' in trace
    assert target in trace
    zone.bench.drop(ENDPOINT_SLICES, f"shop/web-{family}")
    trace = zone.connection(family, VIPS[family])
    assert "tcp_reset" in trace or "reject" in trace
    assert 'output to "shop_server"' not in trace


def test_affinity_reaches_the_pipeline_and_leaves_it(zone: ServiceZone) -> None:
    serve(zone, affinity_timeout=7)
    flows = zone.flows("n1")
    learn = [line for line in flows.splitlines() if "commit_lb_aff" in line]
    assert len(learn) == 2
    assert all("timeout = 7" in line for line in learn)
    serve(zone)
    assert "commit_lb_aff" not in zone.flows("n1")


@pytest.mark.parametrize("family", [4, 6])
def test_source_ranges_hold_for_pods(zone: ServiceZone, family: int) -> None:
    address = {4: "198.51.100.2", 6: "2001:db8:1::2"}[family]
    own = zone.address("shop/client", family)
    more = {"type": "LoadBalancer", "ingress_ips": (address,)}
    for ranges, reaches in (
        ((), True),
        ((f"{own}/{32 if family == 4 else 128}",), True),
        (("192.0.2.0/24",), False),
    ):
        serve(zone, source_ranges=ranges, **more)
        assert ('output to "shop_server"' in zone.connection(family, address)) is reaches, ranges
        assert 'output to "shop_server"' in zone.connection(family, VIPS[family])


def test_node_ports_by_template_have_flows(zone: ServiceZone) -> None:
    serve_ports = (ServicePort("", "TCP", 80, 30080),)
    serve(zone)
    zone.bench.put(SERVICES, service("shop/web", *serve_ports, cluster_ips=tuple(VIPS.values()), type="NodePort"))
    flows = zone.flows("n1")
    assert "ip4.dst == ^NODEIP_IPv4_0 && tcp.dst == 30080" in flows
    assert "ip6.dst == ^NODEIP_IPv6_0 && tcp.dst == 30080" in flows
    assert "192.0.2.2" in zone.nb("--bare", "--columns=variables", "list", "Chassis_Template_Var")


def test_templates_follow_nodes_that_exchange_their_chassis(zone: ServiceZone) -> None:
    def put(**chassis: str) -> None:
        found = [worker(name, number) for number, name in enumerate(chassis, 2)]
        views = [evolve(view, annotations={**view.annotations, CHASSIS_ID: chassis[view.name]}) for view in found]
        zone.bench.put(NODES, *views)

    def variables() -> dict[str, str]:
        columns = "--columns=chassis,variables"
        text = zone.nb("--format=csv", "--no-headings", columns, "list", "Chassis_Template_Var")
        return {line.partition(",")[0]: re.findall(r"IPv4_0=\D*([0-9.]+)", line)[0] for line in text.splitlines()}

    put(n1="a", n2="b")
    assert variables() == {"a": "192.0.2.2", "b": "192.0.2.3"}
    put(n1="b", n2="a")
    assert variables() == {"a": "192.0.2.3", "b": "192.0.2.2"}
    put(n1="a", n2="a")
    assert variables() == {"a": "192.0.2.2"}, "two with one name"
    assert zone.bench.failures == {}


def test_an_endpoint_more_is_one_small_transaction(zone: ServiceZone) -> None:
    serve(zone)
    before = zone.bench.sinks["nb"].transactions
    uuid = zone.nb("--bare", "--columns=_uuid", "find", "Load_Balancer", 'name="Service_shop/web_TCP_cluster"')
    more = [Endpoint((zone.address(name, 4),), "n1") for name in ("shop/server", "shop/client")]
    zone.bench.put(ENDPOINT_SLICES, endpoint_slice("shop/web-4", *more, service="shop/web"))
    assert zone.bench.sinks["nb"].transactions == before + 1
    assert (
        zone.nb("--bare", "--columns=_uuid", "find", "Load_Balancer", 'name="Service_shop/web_TCP_cluster"')
        == uuid
    )
    assert zone.address("shop/client", 4) in zone.nb("get", "Load_Balancer", uuid.strip(), "vips")
