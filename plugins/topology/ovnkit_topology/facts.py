"""What the zone's renderers need of a node; they wait for what the cluster and node roles have yet to say."""

from __future__ import annotations

from attrs import frozen

from ovnkit.api.config import ClusterSubnet, Config
from ovnkit.api.errors import Reject, Retry
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Address, Interface, Network
from ovnkit.api.world import World, derived
from ovnkit.network.node import (
    chassis_id,
    encap_ips,
    gateway_mtu_supported,
    host_subnets,
    node_id,
    transit_addresses,
)


@frozen
class NodeFacts:
    """A node as the zone sees it. `chassis` is empty and `transit` and `encaps` are () until they are known."""

    subnets: tuple[Network, ...]
    number: int | None
    chassis: str
    transit: tuple[Interface, ...]
    encaps: tuple[Address, ...]
    gateway_mtu: bool


@frozen
class Layout:
    """The part of the configuration these facts depend on."""

    cluster: tuple[ClusterSubnet, ...]
    unmanaged: LabelSelector | None
    per_node_zones: bool

    @classmethod
    def of(cls, config: Config, *, per_node_zones: bool) -> Layout:
        """The layout of a configuration."""
        return cls(config.default.cluster_subnets, config.kubernetes.no_hostsubnet_selector, per_node_zones)


@derived
def node_facts(world: World, node: str, layout: Layout) -> NodeFacts:
    """What is known of a node; Retry until it has subnets (and in zones per node its number).

    Wrong annotations are Retry as well: the roles that write them report them, once.
    """
    try:
        subnets = host_subnets(world, node, layout.cluster)
        if subnets is None:
            raise Retry(f"node {node} has no subnets yet")
        number = node_id(world, node)
        transit = transit_addresses(world, node) if layout.per_node_zones else ()
        if layout.per_node_zones and (number is None or transit is None):
            raise Retry(f"node {node} has no id or transit switch addresses yet")
        families = {subnet.network.version for subnet in layout.cluster}
        if layout.per_node_zones and not families.issubset({address.version for address in transit or ()}):
            raise Retry(f"node {node} lacks a transit switch address of one IP family")
        return NodeFacts(
            subnets=subnets,
            number=number,
            chassis=chassis_id(world, node) or "",
            transit=transit or (),
            encaps=encap_ips(world, node) or (),
            gateway_mtu=gateway_mtu_supported(world, node),
        )
    except Reject as error:
        raise Retry(f"node {node}: {error.message}") from None
