"""What the watch over OVN's daemons finds, as Events on the nodes concerned."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.items import Ask, Event
from ovnkit.api.models import NODES
from ovnkit.api.world import World
from ovnkit.network.ovn_daemons import OVN_DAEMONS, controller


def events(world: World, node: str, daemon: str, reason: str) -> Iterable[Ask | Event]:
    """Ask for a daemon's state, and an Event on a node while it doesn't work."""
    yield Ask(OVN_DAEMONS, daemon)
    found = world.get(OVN_DAEMONS, daemon)
    if found is not None and found.problem:
        yield Event(NODES, node, reason, found.problem)


def controller_events(world: World, node: str) -> Iterable[Ask | Event]:
    """The same for a node's ovn-controller."""
    return events(world, node, controller(node), "OvnControllerNotWorking")
