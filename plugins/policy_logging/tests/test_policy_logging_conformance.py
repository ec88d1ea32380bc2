"""The conformance suite for policy_logging, together with a plugin that asks it how to log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ovnkit.api.config import Config
from ovnkit.testing.conformance import ConformanceSuite
from ovnkit.testing.harness import Harness
from ovnkit.testing.manifests import Manifest
from ovnkit.testing.ovsdb import OvsdbServer

SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {k8s.ovn.org/acl-logging: 'LEVELS'}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], egress: [{to: [{podSelector: {}}]}]}
"""


@pytest.mark.ovn
class TestPolicyLoggingConformance(ConformanceSuite):
    plugin = "policy_logging"
    families = ("dual",)  # nothing here depends on it
    scenarios = {
        "both": SHOP.replace("LEVELS", '{"allow":"info","deny":"alert"}'),
        "half wrong": SHOP.replace("LEVELS", '{"allow":"loud","deny":"alert"}'),
    }

    def run(self, server: OvsdbServer, manifests: Iterable[Manifest], config: Config, **more: Any) -> Harness:
        plugins = ["network_policy", self.plugin]
        return Harness(server, plugins, manifests, config=config, scope=self.scope, **more)

    def run_without(self, server: OvsdbServer, manifests: Iterable[Manifest], config: Config) -> Harness:
        return Harness(server, ["network_policy"], manifests, config=config, scope=self.scope)
