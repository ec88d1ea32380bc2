"""What load balancers of idled services tell becomes an Event on the service."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.items import Absent, Event
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.services import SERVICES
from ovnkit_services.idling import BALANCERS, EMPTY_BALANCERS


def renderers() -> Iterable[Renderer]:
    """One render for each message of a load balancer."""
    yield Renderer("empty-balancers", Role.ZONE, need_pods, each=EMPTY_BALANCERS)


def need_pods(world: World, uuid: str) -> Iterable[Event | Absent]:
    """Pass on what a load balancer of ours told, and take the message away."""
    told = world.get(EMPTY_BALANCERS, uuid)
    balancer = world.get(BALANCERS, told.balancer) if told is not None else None
    if balancer is not None and not balancer.service:
        return
    yield Absent("Controller_Event", uuid, db="sb")
    service = world.get(SERVICES, balancer.service) if balancer is not None else None
    if service is not None:
        message = f"The service {service.name} needs pods"
        yield Event(SERVICES, service.key, "NeedPods", message, warning=False, again=True)
