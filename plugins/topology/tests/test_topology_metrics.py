"""Node subnets on /metrics, under the names of OVN-Kubernetes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.models import Node
from ovnkit.api.renderers import Role
from ovnkit.network.node import NODE_SUBNETS
from ovnkit.status.metrics import Metrics
from ovnkit.testing.bench import scope
from ovnkit.testing.objects import node
from ovnkit_topology.plugin import TopologyPlugin

CONFIG = Config(
    default=DefaultOptions(
        cluster_subnets=(ClusterSubnet.parse("10.128.0.0/14/23"), ClusterSubnet.parse("fd01::/48/64"))
    )
)


def shown(role: Role, *nodes: Node) -> list[str]:
    runtime: Any = SimpleNamespace(config=CONFIG, scope=scope(role, node="n1"), list=lambda _kind: nodes)
    told = list(TopologyPlugin().ovnkit_metrics(runtime))
    lines = Metrics(dict, lambda: [("topology", told)]).answer().body.decode().splitlines()
    return [line for line in lines if line.startswith("ovnkube_clustermanager_")]


def test_the_cluster_role_counts_node_subnets_by_family() -> None:
    nodes = (
        node("both", {NODE_SUBNETS: '{"default":["10.128.2.0/23","fd01:0:0:2::/64"]}'}),
        node("one", {NODE_SUBNETS: '{"default":["10.128.4.0/23"]}'}),
        node("none"),
        node("wrong", {NODE_SUBNETS: '{"default":["10.128.4.0/33"]}'}),
        node("other", {NODE_SUBNETS: '{"blue":["10.129.4.0/23"]}'}),
    )
    assert shown(Role.CLUSTER, *nodes) == [
        'ovnkube_clustermanager_num_v4_host_subnets{network_name="default"} 512.0',
        'ovnkube_clustermanager_allocated_v4_host_subnets{network_name="default"} 2.0',
        'ovnkube_clustermanager_num_v6_host_subnets{network_name="default"} 65536.0',
        'ovnkube_clustermanager_allocated_v6_host_subnets{network_name="default"} 1.0',
    ]


def test_other_roles_do_not() -> None:
    assert shown(Role.ZONE, node("n1")) == []
