"""The conformance suite for multicast."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface
from typing import Any

import pytest

from ovnkit.api.host import ADDRESSES, LINKS, AddressView, LinkView
from ovnkit.api.kinds import Kind
from ovnkit.testing.conformance import ConformanceSuite

CHAT = """
apiVersion: v1
kind: Namespace
metadata: {name: chat, annotations: {k8s.ovn.org/multicast-enabled: "true"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: quiet}
---
apiVersion: v1
kind: Pod
metadata: {name: member, namespace: chat}
spec: {nodeName: n1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: chat}
spec: {nodeName: n1, hostNetwork: true, containers: [{name: c, image: x}]}
"""


@pytest.mark.ovn
class TestMulticastConformance(ConformanceSuite):
    plugin = "multicast"
    scenarios = {"a namespace with members": CHAT}
    nodes = ("n1",)

    def facts(self) -> Iterable[tuple[Kind[Any], Any]]:
        yield LINKS, LinkView("eth0", 2, "02:00:00:00:00:01", 1500, True)
        yield ADDRESSES, AddressView("eth0", ip_interface("192.0.2.2/24"))
