"""Role node: nftables and flows of services on this node."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.flows import FlowItem
from ovnkit.api.hooks import Scope
from ovnkit.api.models import NODES
from ovnkit.api.nft import NftItem
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World, derived
from ovnkit.network.bridges import external_bridge
from ovnkit.network.services import SERVICES
from ovnkit_services import filters, idling, tracking
from ovnkit_services.bridge import BridgeFacts, ServiceFlows
from ovnkit_services.endpoints import service_endpoints
from ovnkit_services.exposures import exposures, own_node
from ovnkit_services.frontends import frontends
from ovnkit_services.layout import Layout


@derived
def bridge_facts(world: World, node: str, zone: int) -> BridgeFacts | None:
    """The external bridge; None until both of its ports are there."""
    own = own_node(world, node)
    found = external_bridge(world, own.gateway.bridge, node) if own is not None else None
    if found is None or not found.uplink_port or not found.patch_port:
        return None
    return BridgeFacts(found.name, found.uplink_port, found.patch_port, zone)


@frozen
class NodeServices:
    """The renderers of the node role."""

    config: Config
    scope: Scope
    layout: Layout

    def renderers(self) -> Iterable[Renderer]:
        """One render for what all services share, and per service: kernel, bridge, connection tracking."""
        yield Renderer("nft", Role.NODE, self.standing, each=self.node, subject=NODES)
        yield Renderer("service-nft", Role.NODE, self.kernel, each=SERVICES)
        yield Renderer("service-flows", Role.NODE, self.flows, each=SERVICES)
        yield Renderer("service-tracks", Role.NODE, self.tracks, each=SERVICES)

    def node(self, world: World) -> Iterable[str]:
        """This node, once it has a gateway."""
        return (self.scope.node,) if own_node(world, self.scope.node) is not None else ()

    def standing(self, _world: World, _node: str) -> Iterable[NftItem]:
        """Chains and maps."""
        yield from filters.standing(self.layout.families)

    def kernel(self, world: World, key: str) -> Iterable[NftItem]:
        """Elements and rules of a service."""
        service, own = world.get(SERVICES, key), own_node(world, self.scope.node)
        if service is None or own is None:
            return
        found = list(exposures(world, service, own, self.layout))
        yield from filters.items(key, found, self.layout, local_mode=own.gateway.mode == "local")
        if not idling.clients_wait(world, service, self.layout):
            fronts, _ = frontends(world, service, self.layout)
            yield from filters.refused(fronts, service_endpoints(world, key, self.layout.cluster))

    def flows(self, world: World, key: str) -> Iterable[FlowItem]:
        """Flows of a service."""
        service, own = world.get(SERVICES, key), own_node(world, self.scope.node)
        if service is None or own is None:
            return
        facts = bridge_facts(world, self.scope.node, self.config.default.conntrack_zone)
        if facts is not None:
            yield from ServiceFlows(facts, own).flows(exposures(world, service, own, self.layout))

    def tracks(self, world: World, key: str) -> Iterable[tracking.Tracked]:
        """Connections to forget when a service or its endpoints come or go."""
        service = world.get(SERVICES, key)
        if service is not None:
            yield from tracking.tracked(world, service, self.scope.node, self.layout)
