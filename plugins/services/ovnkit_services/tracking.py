"""Role node: the ways of UDP that connection tracking may remember.

OVN's `ct_flush` forgets connections of a target that goes, but before the last packet has gone there; a client
that keeps its port and sends often would be bound to it anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.host import TrackedPath
from ovnkit.api.service_models import Service
from ovnkit.api.text import parse_address
from ovnkit.api.world import World
from ovnkit_services.endpoints import NOBODY, Targets, service_endpoints
from ovnkit_services.exposures import OwnNode
from ovnkit_services.frontends import Frontend, frontends
from ovnkit_services.layout import Layout


def paths(world: World, service: Service, node: OwnNode, layout: Layout) -> Iterable[TrackedPath]:
    """From every address of a service to every endpoint, as this node's datapath translates them."""
    items, _ = frontends(world, service, layout)
    items = [item for item in items if item.port.protocol == "UDP"]
    endpoints = service_endpoints(world, service.key, layout.cluster) if items else {}
    for item in items:
        for family in layout.families:
            known = endpoints.get((("UDP", item.port.name), family), NOBODY)
            for address, port in _fronts(item, family, node):
                for target, target_port in _targets(known, family, node, layout):
                    yield TrackedPath("UDP", parse_address(address), port, parse_address(target), target_port)


def _fronts(item: Frontend, family: int, node: OwnNode) -> set[tuple[str, int]]:
    found = {(text, item.port.port) for version, text in (*item.cluster, *item.external) if version == family}
    if item.port.node_port and node.gateway.node_port:
        found |= {(text, item.port.node_port) for text in node.addresses if parse_address(text).version == family}
    return found


def _targets(known: Targets, family: int, node: OwnNode, layout: Layout) -> set[tuple[str, int]]:
    """The node's own processes go by another address in its gateway router."""
    found = {(target.address, target.port) for target in known.eligible()}
    mine = {(layout.host_masquerade[family], port) for address, port in found if address in node.addresses}
    return found | mine
