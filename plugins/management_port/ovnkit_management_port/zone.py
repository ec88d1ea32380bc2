"""The logical end: the switch port `k8s-<node>`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.items import Member, Ref, Row, Slot
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network import names, rows
from ovnkit.network.node import host_subnets, management_address, port_mac


@frozen
class LogicalEnd:
    """Renders the ports of the zone's nodes. The ACL that lets the node in is the topology's, with the switch."""

    config: Config
    scope: Scope

    def renderers(self) -> Iterator[Renderer]:
        """One, for each node."""
        yield Renderer("zone", Role.ZONE, self.render, each=NODES)

    def render(self, world: World, node: str) -> Iterable[Any]:
        """Port and membership in the port group of management ports."""
        if not self.scope.is_local(node):
            return
        subnets = host_subnets(world, node, self.config.default.cluster_subnets)
        if not subnets:
            return
        addresses = [management_address(subnet) for subnet in subnets]
        port = rows.management_switch_port(node)
        yield Row(
            "Logical_Switch_Port",
            port.name,
            {
                "name": names.management_port(node),
                "addresses": frozenset({" ".join([port_mac(addresses), *(str(each.ip) for each in addresses)])}),
            },
            parent=Slot("Logical_Switch", rows.node_switch(node), "ports"),
        )
        yield Member(Slot("Port_Group", rows.cluster_port_group(), "ports"), Ref.to(port))
