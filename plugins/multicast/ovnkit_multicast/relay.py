"""Role zone: the switches learn their members and ask for them, and the cluster router relays between nodes."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.identity import link_local_from_mac
from ovnkit.api.items import Member, Ref, Slot
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network import rows
from ovnkit.network.node import gateway_address, host_subnets, is_unmanaged, port_mac


@frozen
class MulticastRelay:
    """The renderers of what the topology's rows get when multicast is on."""

    config: Config
    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """One render for the cluster router, and one per node of the zone."""
        yield Renderer("router", Role.ZONE, self.router)
        yield Renderer("node", Role.ZONE, self.node, each=self.nodes, subject=NODES)

    def nodes(self, world: World) -> Iterable[str]:
        """The zone's nodes that get a subnet."""
        unmanaged = self.config.kubernetes.no_hostsubnet_selector
        return [
            name
            for name in world.keys(NODES)
            if self.scope.is_local(name) and not is_unmanaged(world, name, unmanaged)
        ]

    def router(self, _world: World, _key: str) -> Iterable[Member]:
        """The cluster router forwards groups between the node switches and the transit switch."""
        yield Member(Slot("Logical_Router", rows.cluster_router(), "options"), "true", key="mcast_relay")

    def node(self, world: World, node: str) -> Iterable[Member]:
        """Snooping, and a querier that speaks as the node's gateway."""
        subnets = host_subnets(world, node, self.config.default.cluster_subnets)
        if subnets is None:
            return
        yield Member(
            Slot("Port_Group", rows.cluster_router_port_group(), "ports"), Ref.to(rows.node_switch_port(node))
        )
        gateways = [gateway_address(network) for network in subnets]
        mac = port_mac(gateways)
        options = {"mcast_snoop": "true", "mcast_querier": "true", "mcast_eth_src": mac}
        for gateway in gateways:
            if gateway.version == 4:
                options["mcast_ip4_src"] = str(gateway.ip)
            else:
                options["mcast_ip6_src"] = str(link_local_from_mac(mac))
        slot = Slot("Logical_Switch", rows.node_switch(node), "other_config")
        for key, value in options.items():
            yield Member(slot, value, key=key)
