"""The conformance suite on the in-tree plugin that everything needs, and that it catches what it should."""

from __future__ import annotations

from ovnkit.testing.conformance import ConformanceSuite

NODES = """
apiVersion: v1
kind: Node
metadata: {name: n1, annotations: {"k8s.ovn.org/node-chassis-id": chassis-1}}
---
apiVersion: v1
kind: Node
metadata: {name: n2, annotations: {"k8s.ovn.org/node-chassis-id": chassis-2}}
---
apiVersion: v1
kind: Node
metadata: {name: n3, annotations: {"k8s.ovn.org/node-chassis-id": chassis-3}}
"""


class TestTopology(ConformanceSuite):
    plugin = "topology"
    scenarios = {"three nodes": NODES}
