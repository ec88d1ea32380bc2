"""Role zone, zones per node: how the pods of other zones are reached over the transit switch."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.identity import RowId
from ovnkit.api.items import Lookup, Member, Ref, Row, Slot, Value
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import Network, host_network
from ovnkit.api.world import World
from ovnkit.network import names, rows
from ovnkit.network.node import gateway_router_join_address, is_unmanaged, port_mac
from ovnkit_topology.facts import Layout, NodeFacts, node_facts
from ovnkit_topology.release import leaves_remote_ports_unbound

DEFAULT_ENCAP_PORT = 6081


@frozen
class RemoteNodes:
    """The renderer of the rows for the nodes of other zones."""

    config: Config
    scope: Scope
    layout: Layout

    def renderers(self) -> Iterable[Renderer]:
        """One render per node of another zone; none with one central zone."""
        if self.scope.per_node_zones:
            yield Renderer("remote", Role.ZONE, self.render, each=self.nodes, subject=NODES)

    def nodes(self, world: World) -> Iterable[str]:
        """Nodes of other zones that get a subnet."""
        return [
            name
            for name in world.keys(NODES)
            if not self.scope.is_local(name) and not is_unmanaged(world, name, self.layout.unmanaged)
        ]

    def render(self, world: World, node: str) -> Iterable[Row | Member]:
        """Transit port, routes, and the chassis to tunnel to."""
        facts = node_facts(world, node, self.layout)
        yield _port(node, facts)
        for network in facts.subnets:
            yield _route(node, f"route-subnet-v{network.version}", network, facts)
        if facts.number is not None:
            for family in self.config.families:
                gateway = gateway_router_join_address(self.config.join_subnet(family), facts.number)
                yield _route(node, f"route-gateway-v{family}", host_network(gateway.ip), facts)
        if facts.chassis and facts.encaps:
            yield from self._chassis(node, facts)
            if leaves_remote_ports_unbound(world):
                binding = Lookup("Port_Binding", "logical_port", names.transit_to_router(node))
                chassis = Ref.to(RowId("topology", "remote", node, "chassis"))
                yield Member(Slot("Port_Binding", binding, "chassis"), chassis, db="sb")

    def _chassis(self, node: str, facts: NodeFacts) -> Iterable[Row]:
        row = RowId("topology", "remote", node, "chassis")
        yield Row(
            "Chassis",
            row.name,
            {"name": facts.chassis, "hostname": node, "other_config": {"is-remote": "true"}},
            db="sb",
        )
        options = {"csum": "true"}
        if self.config.default.encap_port != DEFAULT_ENCAP_PORT:
            options["dst_port"] = str(self.config.default.encap_port)
        for address in facts.encaps:
            yield Row(
                "Encap",
                f"encap-{address}",
                {
                    "type": self.config.default.encap_type,
                    "ip": str(address),
                    "chassis_name": facts.chassis,
                    "options": options,
                },
                parent=Slot("Chassis", row, "encaps"),
                db="sb",
            )


def _port(node: str, facts: NodeFacts) -> Row:
    options = {"requested-tnl-key": str(facts.number)}
    if facts.chassis:
        options["requested-chassis"] = facts.chassis
    columns: dict[str, Value] = {
        "name": names.transit_to_router(node),
        "type": "remote",
        "addresses": frozenset({" ".join((port_mac(facts.transit), *map(str, facts.transit)))}),
        "options": options,
        "external_ids": {"node": node},
    }
    return Row(
        "Logical_Switch_Port",
        "port",
        columns,
        parent=Slot("Logical_Switch", rows.transit_switch(), "ports"),
    )


def _route(node: str, name: str, prefix: Network, facts: NodeFacts) -> Row:
    hop = next(address for address in facts.transit if address.version == prefix.version)
    return Row(
        "Logical_Router_Static_Route",
        name,
        {
            "ip_prefix": str(prefix),
            "nexthop": str(hop.ip),
            "external_ids": {"ic-node": node, "k8s.ovn.org/network": "default"},
        },
        parent=Slot("Logical_Router", rows.cluster_router(), "static_routes"),
    )
