"""Nodes, their gateways, services and endpoints come in any order: the load balancers are the same in the end."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.hooks import Scope
from ovnkit.api.renderers import Role
from ovnkit.testing.conformance import family_config
from ovnkit.testing.harness import Content, Harness, difference, make_server
from ovnkit.testing.manifests import Manifest, objects

pytestmark = pytest.mark.ovn

NODE = {
    "bare": {},
    "subnet": {
        "k8s.ovn.org/node-subnets": '{"default": ["10.128.4.0/23"]}',
        "k8s.ovn.org/node-id": "2",
        "k8s.ovn.org/node-chassis-id": "chassis-n1",
        "k8s.ovn.org/host-cidrs": '["192.0.2.2/24"]',
    },
}
GATEWAY = """{"default": {"mode": "shared", "bridge-id": "br-ex", "interface-id": "br-ex_n1",
  "mac-address": "02:00:00:00:00:02", "ip-addresses": ["192.0.2.2/24"], "next-hops": ["192.0.2.254"],
  "node-port-enable": "%s", "vlan-id": "0"}}"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, creationTimestamp: "2030-01-01T00:00:00Z"}
spec:
  type: NodePort
  clusterIPs: [172.16.1.10]
  externalTrafficPolicy: Local
  ports: [{name: web, port: 80, protocol: TCP, nodePort: 30080}]
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: web, port: 8080, protocol: TCP}]
endpoints:
- {addresses: [10.128.4.5], nodeName: n1, conditions: {ready: true}}
- {addresses: [192.0.2.2], nodeName: n1, conditions: {ready: true}}
"""
STEPS = ("bare", "subnet", "gateway", "service", "slice")
ORDERS = [order for order in permutations(STEPS) if [step for step in order if step in STEPS[:3]] == [*STEPS[:3]]]


def manifest(step: str, *, node_ports: bool) -> Manifest:
    if step in ("service", "slice"):
        return objects({"service": SERVICE, "slice": SLICE}[step])[-1]
    annotations = dict(NODE["bare" if step == "bare" else "subnet"])
    if step == "gateway":
        annotations["k8s.ovn.org/l3-gateway-config"] = GATEWAY % str(node_ports).lower()
    meta: dict[str, Any] = {"name": "n1", "uid": "n1", "resourceVersion": "1", "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"addresses": []}}


def arrive(folder: Path, order: tuple[str, ...], *, node_ports: bool) -> Content:
    """What is in the zone's northbound after the objects have come one by one into a running process."""
    server = make_server(folder)
    try:
        scope = Scope(frozenset({Role.ZONE}), "", "n1", True)
        with Harness(server, ["services", "gateway"], config=family_config("ipv4"), scope=scope) as harness:
            for step in order:
                harness.observe(manifest(step, node_ports=node_ports))
            assert harness.failures == {}
            names = harness.names("Load_Balancer")
            assert "Service_shop/web_TCP_node_router_n1" in names
            assert ("Service_shop/web_TCP_node_local_router_n1" in names) is node_ports
            return harness.content()
    finally:
        server.stop()


@pytest.mark.parametrize("node_ports", [True, False], ids=["groups", "named"])
def test_the_gateway_may_come_at_any_time(tmp_path: Path, node_ports: bool) -> None:
    """With NodePorts load balancers hang on groups, without on the gateway router, which may not exist yet."""
    first = arrive(tmp_path / "first", STEPS, node_ports=node_ports)
    for number, order in enumerate(ORDERS[2::5]):
        found = arrive(tmp_path / str(number), order, node_ports=node_ports)
        assert difference(first, found) == [], order
