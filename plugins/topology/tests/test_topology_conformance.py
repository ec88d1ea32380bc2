"""The conformance suite for the topology."""

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
metadata: {{name: {name}, uid: {name}-uid, annotations: {{{annotations}}}}}
status: {{addresses: [{{type: InternalIP, address: {address}}}]}}
"""

OTHER = """
  k8s.ovn.org/node-chassis-id: chassis-{name}, k8s.ovn.org/node-id: "{number}",
  k8s.ovn.org/node-encap-ips: '["192.0.2.{number}"]', k8s.ovn.org/node-subnets: 'SUBNETS{number}'
"""
THREE_NODES = "---".join(
    NODE.format(
        name=f"n{number}",
        address=f"192.0.2.{number}",
        annotations=OTHER.format(name=f"n{number}", number=number) if number != 1 else "",
    )
    for number in (1, 2, 3)
)
SUBNETS = {
    "ipv4": '{{"default":["10.128.{0}.0/23"]}}',
    "ipv6": '{{"default":["fd01:0:0:{0}::/64"]}}',
    "dual": '{{"default":["10.128.{0}.0/23","fd01:0:0:{0}::/64"]}}',
}


@pytest.mark.ovn
class TestTopologyConformance(ConformanceSuite):
    plugin = "topology"
    scenarios = {"a zone and two others": THREE_NODES}

    def prepare(self, text: str, family: str) -> str:
        for number in (2, 3):
            text = text.replace(f"SUBNETS{number}", SUBNETS[family].format(number * 2))
        return text

    def facts(self) -> Iterable[tuple[Kind[Any], Any]]:
        yield LINKS, LinkView("eth0", 2, "02:00:00:00:00:01", 1500, True)
        yield ADDRESSES, AddressView("eth0", ip_interface("192.0.2.1/24"))
