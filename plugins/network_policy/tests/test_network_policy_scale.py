"""What an event costs in a northbound with a thousand policies: operations counted on a real ovsdb-server."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from policy_cases import node, policy

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.models import NAMESPACES, NODES, PODS
from ovnkit.api.renderers import Role
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import namespace, pod
from ovnkit.testing.ovsdb import OvsdbServer
from ovnkit_network_policy.plugin import NetworkPolicyPlugin

APPS = 50


def spec(number: int) -> dict[str, Any]:
    """Pods of an app, reached by those of another; policies with the same peers share a set."""
    own, other = ({"matchLabels": {"app": f"app{(number + step) % APPS}"}} for step in (0, 1))
    return {"podSelector": own, "ingress": [{"from": [{"podSelector": other}], "ports": [{"port": 80}]}]}


def running(name: str, **labels: str) -> Any:
    network = {"default": {"ip_addresses": ["10.128.4.9/23"], "mac_address": "0a:58:0a:80:04:09"}}
    return pod(f"red/{name}", "n2", {"k8s.ovn.org/pod-networks": json.dumps(network)}, labels=labels)


@pytest.mark.ovn
def test_a_pod_event_changes_memberships_and_no_acl(tmp_path: Path) -> None:
    topology = pytest.importorskip("ovnkit_topology.plugin")
    pods = pytest.importorskip("ovnkit_pods.plugin")
    config = Config(default=DefaultOptions(cluster_subnets=(ClusterSubnet.parse("10.128.0.0/14/23"),)))
    with OvsdbServer(tmp_path / "nb") as server:
        found = Bench(
            topology.TopologyPlugin(),
            pods.PodsPlugin(),
            NetworkPolicyPlugin(),
            scope=scope(Role.ZONE, zone="global", per_node_zones=False),
            config=config,
            connect={"nb": server.endpoint},
        )
        try:
            found.put(NODES, NODES.view(node(2, (4,))))
            found.put(NAMESPACES, namespace("red"))
            made = [NETWORK_POLICIES.view(policy(number, "red", spec(number))) for number in range(1000)]
            found.put(NETWORK_POLICIES, *made)
            done: Counter[str] = Counter()
            session = found.sinks["nb"].session
            transact = session.transact

            def counted(operations: list[dict[str, Any]], reply: Any) -> None:
                done.update(f"{each['op']} {each['table']}" for each in operations)
                transact(operations, reply)

            session.transact = counted  # type: ignore[method-assign, assignment]
            found.put(PODS, running("x", app="app7"))
            # Twenty policies select the pod, and all of the other twenty name one set as their peers.
            assert done.pop("mutate Address_Set") == 2, "of the peers, and the namespace's"
            assert done.pop("mutate Port_Group") == 22, "of each policy, of the default deny, and the namespace's"
            assert set(done) <= {"insert Logical_Switch_Port", "mutate Logical_Switch"}
            done.clear()
            found.put(PODS, running("x", app="other"))
            assert done == {"mutate Address_Set": 1, "mutate Port_Group": 21}
        finally:
            found.stop()
