"""Role node: what of services connection tracking may remember, and is to forget.

OVN's `ct_flush` forgets connections of a target that goes, but before the last packet has gone there; a client
that keeps its port and sends often would be bound to it anew. And nobody forgets connections to an address that
are older than its service: as long as a client goes on with one, it would never be translated.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.host import TrackedFront, TrackedPath
from ovnkit.api.text import parse_address
from ovnkit.api.world import World
from ovnkit.network.services import Service
from ovnkit_services.endpoints import NOBODY, Targets, service_endpoints
from ovnkit_services.exposures import OwnNode, own_node
from ovnkit_services.frontends import Frontend, frontends
from ovnkit_services.layout import Layout

Tracked = TrackedPath | TrackedFront


def tracked(world: World, service: Service, node: str, layout: Layout) -> Iterable[Tracked]:
    """Every address of a service, and for UDP from there to every endpoint, as this node's datapath translates.

    Also on a node without a gateway: its pods reach services through its switch.
    """
    own = own_node(world, node)
    items, _ = frontends(world, service, layout)
    endpoints = service_endpoints(world, service.key, layout.cluster)
    for item in items:
        protocol = item.port.protocol
        for family in layout.families:
            known = endpoints.get(((protocol, item.port.name), family), NOBODY)
            for text, port, local in set(_fronts(item, family, service, own, layout)):
                address = parse_address(text)
                answering = known.on(node) if local else known.eligible()
                yield TrackedFront(protocol, address, port, answers=bool(answering))
                if protocol == "UDP":
                    for target, target_port in _targets(known, family, own, layout):
                        yield TrackedPath(protocol, address, port, parse_address(target), target_port)


def _fronts(
    item: Frontend, family: int, service: Service, node: OwnNode | None, layout: Layout
) -> Iterable[tuple[str, int, bool]]:
    """Address, port, and whether only the node's own endpoints answer there."""
    internal, external = service.internal_local, service.external_local
    yield from ((text, item.port.port, internal) for version, text in item.cluster if version == family)
    yield from ((text, item.port.port, external) for version, text in item.external if version == family)
    if node is not None and item.port.node_port and node.gateway.node_port:
        own = (text for text in node.addresses if parse_address(text).version == family)
        yield from ((text, item.port.node_port, external) for text in own)
        if external:
            yield layout.etp_local[family], item.port.node_port, True


def _targets(known: Targets, family: int, node: OwnNode | None, layout: Layout) -> set[tuple[str, int]]:
    """The node's own processes go by another address in its gateway router."""
    found = {(target.address, target.port) for target in known.eligible()}
    addresses = node.addresses if node is not None else ()
    return found | {(layout.host_masquerade[family], port) for address, port in found if address in addresses}
