"""The conformance suite for services: every kind of load balancer, in each address family."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface
from typing import Any

import pytest

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.host import ADDRESSES, LINKS, AddressView, LinkView
from ovnkit.api.kinds import Kind
from ovnkit.api.renderers import Role
from ovnkit.testing.conformance import ConformanceSuite, family_config
from ovnkit_services.options import ServicesOptions

NODE = """
apiVersion: v1
kind: Node
metadata:
  name: {name}
  uid: {name}-uid
  annotations:
    k8s.ovn.org/node-id: "{number}"
    k8s.ovn.org/node-chassis-id: chassis-{name}
    k8s.ovn.org/node-subnets: '{{"default": [{subnets}]}}'
    k8s.ovn.org/host-cidrs: '[{hosts}]'
    k8s.ovn.org/l3-gateway-config: '{{"default": {{"mode": "shared", "bridge-id": "br-ex",
      "interface-id": "br-ex_{name}", "mac-address": "02:00:00:00:00:0{number}", "ip-addresses": [{hosts}],
      "node-port-enable": "true", "vlan-id": "0"}}}}'
status: {{addresses: [{{type: InternalIP, address: 192.0.2.{number}}}]}}
"""
SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop, uid: {name}-uid, creationTimestamp: "2030-01-0{number}T00:00:00Z",
  annotations: {{{annotations}}}}}
spec:
  type: {type}
  clusterIPs: [{cluster}]
  externalIPs: [{external}]
  sessionAffinity: {affinity}
  internalTrafficPolicy: {internal}
  externalTrafficPolicy: {outside}
  ports: [{{name: web, port: 80, protocol: TCP, nodePort: {node_port}}}, {{name: dns, port: 53, protocol: UDP}}]
"""
SLICE = """
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-v{family}, namespace: shop, uid: {name}-v{family}-uid,
  labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv{family}
ports: [{{name: web, port: 8080, protocol: TCP}}, {{name: dns, port: 5353, protocol: UDP}}]
endpoints:
- {{addresses: ["{one}"], nodeName: n1, conditions: {{ready: true}}}}
- {{addresses: ["{two}"], nodeName: n3, conditions: {{ready: true}}}}
- {{addresses: ["{three}"], nodeName: n3, conditions: {{ready: false, serving: true, terminating: true}}}}
"""
FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (6, 4)}


def texts(families: Iterable[int], v4: str, v6: str) -> str:
    return ", ".join(f'"{v4 if family == 4 else v6}"' for family in families)


def service(
    families: Iterable[int],
    number: int,
    name: str,
    *,
    kind: str = "ClusterIP",
    node_port: int = 0,
    external: bool = False,
    affinity: str = "None",
    internal: str = "Cluster",
    outside: str = "Cluster",
    hosted: bool = False,
    annotations: str = "",
) -> str:
    text = SERVICE.format(
        name=name,
        number=number,
        type=kind,
        cluster=texts(families, f"172.16.1.{number}", f"fd02::{number}"),
        external=texts(families, "198.51.100.1", "2001:db8:1::1") if external else "",
        affinity=affinity,
        internal=internal,
        outside=outside,
        node_port=node_port,
        annotations=annotations,
    )
    for family in families:
        if family == 4:
            addresses = ("192.0.2.2" if hosted else "10.128.4.5", "10.128.6.5", "10.128.6.6")
        else:
            addresses = ("2001:db8::2" if hosted else "fd01:0:0:4::5", "fd01:0:0:6::5", "fd01:0:0:6::6")
        text += SLICE.format(name=name, family=family, one=addresses[0], two=addresses[1], three=addresses[2])
    return text


def nodes(families: Iterable[int]) -> str:
    return "---".join(
        NODE.format(
            name=name,
            number=number,
            subnets=texts(families, f"10.128.{2 * number}.0/23", f"fd01:0:0:{2 * number}::/64"),
            hosts=texts(families, f"192.0.2.{number}/24", f"2001:db8::{number}/64"),
        )
        for name, number in (("n1", 2), ("n3", 3))
    )


def shop(families: Iterable[int]) -> str:
    return "".join(
        (
            nodes(sorted(families)),
            service(families, 1, "plain"),
            service(families, 2, "sticky", affinity="ClientIP"),
            service(families, 3, "hosted", hosted=True),
            service(families, 4, "near", internal="Local"),
            service(families, 5, "front", kind="NodePort", node_port=30080),
            service(families, 6, "front-host", kind="NodePort", node_port=30081, hosted=True),
            service(families, 7, "front-near", kind="NodePort", node_port=30082, outside="Local", external=True),
            service(families, 8, "second", external=True),
            service(families, 9, "asleep", annotations="acme.example/idled-at: '2030-01-01T00:00:00Z'"),
        )
    )


@pytest.mark.ovn
class TestServicesConformance(ConformanceSuite):
    plugin = "services"
    scenarios = {"a shop": "shop"}

    def prepare(self, text: str, family: str) -> str:
        return shop(FAMILIES[family])

    def facts(self) -> Iterable[tuple[Kind[Any], Any]]:
        yield LINKS, LinkView("eth0", 2, "02:00:00:00:00:01", 1500, True)
        yield ADDRESSES, AddressView("eth0", ip_interface("192.0.2.2/24"))


@pytest.mark.ovn
class TestServicesInACentralZone(TestServicesConformance):
    scope = Scope(frozenset({Role.ZONE, Role.CLUSTER}), "", "global", False)
    families = ("dual",)

    def facts(self) -> Iterable[tuple[Kind[Any], Any]]:
        return ()

    def config(self, family: str) -> Config:
        return family_config(family).with_options("services", ServicesOptions(svc_template_support="always"))
