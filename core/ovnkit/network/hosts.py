"""The cluster's hosts as pods see them: addresses of management ports."""

from __future__ import annotations

from ovnkit.api.errors import Reject
from ovnkit.api.models import PODS
from ovnkit.api.text import Address
from ovnkit.api.world import World, derived
from ovnkit.network.node import management_address, node_subnets


@derived
def management_addresses(world: World, node: str) -> tuple[Address, ...]:
    """Addresses of a node's management port, IPv4 first; raises Reject when its annotation is wrong."""
    return tuple(management_address(subnet).ip for subnet in node_subnets(world, node) or ())


@derived
def host_nodes(world: World, namespace: str) -> tuple[str, ...]:
    """The nodes on whose network a namespace has pods."""
    pods = world.list(PODS, "namespace", namespace)
    return tuple(sorted({pod.node for pod in pods if pod.host_network and pod.node and not pod.completed}))


@derived
def host_pod_addresses(world: World, namespace: str) -> tuple[Address, ...]:
    """The addresses that the cluster network sees a namespace's host-network pods with.

    Nodes whose annotation is wrong are left out: that is reported on the node.
    """
    found: list[Address] = []
    for node in host_nodes(world, namespace):
        try:
            found += management_addresses(world, node)
        except Reject:
            continue
    return tuple(found)
