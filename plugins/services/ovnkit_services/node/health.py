"""Role node: `healthCheckNodePort`, by which a load balancer outside learns which nodes have endpoints."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.host import HttpAnswer
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import print_json
from ovnkit.api.world import World, derived
from ovnkit.network.services import SERVICES
from ovnkit_services.endpoints import service_endpoints
from ovnkit_services.layout import Layout


@derived
def ready_here(world: World, service: str, node: str, layout: Layout) -> int:
    """How many ready endpoints of a service a node has; one with addresses of both families counts once."""
    found: dict[int, set[str]] = {}
    for (_, family), targets in service_endpoints(world, service, layout.cluster).items():
        here = (target.address for target in targets.known if target.node == node and target.ready)
        found.setdefault(family, set()).update(here)
    return max(map(len, found.values()), default=0)


@frozen
class HealthChecks:
    """The renderer of health checks on one node."""

    node: str
    layout: Layout

    def renderers(self) -> Iterable[Renderer]:
        """One render per service."""
        yield Renderer("service-health", Role.NODE, self.render, each=SERVICES)

    def render(self, world: World, key: str) -> Iterable[HttpAnswer]:
        """The answer for a service, as kube-proxy gives it: 200 with endpoints on this node, else 503."""
        service = world.get(SERVICES, key)
        if service is None or service.type != "LoadBalancer" or not service.external_local:
            return
        if not service.health_check_node_port:
            return
        count = ready_here(world, key, self.node, self.layout)
        body = {
            "service": {"namespace": service.namespace, "name": service.name},
            "localEndpoints": count,
            "serviceProxyHealthy": True,
        }
        headers = (("X-Content-Type-Options", "nosniff"), ("X-Load-Balancing-Endpoint-Weight", str(count)))
        status = 200 if count else 503
        yield HttpAnswer(service.health_check_node_port, status, print_json(body), headers=headers)
