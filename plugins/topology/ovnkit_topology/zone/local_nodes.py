"""Role zone: the switch of each node of the zone, and its ports on the cluster router and transit switch."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.identity import object_ids
from ovnkit.api.items import Ref, Row, Slot
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network import names, rows
from ovnkit.network.acls import acl
from ovnkit.network.node import gateway_address, management_address, port_mac, zone_nodes
from ovnkit_topology.facts import Layout, NodeFacts, node_facts

ARP_PROXY_MAC = "0a:58:a9:fe:01:01"
"""MAC of 169.254.1.1, the gateway every virtual machine sees wherever it runs."""

ALLOW_PRIORITY = 1001
"""Priority of the ACL that lets a node reach its own pods, whatever policies say."""


@frozen
class LocalNodes:
    """The renderer of the rows of the zone's own nodes."""

    config: Config
    scope: Scope
    layout: Layout

    def renderers(self) -> Iterable[Renderer]:
        """One render per node of the zone."""
        yield Renderer("node", Role.ZONE, self.render, each=self.nodes, subject=NODES)

    def nodes(self, world: World) -> Iterable[str]:
        """The zone's nodes that get a subnet."""
        return zone_nodes(world, self.scope, self.config)

    def render(self, world: World, node: str) -> Iterable[Row]:
        """Switch, router port, transit port."""
        facts = node_facts(world, node, self.layout)
        yield self._switch(node, facts)
        yield self._switch_port(node)
        yield self._router_port(node, facts)
        if facts.chassis:
            yield _gateway_chassis(node, facts.chassis)
        for network in facts.subnets:
            yield self._allow(node, network.version, str(management_address(network).ip))
        if facts.transit:
            yield from _transit_ports(node, facts)

    def _switch(self, node: str, facts: NodeFacts) -> Row:
        other_config = {}
        for network in facts.subnets:
            if network.version == 4:
                other_config["subnet"] = str(network)
            else:
                other_config["ipv6_prefix"] = str(network.network_address)
        return Row(
            "Logical_Switch",
            rows.node_switch(node).name,
            {
                "name": node,
                "other_config": other_config,
                "load_balancer_group": frozenset(
                    {Ref.to(rows.cluster_lb_group()), Ref.to(rows.switch_lb_group())}
                ),
            },
        )

    def _switch_port(self, node: str) -> Row:
        networks = " ".join(str(subnet.network) for subnet in self.config.default.cluster_subnets)
        return Row(
            "Logical_Switch_Port",
            rows.node_switch_port(node).name,
            {
                "name": names.switch_to_router(node),
                "type": "router",
                "addresses": frozenset({"router"}),
                "options": {
                    "router-port": names.router_to_switch(node),
                    "arp_proxy": f"{ARP_PROXY_MAC} 169.254.1.1 fe80::1 {networks}",
                },
            },
            parent=Slot("Logical_Switch", rows.node_switch(node), "ports"),
        )

    def _router_port(self, node: str, facts: NodeFacts) -> Row:
        addresses = [gateway_address(network) for network in facts.subnets]
        return Row(
            "Logical_Router_Port",
            rows.node_router_port(node).name,
            {
                "name": names.router_to_switch(node),
                "networks": frozenset(str(address) for address in addresses),
                "mac": port_mac(addresses),
                "options": {"gateway_mtu": str(self.config.default.mtu)} if facts.gateway_mtu else {},
            },
            parent=Slot("Logical_Router", rows.cluster_router(), "ports"),
        )

    def _allow(self, node: str, family: int, address: str) -> Row:
        return acl(
            f"allow-v{family}",
            Slot("Logical_Switch", rows.node_switch(node), "acls"),
            "to-lport",
            ALLOW_PRIORITY,
            "allow-related",
            f"ip{family}.src=={address}",
            object_ids("NetpolNode", ("k8s.ovn.org/name", node), ("ip", address)),
        )


def _gateway_chassis(node: str, chassis: str) -> Row:
    """Pins the switch's traffic into the router to the node."""
    return Row(
        "Gateway_Chassis",
        "gateway-chassis",
        {"name": f"{names.router_to_switch(node)}-{chassis}", "chassis_name": chassis, "priority": 1},
        parent=Slot("Logical_Router_Port", rows.node_router_port(node), "gateway_chassis"),
    )


def _transit_ports(node: str, facts: NodeFacts) -> Iterable[Row]:
    yield Row(
        "Logical_Router_Port",
        "transit-router-port",
        {
            "name": names.router_to_transit(node),
            "networks": frozenset(str(address) for address in facts.transit),
            "mac": port_mac(facts.transit),
            "options": {"mcast_flood": "true"},
        },
        parent=Slot("Logical_Router", rows.cluster_router(), "ports"),
    )
    yield Row(
        "Logical_Switch_Port",
        "transit-switch-port",
        {
            "name": names.transit_to_router(node),
            "type": "router",
            "addresses": frozenset({"router"}),
            "options": {"router-port": names.router_to_transit(node), "requested-tnl-key": str(facts.number)},
            "external_ids": {"node": node},
        },
        parent=Slot("Logical_Switch", rows.transit_switch(), "ports"),
    )
