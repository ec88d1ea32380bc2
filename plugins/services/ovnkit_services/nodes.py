"""What services need to know of a node."""

from __future__ import annotations

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.models import NODES
from ovnkit.api.world import World, derived
from ovnkit.network.gateway import l3_gateway
from ovnkit.network.node import chassis_id, host_cidrs, is_unmanaged, node_subnets
from ovnkit_services.layout import Layout


@frozen
class NodeFacts:
    """A node as services see it; addresses as text, only of the cluster's IP families.

    `gateway` are the addresses of the gateway router, empty while there is none. `node_ports` are the addresses
    that answer to NodePorts, empty when the node serves none.
    """

    name: str
    chassis: str
    gateway: tuple[str, ...]
    node_ports: tuple[tuple[int, str], ...]

    def of(self, family: int) -> list[str]:
        """The NodePort addresses of an IP family."""
        return [address for version, address in self.node_ports if version == family]


@derived
def node_facts(world: World, node: str, families: tuple[int, ...]) -> NodeFacts:
    """What is known of a node now; a wrong annotation counts as none (who writes it reports it)."""
    try:
        gateway = l3_gateway(world, node)
        hosts = host_cidrs(world, node) or ()
        chassis = chassis_id(world, node) or ""
    except Reject:
        gateway, hosts, chassis = None, (), ""
    own = gateway.addresses if gateway is not None else ()
    ports = {(a.version, str(a.ip)) for a in (*hosts, *own)}
    if gateway is None or not gateway.node_port:
        ports = set()
    return NodeFacts(
        name=node,
        chassis=chassis,
        gateway=tuple(str(address.ip) for address in own if address.version in families),
        node_ports=tuple(sorted(item for item in ports if item[0] in families)),
    )


@derived
def zone_nodes(world: World, layout: Layout) -> tuple[NodeFacts, ...]:
    """The nodes whose switches are in this zone, by name."""
    names = [layout.zone] if layout.zone else sorted(world.keys(NODES))
    return tuple(node_facts(world, name, layout.families) for name in names if _has_switch(world, name, layout))


def _has_switch(world: World, node: str, layout: Layout) -> bool:
    if is_unmanaged(world, node, layout.unmanaged):
        return False
    try:
        return node_subnets(world, node) is not None
    except Reject:
        return False
