"""Events on the zone's nodes about daemons of OVN that don't work."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.hooks import Scope
from ovnkit.api.items import Ask, Event
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.ovn_daemons import NORTHBOUND_SERVER, NORTHD, SOUTHBOUND_SERVER
from ovnkit_topology.chassis import chassis_of
from ovnkit_topology.daemons import controller_events, events


@frozen
class ZoneDaemons:
    """The renderer of the zone's daemons, and of its nodes' ovn-controllers."""

    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """One render for each node of the zone."""
        yield Renderer("daemons", Role.ZONE, self.render, each=self.nodes, subject=NODES)

    def nodes(self, world: World) -> Iterable[str]:
        """The zone's nodes."""
        return [name for name in world.keys(NODES) if self.scope.is_local(name)]

    def render(self, world: World, node: str) -> Iterable[Ask | Event]:
        """The zone's databases and northd, and the node's ovn-controller once its chassis is annotated."""
        for server in (NORTHBOUND_SERVER, SOUTHBOUND_SERVER):
            yield from events(world, node, server, "DatabaseNotWorking")
        yield from events(world, node, NORTHD, "NorthdNotWorking")
        if node == self.scope.node or chassis_of(world, node):
            yield from controller_events(world, node)
