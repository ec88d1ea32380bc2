"""What all pods of a node share: subnets, gateways, routes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from attrs import frozen

from ovnkit.api.config import ClusterSubnet, Config
from ovnkit.api.errors import Reject, Retry
from ovnkit.api.items import Slot
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Address, Interface, Network, host_network
from ovnkit.api.world import World, derived
from ovnkit.network import rows
from ovnkit.network.masquerade import Masquerade, masquerade_address
from ovnkit.network.node import chassis_id, gateway_address, host_subnets, is_unmanaged, nth_interface
from ovnkit_pods.texts import AnnotationText


@frozen(cache_hash=True)
class Layout:
    """The part of the configuration that pods' networks depend on; `internal` gets routes in every pod."""

    cluster: tuple[ClusterSubnet, ...]
    unmanaged: LabelSelector | None
    internal: tuple[Network, ...]

    @classmethod
    def of(cls, config: Config) -> Layout:
        """The layout of a configuration."""
        cluster = config.default.cluster_subnets
        internal: list[Network] = [subnet.network for subnet in cluster]
        internal += config.kubernetes.service_cidrs
        for family in config.families:
            hairpin = masquerade_address(config.masquerade_subnet(family), Masquerade.HAIRPIN).ip
            internal += [host_network(hairpin), config.join_subnet(family)]
        return cls(cluster, config.kubernetes.no_hostsubnet_selector, tuple(internal))


@frozen
class NodeNetwork:
    """A node's slices of the cluster network, IPv4 first, and what a pod on it needs besides an address.

    `slot` is where its ports go, `text` the usual annotation.
    """

    subnets: tuple[Network, ...]
    gateways: tuple[Address, ...]
    routes: tuple[tuple[Network, Address], ...]
    slot: Slot
    text: AnnotationText

    def annotation(self, mac: str, addresses: Sequence[Address]) -> str:
        """The annotation of a pod that has no other network."""
        pairs = zip(addresses, self.subnets, strict=True)
        return self.text.fill(mac, [f"{address}/{network.prefixlen}" for address, network in pairs])

    def owns(self, addresses: Sequence[Address]) -> bool:
        """Whether these are one address of each subnet, in order."""
        return len(addresses) == len(self.subnets) and all(map(operator.contains, self.subnets, addresses))

    def subnet(self, family: int) -> Network | None:
        """The slice of an IP version."""
        return next((network for network in self.subnets if network.version == family), None)


@derived
def node_network(world: World, node: str, layout: Layout) -> NodeNetwork | None:
    """The network of a node's pods; None for a node that gets none, Retry until its subnets are known."""
    if is_unmanaged(world, node, layout.unmanaged):
        return None
    try:
        subnets = host_subnets(world, node, layout.cluster)
    except Reject as error:
        raise Retry(f"node {node}: {error.message}") from None
    if subnets is None:
        raise Retry(f"node {node} has no subnets yet")
    gateways = tuple(gateway_address(network).ip for network in subnets)
    routes = tuple(
        (network, gateway)
        for gateway in gateways
        for network in layout.internal
        if network.version == gateway.version
    )
    slot = Slot("Logical_Switch", rows.node_switch(node), "ports")
    return NodeNetwork(subnets, gateways, routes, slot, AnnotationText.of(subnets, gateways, routes))


@derived
def requested_chassis(world: World, node: str) -> str:
    """Chassis that a port of this node belongs on; Retry until the node has said it."""
    try:
        found = chassis_id(world, node)
    except Reject as error:
        raise Retry(f"node {node}: {error.message}") from None
    if found is None:
        raise Retry(f"node {node} has no chassis id yet")
    return found


def interface(address: Address, network: Network) -> Interface:
    """An address of a network with its prefix length."""
    return nth_interface(network, int(address) - int(network.network_address))


def contains(network: Network, address: Interface) -> bool:
    """Whether an annotated address is one of this network's, with its prefix length."""
    if isinstance(network, IPv4Network):
        return address.network == network
    return isinstance(network, IPv6Network) and address.network == network
