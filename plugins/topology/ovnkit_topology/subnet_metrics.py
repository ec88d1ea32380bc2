"""How many node subnets there are and how many are handed out, under the names of OVN-Kubernetes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from ovnkit.api.config import Config
from ovnkit.api.hooks import Runtime
from ovnkit.api.metrics import Metric, MetricKind, Sample
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.network.node import DEFAULT_NETWORK, NODE_SUBNETS, parse_node_subnets

_LABELS = {"network_name": DEFAULT_NETWORK}


def subnet_metrics(runtime: Runtime) -> Iterator[Metric]:
    """The metrics of a process with the cluster role, of each IP version."""
    if Role.CLUSTER not in runtime.scope.roles:
        return
    allocated = _allocated(runtime)
    for version in (4, 6):
        yield _gauge(
            f"ovnkube_clustermanager_num_v{version}_host_subnets",
            "Node subnets that can be handed out.",
            _available(runtime.config, version),
        )
        yield _gauge(
            f"ovnkube_clustermanager_allocated_v{version}_host_subnets",
            "Node subnets handed out.",
            allocated[version],
        )


def _gauge(name: str, text: str, value: int) -> Metric:
    return Metric(name, text, MetricKind.GAUGE, (Sample(value, _LABELS),), upstream=True)


def _available(config: Config, version: int) -> int:
    subnets = [s for s in config.default.cluster_subnets if s.network.version == version]
    return sum(2 ** (s.host_prefix - s.network.prefixlen) for s in subnets)


def _allocated(runtime: Runtime) -> Counter[int]:
    """How many nodes have a subnet, by IP version."""
    nodes = runtime.list(NODES)
    return Counter(version for node in nodes for version in _versions(node.annotations.get(NODE_SUBNETS, "")))


@lru_cache(maxsize=4096)
def _versions(subnets: str) -> frozenset[int]:
    try:
        return frozenset(subnet.version for subnet in parse_node_subnets(subnets))
    except (ValueError, TypeError, AttributeError):
        return frozenset()
