"""Role cluster: Events on services and slices that ask for what they can't have, and when idling ended.

Said once, not by each zone.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.items import NOW, Annotation, Event
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.services import ENDPOINT_SLICES, SERVICES
from ovnkit_services.endpoints import faults
from ovnkit_services.frontends import frontends, source_ranges
from ovnkit_services.idling import SEEN, UNIDLED, is_idled
from ovnkit_services.layout import Layout

SHOWN = 5
"""Faults named in one message."""


@frozen
class ClusterServices:
    """The renderers of the cluster role."""

    layout: Layout

    def renderers(self) -> Iterable[Renderer]:
        """One render per service and per slice for Events, one per service for idling."""
        yield Renderer("service-events", Role.CLUSTER, self.service, each=SERVICES)
        yield Renderer("slice-events", Role.CLUSTER, self.slice, each=ENDPOINT_SLICES)
        if self.layout.empty_lb_events:
            yield Renderer("idling", Role.CLUSTER, remember_idling, each=SERVICES)

    def service(self, world: World, key: str) -> Iterable[Event]:
        """What is wrong with a service."""
        service = world.get(SERVICES, key)
        if service is None:
            return
        _, complaints = frontends(world, service, self.layout)
        _, more = source_ranges(service)
        for complaint in (*complaints, *more):
            yield Event(SERVICES, key, complaint.reason, complaint.message)

    def slice(self, world: World, key: str) -> Iterable[Event]:
        """What is wrong with the endpoints of a slice."""
        found = world.get(ENDPOINT_SLICES, key)
        wrong = faults(found) if found is not None and found.service else []
        if wrong:
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            yield Event(ENDPOINT_SLICES, key, "InvalidEndpoint", "; ".join(wrong[:SHOWN]) + more)


def remember_idling(world: World, key: str) -> Iterable[Annotation]:
    """Since when a service is no longer idled."""
    service = world.get(SERVICES, key)
    if service is None:
        return
    if is_idled(service):
        yield Annotation(SERVICES, key, SEEN, "true")
        yield Annotation(SERVICES, key, UNIDLED, None)
    elif SEEN in service.annotations:
        yield Annotation(SERVICES, key, SEEN, None)
        yield Annotation(SERVICES, key, UNIDLED, NOW)
    elif UNIDLED in service.annotations:
        yield Annotation(SERVICES, key, UNIDLED, service.annotations[UNIDLED])
