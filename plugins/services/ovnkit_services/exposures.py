"""Role node: what of a service this node has to do itself, for each port and IP family."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.text import Network, parse_address
from ovnkit.api.world import World, derived
from ovnkit.network.gateway import L3Gateway, l3_gateway
from ovnkit.network.node import host_cidrs
from ovnkit.network.services import Service
from ovnkit.network.services import parse_address as known_address
from ovnkit_services.endpoints import NOBODY, Target, service_endpoints
from ovnkit_services.frontends import frontends, source_ranges
from ovnkit_services.layout import Layout

IP = IPv4Address | IPv6Address


@frozen
class OwnNode:
    """The node this process runs on: its gateway, and its addresses as text."""

    name: str
    gateway: L3Gateway
    addresses: frozenset[str]

    def address(self, family: int) -> IP | None:
        """The node's own address of a family."""
        return next((item.ip for item in self.gateway.addresses if item.version == family), None)


@derived
def own_node(world: World, node: str) -> OwnNode | None:
    """The node; None while it has no gateway."""
    try:
        gateway = l3_gateway(world, node)
        hosts = host_cidrs(world, node) or ()
    except Reject:
        return None
    if gateway is None:
        return None
    own = (*hosts, *gateway.addresses)
    return OwnNode(node, gateway, frozenset(str(address.ip) for address in own))


@frozen
class Exposure:
    """One port of a service in one IP family, as a node sees it.

    `node_port` is 0 when there is none to serve. `external` are external IPs, `ingress` those that a load
    balancer announces, to which `allowed` applies (None: everybody). `here` are the node's own endpoints,
    `hosted` those of them that are processes of the node itself.
    """

    family: int
    protocol: str
    cluster: IP
    port: int
    node_port: int
    external: tuple[IP, ...]
    ingress: tuple[IP, ...]
    allowed: tuple[Network, ...] | None
    here: tuple[Target, ...]
    hosted: tuple[Target, ...]
    external_local: bool
    internal_local: bool
    affinity: bool

    @property
    def addresses(self) -> tuple[IP, ...]:
        """All addresses it is reached at from outside."""
        return (*self.external, *self.ingress)


def exposures(world: World, service: Service, node: OwnNode, layout: Layout) -> Iterable[Exposure]:
    """What the node has to do for a service; nothing for one that is only reached from pods and by its routes."""
    items, _ = frontends(world, service, layout)
    if not items:
        return
    endpoints = service_endpoints(world, service.key, layout.cluster)
    allowed, _ = source_ranges(service)
    announced = {str(known_address(text)) for text in service.ingress_ips}
    for item in items:
        for family, cluster in item.cluster:
            outside = [text for version, text in item.external if version == family]
            node_port = item.port.node_port if node.gateway.node_port else 0
            if not (node_port or outside or service.internal_local):
                continue
            known = endpoints.get(((item.port.protocol, item.port.name), family), NOBODY)
            here = known.on(node.name)
            yield Exposure(
                family=family,
                protocol=item.port.protocol,
                cluster=parse_address(cluster),
                port=item.port.port,
                node_port=node_port,
                external=tuple(parse_address(text) for text in outside if text not in announced),
                ingress=tuple(parse_address(text) for text in outside if text in announced),
                allowed=allowed,
                here=here,
                hosted=tuple(target for target in here if target.address in node.addresses),
                external_local=service.external_local,
                internal_local=service.internal_local,
                affinity=bool(service.affinity_timeout),
            )
