"""The node's end: the internal port `ovn-k8s-mp0` of br-int, and what the kernel needs to use it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import Retry
from ovnkit.api.flows import INTEGRATION_BRIDGE
from ovnkit.api.host import Link, LinkAddress, Neighbour, Route, Sysctl
from ovnkit.api.identity import RowId
from ovnkit.api.items import Lookup, Row, Slot
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import Network
from ovnkit.api.world import World
from ovnkit.network import names
from ovnkit.network.masquerade import Masquerade, masquerade_address
from ovnkit.network.names import MANAGEMENT_LINK
from ovnkit.network.node import gateway_address, host_subnets, management_address, port_mac
from ovnkit_management_port.nft import snat_items


@frozen
class NodeEnd:
    """Renders the items of one node."""

    config: Config
    node: str

    def renderers(self) -> Iterator[Renderer]:
        """The port, and apart from it, as it reads one annotation more, its source address translation."""
        yield Renderer("node", Role.NODE, self.render, each=lambda _world: (self.node,), subject=NODES)
        yield Renderer("snat", Role.NODE, self.render_snat, each=lambda _world: (self.node,), subject=NODES)

    def render_snat(self, world: World, node: str) -> Iterable[Any]:
        """nftables items."""
        return snat_items(world, node, MANAGEMENT_LINK, self._subnets(world, node))

    def render(self, world: World, node: str) -> Iterable[Any]:
        """Port, link, addresses, routes, neighbours, sysctls."""
        subnets = self._subnets(world, node)
        mac = port_mac([management_address(subnet) for subnet in subnets])
        yield from self._rows(node, mac)
        yield Link(MANAGEMENT_LINK, mac, self.config.default.mtu)
        for subnet in subnets:
            yield from self._family(subnet, port_mac([gateway_address(each) for each in subnets]))

    def _subnets(self, world: World, node: str) -> tuple[Network, ...]:
        subnets = host_subnets(world, node, self.config.default.cluster_subnets)
        if not subnets:
            raise Retry(f"node {node} has no subnet yet")
        return subnets

    def _rows(self, node: str, mac: str) -> Iterable[Row]:
        port = RowId("management_port", "node", node, "port")
        bridge = Slot("Bridge", Lookup("Bridge", "name", INTEGRATION_BRIDGE), "ports")
        yield Row("Port", port.name, {"name": MANAGEMENT_LINK}, parent=bridge, db="ovs")
        yield Row(
            "Interface",
            "interface",
            {
                "name": MANAGEMENT_LINK,
                "type": "internal",
                "mac": mac,
                "mtu_request": self.config.default.mtu,
                "external_ids": {"iface-id": names.management_port(node)},
            },
            parent=Slot("Port", port, "interfaces"),
            db="ovs",
        )

    def _family(self, subnet: Network, router_mac: str) -> Iterable[Any]:
        version = subnet.version
        router = gateway_address(subnet).ip
        family = f"ipv{version}"
        yield LinkAddress(MANAGEMENT_LINK, management_address(subnet))
        yield Neighbour(MANAGEMENT_LINK, router, router_mac)
        for cluster in self.config.default.cluster_subnets:
            if cluster.network.version == version:
                yield Route(cluster.network, MANAGEMENT_LINK, router, mtu=self.config.default.routable_mtu)
        etp = type(subnet)(masquerade_address(self.config.masquerade_subnet(version), Masquerade.ETP_LOCAL).ip)
        yield Route(etp, MANAGEMENT_LINK, router)
        yield Sysctl(("net", family, "conf", MANAGEMENT_LINK, "forwarding"), "1")
        if version == 4:
            # Packets of pods arrive here, and the way back may be another interface.
            yield Sysctl(("net", family, "conf", MANAGEMENT_LINK, "rp_filter"), "2")
