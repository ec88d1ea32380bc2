"""Which interface leads outside: the one of the default routes, for every IP family of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import evolve, frozen

from ovnkit.api.errors import HostError
from ovnkit.api.host import Hop, RouteView
from ovnkit.api.text import Address

MAIN_TABLE = 254
ADVICE_MULTIPLE = (
    "give both IP families a default route through one interface, or name it with [gateway] interface"
)
ADVICE_NONE = "add a default route with a next hop for each IP family, or set [gateway] interface and next-hop"


def through_bridges(route: RouteView, bridge_of: Callable[[str], str | None]) -> RouteView:
    """A route through a bridge's port means the bridge: while addresses and routes move, some are still there."""
    return evolve(route, hops=tuple(Hop(bridge_of(hop.link) or hop.link, hop.via) for hop in route.hops))


@frozen
class DefaultRoute:
    """A usable default route of one family."""

    link: str
    via: Address

    def __str__(self) -> str:
        return f"Found default gateway interface {self.link} {self.via}"


@frozen
class Outside:
    """The interface that leads outside, and the next hops there (by family, IPv4 first)."""

    link: str
    next_hops: tuple[Address, ...]


def default_route(routes: Iterable[RouteView], family: int, link: str = "") -> DefaultRoute | None:
    """The best default route of a family: lowest metric, with a next hop; of `link` only when one is named."""
    usable = [
        route
        for route in routes
        if route.destination.version == family and route.destination.prefixlen == 0 and route.table == MAIN_TABLE
    ]
    for route in sorted(usable, key=lambda item: item.metric):
        if link and any(hop.link != link for hop in route.hops):
            continue
        for hop in route.hops:
            if hop.link and hop.via is not None:
                return DefaultRoute(hop.link, hop.via)
    return None


def found_routes(routes: Iterable[RouteView], families: Iterable[int], link: str = "") -> tuple[DefaultRoute, ...]:
    """The default route of each family that has one."""
    listed = tuple(routes)
    candidates = (default_route(listed, family, link) for family in families)
    return tuple(route for route in candidates if route is not None)


def outside(
    routes: Iterable[RouteView],
    families: tuple[int, ...],
    *,
    interface: str = "",
    next_hops: tuple[Address, ...] = (),
) -> Outside:
    """The interface that leads outside.

    A configured interface overrides the search, configured next hops those of the routes. Raises HostError,
    in the words operators know, when a family has no default route or the families disagree.
    """
    found = found_routes(routes, families, interface)
    hops = tuple(sorted({hop.version: hop for hop in (*(r.via for r in found), *next_hops)}.values(), key=_family))
    if interface:
        return Outside(interface, hops)
    links = list(dict.fromkeys(route.link for route in found))
    if len(links) > 1:
        raise HostError(f"multiple gateway interfaces detected: {' '.join(links)}", ADVICE_MULTIPLE)
    if len(found) < len(families):
        raise HostError("failed to get default gateway interface", ADVICE_NONE)
    return Outside(links[0], hops)


def _family(address: Address) -> int:
    return address.version
