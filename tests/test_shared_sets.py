"""Plugins that ask for the same pods share one live set: a pod event costs one element, however many want it."""

from __future__ import annotations

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.items import Row
from ovnkit.api.live import LiveSet
from ovnkit.api.models import NAMESPACES
from ovnkit.api.renderers import Role
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit.testing.bench import Bench
from ovnkit.testing.objects import namespace
from ovnkit_network_policy.plugin import NetworkPolicyPlugin
from ovnkit_pods.plugin import PodsPlugin

ZONE = Scope(frozenset({Role.ZONE}), "", "n1", True)
POLICY = {
    "metadata": {"namespace": "shop", "name": "p"},
    "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]},
}


def live_sets(plugin: object) -> set[LiveSet]:
    """Those in the rows of a plugin, for a namespace with a policy about all of its pods."""
    bench = Bench(plugin, scope=ZONE, config=Config())
    bench.put(NAMESPACES, namespace("shop"))
    bench.put(NETWORK_POLICIES, NETWORK_POLICIES.view(POLICY))
    return {
        value
        for item in bench.databases["nb"].items
        if isinstance(item, Row)
        for value in item.columns.values()
        if isinstance(value, LiveSet)
    }


def test_policies_and_namespaces_share_the_sets_of_a_namespaces_pods() -> None:
    """The addresses of its pods, and their ports in this zone."""
    of_namespace = live_sets(PodsPlugin())
    assert len(of_namespace) == 2
    assert of_namespace <= live_sets(NetworkPolicyPlugin())
