"""The conformance suite for pods."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface
from typing import Any

import pytest

from ovnkit.api.host import ADDRESSES, LINKS, AddressView, LinkView
from ovnkit.api.kinds import Kind
from ovnkit.testing.conformance import ConformanceSuite

NODE = """
apiVersion: v1
kind: Node
metadata: {{name: {name}, uid: {name}-uid, annotations: {{
  k8s.ovn.org/node-id: "{number}",
  k8s.ovn.org/node-chassis-id: chassis-{name},
  k8s.ovn.org/node-subnets: 'SUBNETS{number}'}}}}
status: {{addresses: [{{type: InternalIP, address: 192.0.2.{number}}}]}}
"""
NAMESPACES = """
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: shop-uid}
---
apiVersion: v1
kind: Namespace
metadata: {name: empty, uid: empty-uid}
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, uid: {name}-uid}}
spec: {{nodeName: {node}, hostNetwork: {host}, containers: [{{name: c, image: x}}]}}
status: {{phase: {phase}}}
"""
SUBNETS = {
    "ipv4": '{{"default":["10.128.{0}.0/23"]}}',
    "ipv6": '{{"default":["fd01:0:0:{0}::/64"]}}',
    "dual": '{{"default":["10.128.{0}.0/23","fd01:0:0:{0}::/64"]}}',
}


def pod(name: str, node: str = "n1", phase: str = "Running", host: str = "false") -> str:
    return POD.format(name=name, node=node, phase=phase, host=host)


SHOP = "".join(
    (
        "---".join(NODE.format(name=f"n{number}", number=number) for number in (2, 3)).replace("n2", "n1"),
        NAMESPACES,
        pod("web"),
        pod("db"),
        pod("job", phase="Succeeded"),
        pod("agent", host="true"),
        pod("far", node="n3"),
    )
)


@pytest.mark.ovn
class TestPodsConformance(ConformanceSuite):
    plugin = "pods"
    scenarios = {"a shop": SHOP}

    def prepare(self, text: str, family: str) -> str:
        for number in (2, 3):
            text = text.replace(f"SUBNETS{number}", SUBNETS[family].format(number * 2))
        return text

    def facts(self) -> Iterable[tuple[Kind[Any], Any]]:
        yield LINKS, LinkView("eth0", 2, "02:00:00:00:00:01", 1500, True)
        yield ADDRESSES, AddressView("eth0", ip_interface("192.0.2.2/24"))
