"""What the watch over OVN's daemons finds, as Events on the nodes concerned."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Scope
from ovnkit.api.items import Ask, Event
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.node import chassis_id
from ovnkit.network.ovn_daemons import NORTHBOUND_SERVER, NORTHD, OVN_DAEMONS, SOUTHBOUND_SERVER, controller


@frozen
class Daemons:
    """The renderers of the zone and the node role; a process with both has the zone's."""

    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """One render for each node of the zone, or for this node."""
        if Role.ZONE in self.scope.roles:
            yield Renderer("daemons", Role.ZONE, self.zone, each=self.nodes, subject=NODES)
        else:
            yield Renderer("daemons", Role.NODE, self.node, each=self.own, subject=NODES)

    def nodes(self, world: World) -> Iterable[str]:
        """The zone's nodes."""
        return [name for name in world.keys(NODES) if self.scope.is_local(name)]

    def own(self, world: World) -> Iterable[str]:
        """This node, once it is registered."""
        return (self.scope.node,) if self.scope.node in world.keys(NODES) else ()

    def zone(self, world: World, node: str) -> Iterable[Ask | Event]:
        """The zone's databases and northd, and the node's ovn-controller once its chassis is annotated."""
        for server in (NORTHBOUND_SERVER, SOUTHBOUND_SERVER):
            yield from _told(world, node, server, "DatabaseNotWorking")
        yield from _told(world, node, NORTHD, "NorthdNotWorking")
        try:
            registered = chassis_id(world, node)
        except Reject:  # told by those who write the annotation
            registered = None
        if registered or node == self.scope.node:
            yield from self.node(world, node)

    def node(self, world: World, node: str) -> Iterable[Ask | Event]:
        """The node's ovn-controller."""
        yield from _told(world, node, controller(node), "OvnControllerNotWorking")


def _told(world: World, node: str, key: str, reason: str) -> Iterable[Ask | Event]:
    yield Ask(OVN_DAEMONS, key)
    found = world.get(OVN_DAEMONS, key)
    if found is not None and found.problem:
        yield Event(NODES, node, reason, found.problem)
