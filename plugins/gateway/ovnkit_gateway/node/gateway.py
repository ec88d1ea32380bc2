"""Role node: the gateway's annotation, the mapping of the bridge, its flows, and the kernel's way to services."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.flows import Flow
from ovnkit.api.hooks import Scope
from ovnkit.api.host import LinkAddress, Neighbour, Route, Rule, Sysctl
from ovnkit.api.items import Annotation, Event, Item, Lookup, Member, Slot
from ovnkit.api.kinds import Kind, Raw, Table
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import Address, Network, host_network
from ovnkit.api.world import World, derived
from ovnkit.network.bridges import bridge_of_port
from ovnkit.network.gateway import L3_GATEWAY, L3Gateway
from ovnkit.network.masquerade import Masquerade, masquerade_address
from ovnkit.network.names import MANAGEMENT_LINK
from ovnkit.network.node import (
    GATEWAY_MTU_SUPPORT,
    gateway_address,
    gateway_mtu_supported,
    host_cidrs,
    node_subnets,
    port_mac,
    primary_addresses,
)
from ovnkit_gateway.detect import found_routes
from ovnkit_gateway.facts import NodeGateway, default_routes, node_gateway
from ovnkit_gateway.flows import BridgeFacts, FamilyFacts, StandingFlows
from ovnkit_gateway.nft import local_mode_items
from ovnkit_gateway.zone.routers import LOCAL_PHYSICAL_NETWORK

SERVICE_MARK = 0x1745EC
"""Firewall mark of the node's packets for services whose internalTrafficPolicy is Local."""

SERVICE_TABLE = 7
SERVICE_RULE_PRIORITY = 30
ADVERTISED = 9
"""Protocol number of routes from router advertisements (RTPROT_RA)."""


@frozen
class Mappings:
    """The Open_vSwitch row: `ovn-bridge-mappings` (physical network to bridge), and whether it offloads flows."""

    row: str
    mappings: tuple[tuple[str, str], ...]
    hw_offload: bool = False

    @property
    def key(self) -> str:
        """UUID of the one row."""
        return self.row


def _mappings(raw: Raw) -> Mappings:
    text = raw["external_ids"].get("ovn-bridge-mappings", "")
    pairs = (entry.partition(":")[::2] for entry in text.split(",") if ":" in entry)
    return Mappings(raw["_uuid"], tuple(pairs), raw["other_config"].get("hw-offload") == "true")


MAPPINGS: Kind[Mappings] = Kind(
    "ovs-mappings", Table("ovs", "Open_vSwitch", ("external_ids", "other_config")), _mappings
)


@derived
def other_nodes(world: World, node: str, family: int) -> tuple[Address, ...]:
    """Addresses of a family of the other nodes, sorted."""
    found: set[Address] = set()
    for other in world.keys(NODES):
        if other != node:
            found |= {item.ip for item in primary_addresses(world, other) or () if item.version == family}
    return tuple(sorted(found))


