"""Role zone: the gateway router of each local node, its external switch, routes and address translation."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.identity import RowId
from ovnkit.api.items import Ref, Row, Slot, Value
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import Interface, Network, host_network, parse_network, print_json
from ovnkit.api.world import World, derived
from ovnkit.network import names, rows
from ovnkit.network.gateway import L3Gateway, l3_gateway
from ovnkit.network.masquerade import Masquerade, masquerade_address
from ovnkit.network.node import (
    chassis_id,
    cluster_router_join_address,
    gateway_mtu_supported,
    gateway_router_join_address,
    host_cidrs,
    management_address,
    node_id,
    node_subnets,
    port_mac,
)

LOCAL_PHYSICAL_NETWORK = "physnet"
MANAGEMENT_POLICY_PRIORITY = 1004
"""Priority of the policies that send traffic for a node's own addresses to its management port."""


@frozen
class Gateway:
    """What the rows of a node's gateway are made of."""

    node: str
    config: L3Gateway
    chassis: str
    join: tuple[Interface, ...]
    subnets: tuple[Network, ...]
    hosts: tuple[Interface, ...]
    mtu: int

    def external(self, family: int) -> Interface | None:
        """The gateway router's outside address of a family."""
        return next((address for address in self.config.addresses if address.version == family), None)

    def inside(self, family: int) -> Interface:
        """The gateway router's address of a family on the join switch."""
        return next(address for address in self.join if address.version == family)


@derived
def gateway(world: World, node: str, config: Config) -> Gateway | None:
    """The gateway of a node, None while something it needs is not known."""
    found, chassis, number = l3_gateway(world, node), chassis_id(world, node), node_id(world, node)
    subnets = node_subnets(world, node)
    if found is None or chassis is None or number is None or subnets is None:
        return None
    return Gateway(
        node=node,
        config=found,
        chassis=chassis,
        join=tuple(gateway_router_join_address(config.join_subnet(family), number) for family in config.families),
        subnets=subnets,
        hosts=host_cidrs(world, node) or (),
        mtu=config.default.mtu if gateway_mtu_supported(world, node) else 0,
    )


@frozen
class GatewayRouters:
    """The renderer of the zone's gateway routers."""

    config: Config
    scope: Scope
    ports: str = ""
    """Ports of translations, `low-high`; empty: any."""

    def renderers(self) -> Iterable[Renderer]:
        """One render per local node."""
        yield Renderer("node", Role.ZONE, self.render, each=self.nodes, subject=NODES)

    def nodes(self, world: World) -> Iterable[str]:
        """Nodes of this zone."""
        return [name for name in world.keys(NODES) if self.scope.is_local(name)]

    def render(self, world: World, node: str) -> Iterable[Row]:
        """Everything of one node's gateway."""
        found = gateway(world, node, self.config)
        if found is None:
            return
        yield self._router(found)
        yield from _join_ports(found)
        yield from _external_ports(found)
        yield from self._router_routes(found)
        yield from self._translations(found)
        yield from self._cluster_routes(found)
        yield from self._policies(found)

    def _router(self, found: Gateway) -> Row:
        groups = {Ref.to(rows.cluster_lb_group())}
        if found.config.node_port:
            groups.add(Ref.to(rows.router_lb_group()))
        addresses = [str(address.ip) for address in found.config.addresses]
        return Row(
            "Logical_Router",
            rows.gateway_router(found.node).name,
            {
                "name": names.gateway_router(found.node),
                "options": {
                    "chassis": found.chassis,
                    "always_learn_from_arp_request": "false",
                    "dynamic_neigh_routers": "false",
                    "lb_force_snat_ip": "router_ip",
                    "mac_binding_age_threshold": "300",
                    "snat-ct-zone": "0",
                },
                "load_balancer_group": frozenset(groups),
                "copp": Ref.to(rows.copp()),
                "external_ids": {"physical_ip": addresses[0], "physical_ips": ",".join(addresses)},
            },
        )

    # -- routes ---------------------------------------------------------------------------------------------

    def _router_routes(self, found: Gateway) -> Iterable[Row]:
        slot = Slot("Logical_Router", rows.gateway_router(found.node), "static_routes")
        outside = names.router_to_external(names.gateway_router(found.node))
        for number, subnet in enumerate(self.config.default.cluster_subnets):
            family = subnet.network.version
            hop = cluster_router_join_address(self.config.join_subnet(family))
            yield _route(slot, f"route-cluster-{number}", subnet.network, str(hop.ip))
        for version in self.config.families:
            masquerade = self.config.masquerade_subnet(version)
            hop = masquerade_address(masquerade, Masquerade.NEXT_HOP)
            yield _route(
                slot,
                f"route-masquerade-v{version}",
                masquerade,
                str(hop.ip),
                output_port=outside,
                external_ids={"k8s.ovn.org/node-masquerade-subnet": ""},
            )
            yield Row(
                "Static_MAC_Binding",
                f"dummy-next-hop-v{version}",
                {
                    "logical_port": outside,
                    "ip": str(hop.ip),
                    "mac": port_mac([hop]),
                    "override_dynamic_mac": True,
                },
            )
        for hop_address in found.config.next_hops:
            everywhere = parse_network("0.0.0.0/0" if hop_address.version == 4 else "::/0")
            name = f"route-default-{hop_address}"
            yield _route(slot, name, everywhere, str(hop_address), output_port=outside)

    def _cluster_routes(self, found: Gateway) -> Iterable[Row]:
        """Routes on the cluster router: to the gateway router, and out for what comes from this node's pods."""
        slot = Slot("Logical_Router", rows.cluster_router(), "static_routes")
        for address in found.join:
            name = f"route-join-v{address.version}"
            yield _route(slot, name, host_network(address.ip), str(address.ip))
        for subnet in found.subnets:
            shared = found.config.mode == "shared"
            hop = found.inside(subnet.version) if shared else management_address(subnet)
            yield _route(slot, f"route-out-v{subnet.version}", subnet, str(hop.ip), policy="src-ip")

    def _policies(self, found: Gateway) -> Iterable[Row]:
        """What goes to the node's own addresses is handed to the node, not to the outside."""
        addresses = {address.ip for address in found.config.addresses}
        if found.config.mode == "shared":
            addresses |= {address.ip for address in found.hosts}
        for address in sorted(addresses, key=lambda item: (item.version, item)):
            subnet = next((item for item in found.subnets if item.version == address.version), None)
            if subnet is None:
                continue
            yield Row(
                "Logical_Router_Policy",
                f"policy-{address}",
                {
                    "priority": MANAGEMENT_POLICY_PRIORITY,
                    "match": f"inport == {print_json(names.router_to_switch(found.node))} "
                    f"&& ip{address.version}.dst == {address} /* {found.node} */",
                    "action": "reroute",
                    "nexthops": frozenset({str(management_address(subnet).ip)}),
                },
                parent=Slot("Logical_Router", rows.cluster_router(), "policies"),
            )

    # -- address translation ----------------------------------------------------------------------------------

    def _translations(self, found: Gateway) -> Iterable[Row]:
        for family in self.config.families:
            outside = found.external(family)
            if outside is None:
                continue
            inside = found.inside(family)
            yield self.snat(found.node, f"snat-join-v{family}", str(inside.ip), str(outside.ip))
            if self.config.gateway.disable_snat_multiple_gws:
                continue
            for number, subnet in enumerate(self.config.default.cluster_subnets):
                if subnet.network.version == family:
                    yield self.snat(found.node, f"snat-cluster-{number}", str(subnet.network), str(outside.ip))

    def snat(self, node: str, name: str, inside: str, outside: str) -> Row:
        """A source translation on a node's gateway router."""
        return Row(
            "NAT",
            name,
            {
                "type": "snat",
                "logical_ip": inside,
                "external_ip": outside,
                "options": {"stateless": "false"},
                "external_port_range": self.ports,
            },
            parent=Slot("Logical_Router", rows.gateway_router(node), "nat"),
        )


