"""The conformance suite for the management port."""

from __future__ import annotations

from typing import ClassVar

import pytest

from ovnkit.testing.conformance import ConformanceSuite

pytestmark = pytest.mark.ovn

_NODES = """
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 192.168.1.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
status: {addresses: [{type: InternalIP, address: 192.168.1.12}]}
"""


class TestManagementPort(ConformanceSuite):
    plugin = "management_port"
    scenarios: ClassVar = {"two nodes": _NODES}