@frozen
class NodeGateways:
    """The renderers of the node role. `chosen` is the interface found at start where none is configured."""

    config: Config
    scope: Scope
    chosen: str = ""

    def renderers(self) -> Iterable[Renderer]:
        """All of one node: its own."""
        yield Renderer("annotation", Role.NODE, self.annotation, each=self.node, subject=NODES)
        yield Renderer("bridge", Role.NODE, self.bridge, each=self.node, subject=NODES)
        yield Renderer("host", Role.NODE, self.host, each=self.node, subject=NODES)
        yield Renderer("flows", Role.NODE, self.flows, each=self.node, subject=NODES)
        if self.chosen and not self.config.gateway.interface:
            yield Renderer("default-routes", Role.NODE, self.default_routes, each=self.node, subject=NODES)

    def node(self, world: World) -> Iterable[str]:
        """This node, once it is registered."""
        return (self.scope.node,) if self.scope.node in world.keys(NODES) else ()

    def annotation(self, world: World, node: str) -> Iterable[Annotation]:
        """What the zone needs to build the gateway router, and whether routers may check sizes on this node."""
        offloads = any(row.hw_offload for row in world.list(MAPPINGS))
        unchecked = self.config.gateway.disable_pkt_mtu_check or offloads
        yield Annotation(NODES, node, GATEWAY_MTU_SUPPORT, "false" if unchecked else None)
        found = node_gateway(world, node, self.config, self.chosen)
        gateway = L3Gateway(
            mode=self.config.gateway.mode,
            bridge=found.bridge.name,
            interface=f"{found.bridge.name}_{node}",
            mac=found.mac,
            addresses=found.addresses,
            next_hops=found.next_hops,
            node_port=self.config.gateway.nodeport,
            vlan=self.config.gateway.vlan_id,
        )
        yield Annotation(NODES, node, L3_GATEWAY, gateway.encode())

    def default_routes(self, world: World, node: str) -> Iterable[Event]:
        """An Event when default routes lead elsewhere than the gateway, which stays where it is."""
        gateway = bridge_of_port(world, self.chosen) or self.chosen
        others = [
            route
            for route in found_routes(default_routes(world), self.config.families)
            if (bridge_of_port(world, route.link) or route.link) != gateway
        ]
        if others:
            ways = " and ".join(f"{route.link} via {route.via}" for route in others)
            message = (
                f"the default route leads through {ways} now; gateway and pods' way out stay on {gateway}; "
                "to move them, set [gateway] interface"
            )
            yield Event(NODES, node, "DefaultRouteChanged", message)

    def bridge(self, world: World, node: str) -> Iterable[Member]:
        """Tells ovn-controller which bridge the physical network is; mappings of others stay."""
        found = node_gateway(world, node, self.config, self.chosen)
        foreign = {
            name: bridge
            for row in world.list(MAPPINGS)
            for name, bridge in row.mappings
            if name != LOCAL_PHYSICAL_NETWORK
        }
        pairs = {LOCAL_PHYSICAL_NETWORK: found.bridge.name, **foreign}
        text = ",".join(f"{name}:{bridge}" for name, bridge in pairs.items())
        slot = Slot("Open_vSwitch", Lookup("Open_vSwitch"), "external_ids")
        yield Member(slot, text, key="ovn-bridge-mappings", db="ovs")

    # -- the kernel -------------------------------------------------------------------------------------------

    def host(self, world: World, node: str) -> Iterable[Item]:
        """Addresses, routes and neighbours by which the node's own processes reach services through OVN."""
        found = node_gateway(world, node, self.config, self.chosen)
        bridge = found.bridge.name
        yield Sysctl(("net", "ipv4", "conf", bridge, "forwarding"), "1")
        if 6 in self.config.families:
            routes = [route for route in default_routes(world) if route.destination.version == 6]
            ways = {route.protocol for route in routes for hop in route.hops if hop.link == bridge}
            if ways <= {ADVERTISED}:
                # a bridge that is made once forwarding is on would hear no router
                yield Sysctl(("net", "ipv6", "conf", bridge, "accept_ra"), "2", only_from="1")
            yield Sysctl(("net", "ipv6", "conf", "all", "forwarding"), "1")
        for family in self.config.families:
            own = found.address(family)
            if own is not None:
                yield from self._family(bridge, family, own.ip)
        yield from self._marked(world, node)
        if self.config.gateway.mode == "local":
            yield from local_mode_items(bridge, self._all_families(world, node, found))

    def _family(self, bridge: str, family: int, own: Address) -> Iterable[Item]:
        masquerade = self.config.masquerade_subnet(family)
        source = masquerade_address(masquerade, Masquerade.HOST)
        yield LinkAddress(bridge, source, deprecated=family == 6)
        to_ovn = masquerade_address(masquerade, Masquerade.OVN)
        hop = masquerade_address(masquerade, Masquerade.NEXT_HOP)
        yield Route(host_network(to_ovn.ip), bridge, source=own)
        for neighbour in (to_ovn, hop):
            yield Neighbour(bridge, neighbour.ip, port_mac([neighbour]))
        mtu = self.config.default.routable_mtu or self.config.default.mtu
        for services in self._services(family):
            yield Route(services, bridge, via=hop.ip, source=source.ip, mtu=mtu)

    def _marked(self, world: World, node: str) -> Iterable[Item]:
        """Marked packets for services go to OVN by the management port, where only local endpoints answer."""
        for subnet in node_subnets(world, node) or ():
            family = subnet.version
            yield Rule(family, SERVICE_RULE_PRIORITY, SERVICE_TABLE, fwmark=SERVICE_MARK)
            for services in self._services(family):
                hop = gateway_address(subnet).ip
                yield Route(services, MANAGEMENT_LINK, via=hop, table=SERVICE_TABLE)

    def _services(self, family: int) -> tuple[Network, ...]:
        return tuple(item for item in self.config.kubernetes.service_cidrs if item.version == family)

    # -- the bridge's flows -----------------------------------------------------------------------------------

    def flows(self, world: World, node: str) -> Iterable[Flow]:
        """The standing flows; none until both ports are there, so that the bridge goes on switching."""
        found = node_gateway(world, node, self.config, self.chosen)
        bridge = found.bridge
        if not bridge.patch_port or not (bridge.uplink_port or self.config.gateway.allow_no_uplink):
            return
        options = self.config.gateway
        facts = BridgeFacts(
            bridge=bridge.name,
            uplink=bridge.uplink_port,
            patch=bridge.patch_port,
            mac=found.mac,
            vlan=options.vlan_id,
            local_mode=options.mode == "local",
            check_size=gateway_mtu_supported(world, node),
            disable_snat=options.disable_snat_multiple_gws,
            mtu=self.config.default.mtu,
            encap_port=self.config.default.encap_port,
            zone=self.config.default.conntrack_zone,
            families=self._all_families(world, node, found),
        )
        yield from StandingFlows(facts).flows()

    def _all_families(self, world: World, node: str, found: NodeGateway) -> tuple[FamilyFacts, ...]:
        facts = (self._family_facts(world, node, found, family) for family in self.config.families)
        return tuple(item for item in facts if item is not None)

    def _family_facts(self, world: World, node: str, found: NodeGateway, family: int) -> FamilyFacts | None:
        own = found.address(family)
        if own is None:
            return None
        subnets = node_subnets(world, node) or ()
        everywhere = host_cidrs(world, node) or ()
        return FamilyFacts(
            node=own.ip,
            more=tuple(sorted(item.ip for item in everywhere if item.version == family and item.ip != own.ip)),
            masquerade=self.config.masquerade_subnet(family),
            services=self._services(family),
            node_subnet=next((item for item in subnets if item.version == family), None),
            other_nodes=other_nodes(world, node, family),
            host_networks=(own.network,),
        )
