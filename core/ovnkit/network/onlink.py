"""The network that an address of a node is in, as its kernel sees it."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface

from ovnkit.api.host import ROUTES, RouteView
from ovnkit.api.text import Interface
from ovnkit.api.world import World, derived

MAIN_TABLE = 254


@derived
def on_link_interface(world: World, link: str, address: Interface) -> Interface:
    """An address with the prefix length of its network.

    One that stands alone (/128 of DHCPv6, /32) is in the network of the smallest route of its link that needs no
    next hop, as a router advertises for it; without one it stays alone.
    """
    if address.network.prefixlen < address.max_prefixlen:
        return address
    lengths = [
        route.destination.prefixlen
        for route in world.list(ROUTES)
        if _is_on_link(route, link) and address.ip in route.destination
    ]
    lengths = [length for length in lengths if 0 < length < address.max_prefixlen]
    if not lengths:
        return address
    if isinstance(address, IPv4Interface):
        return IPv4Interface((address.ip, max(lengths)))
    return IPv6Interface((address.ip, max(lengths)))


def _is_on_link(route: RouteView, link: str) -> bool:
    return (
        route.table == MAIN_TABLE
        and bool(route.hops)
        and all(hop.link == link and hop.via is None for hop in route.hops)
    )
