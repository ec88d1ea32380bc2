"""Role zone: with `disable-snat-multiple-gws` each pod has a source translation of its own.

So a pod that leaves by another gateway (an egress address, an external gateway) can go without one.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.items import Row
from ovnkit.api.models import PODS
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.pod import ANNOTATION, parse
from ovnkit.network.pod_addresses import has_own_network
from ovnkit_gateway.zone.routers import GatewayRouters, gateway


@frozen
class PodTranslations:
    """The renderer of pods' own translations."""

    routers: GatewayRouters

    def renderers(self) -> Iterable[Renderer]:
        """One render per pod of a local node."""
        yield Renderer("pod-snat", Role.ZONE, self.render, each=self.pods, subject=PODS)

    def pods(self, world: World) -> Iterable[str]:
        """Pods on nodes of this zone."""
        return [key for node in self.routers.nodes(world) for key in world.keys(PODS, "node", node)]

    def render(self, world: World, key: str) -> Iterable[Row]:
        """The translations of a pod: its address to the node's, per family. None once it is completed."""
        pod = world.get(PODS, key)
        if pod is None or not has_own_network(pod):
            return
        network = parse(pod.annotations.get(ANNOTATION))
        found = gateway(world, pod.node, self.routers.config)
        if network is None or found is None:
            return
        for address in network.ip_addresses:
            outside = found.external(address.version)
            if outside is not None:
                name = f"snat-v{address.version}"
                yield self.routers.snat(pod.node, name, str(address.ip), str(outside.ip))