def _route(
    slot: Slot,
    name: str,
    prefix: Network,
    hop: str,
    *,
    output_port: str | None = None,
    policy: str | None = None,
    external_ids: dict[str, str] | None = None,
) -> Row:
    columns: dict[str, Value] = {
        "ip_prefix": str(prefix) if prefix.prefixlen < prefix.max_prefixlen else str(prefix.network_address),
        "nexthop": hop,
        "output_port": output_port,
        "policy": policy,
    }
    if external_ids is not None:
        columns["external_ids"] = external_ids
    return Row("Logical_Router_Static_Route", name, columns, parent=slot)


def _join_ports(found: Gateway) -> Iterable[Row]:
    yield Row(
        "Logical_Router_Port",
        "join-router-port",
        {
            "name": names.router_to_join(names.gateway_router(found.node)),
            "networks": frozenset(map(str, found.join)),
            "mac": port_mac(found.join),
            "options": {"gateway_mtu": str(found.mtu)} if found.mtu else {},
        },
        parent=Slot("Logical_Router", rows.gateway_router(found.node), "ports"),
    )
    yield Row(
        "Logical_Switch_Port",
        "join-switch-port",
        {
            "name": names.join_to_router(names.gateway_router(found.node)),
            "type": "router",
            "addresses": frozenset({"router"}),
            "options": {"router-port": names.router_to_join(names.gateway_router(found.node))},
        },
        parent=Slot("Logical_Switch", rows.join_switch(), "ports"),
    )


def _external_ports(found: Gateway) -> Iterable[Row]:
    switch = RowId("gateway", "node", found.node, "external-switch")
    yield Row("Logical_Switch", switch.name, {"name": names.external_switch(found.node)})
    yield Row(
        "Logical_Router_Port",
        "external-router-port",
        {
            "name": names.router_to_external(names.gateway_router(found.node)),
            "networks": frozenset(map(str, found.config.addresses)),
            "mac": found.config.mac,
            "external_ids": {"gateway-physical-ip": "yes"},
        },
        parent=Slot("Logical_Router", rows.gateway_router(found.node), "ports"),
    )
    yield Row(
        "Logical_Switch_Port",
        "localnet-port",
        {
            "name": found.config.interface,
            "type": "localnet",
            "addresses": frozenset({"unknown"}),
            "options": {"network_name": LOCAL_PHYSICAL_NETWORK},
            "tag_request": found.config.vlan or None,
        },
        parent=Slot("Logical_Switch", switch, "ports"),
    )
    yield Row(
        "Logical_Switch_Port",
        "external-switch-port",
        {
            "name": names.external_to_router(names.gateway_router(found.node)),
            "type": "router",
            "addresses": frozenset({found.config.mac}),
            "options": {
                "router-port": names.router_to_external(names.gateway_router(found.node)),
                "nat-addresses": "router",
                "exclude-lb-vips-from-garp": "true",
            },
        },
        parent=Slot("Logical_Switch", switch, "ports"),
    )
