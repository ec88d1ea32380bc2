"""Host items, and host facts: what should exist in the node's kernel, and what is there.

nftables items are in `ovnkit.api.nft`.
"""

from __future__ import annotations

from attrs import frozen

from ovnkit.api.kinds import HostFacts, Kind
from ovnkit.api.text import Address, Interface, Network

__all__ = [
    "ADDRESSES",
    "LINKS",
    "ROUTES",
    "AddressView",
    "Hop",
    "HostItem",
    "HttpAnswer",
    "Link",
    "LinkAddress",
    "LinkView",
    "Neighbour",
    "Route",
    "RouteView",
    "Rule",
    "Sysctl",
    "Tracked",
    "TrackedFront",
    "TrackedPath",
    "UplinkBridge",
]


@frozen
class Link:
    """A link that exists already (an OVS internal port, the bridge): up, with this MAC and MTU (0: as it is)."""

    name: str
    mac: str = ""
    mtu: int = 0


@frozen
class LinkAddress:
    """An address on a link. The host sink removes addresses it put there, never others."""

    link: str
    address: Interface
    deprecated: bool = False


@frozen
class Route:
    """A route. `via` None means on-link; `table` 254 is main; `source` is the preferred source; `mtu` 0: none.

    The sink marks its routes with its own protocol number, by which it knows them again.
    """

    destination: Network
    link: str
    via: Address | None = None
    source: Address | None = None
    table: int = 254
    mtu: int = 0


@frozen
class Rule:
    """A policy routing rule of one family."""

    family: int
    priority: int
    table: int
    fwmark: int = 0


@frozen
class Neighbour:
    """A permanent neighbour entry."""

    link: str
    address: Address
    mac: str


@frozen
class Sysctl:
    """A value under /proc/sys, by its path parts (`("net", "ipv4", "conf", "ovn-k8s-mp0", "forwarding")`).

    The value there before comes back when nobody wants this one any more in the same process. With `only_from` it
    is written only where that is the value. Links with a default route that a router advertised go on hearing
    it when `forwarding` of IPv6 is switched on, by `accept_ra` 2.
    """

    path: tuple[str, ...]
    value: str
    only_from: str = ""


@frozen
class UplinkBridge:
    """A bridge of Open vSwitch over a network interface, with that interface's MAC, addresses and routes.

    They move when it is made, and move back when nobody wants it any more. A bridge is known as made for this
    by `MADE_FOR` in its external_ids; one that somebody else made over another interface is never taken.
    """

    bridge: str
    uplink: str


MADE_FOR = "ovnkit.io/uplink"
"""external_ids key of a bridge that ovnkit has made: the interface it was made for."""


@frozen
class TrackedPath:
    """A way that connection tracking of Open vSwitch may remember: to `address` and `port`, on to a target.

    Nothing is done while somebody wants it. When nobody does any more, connections on it are forgotten, and the
    next packet of a client finds another way. `protocol` is TCP, UDP or SCTP.
    """

    protocol: str
    address: Address
    port: int
    target: Address
    target_port: int


@frozen
class TrackedFront:
    """An address and port that this host translates: also the next packet of a client that has sent there before.

    When it appears, connections to it that were tracked without a translation are forgotten; those that have been
    translated stay. What is wanted at the start of a process was there before, and nothing is forgotten for it.
    `answers` says whether there is anybody to translate to; a change of it counts as appearance.
    """

    protocol: str
    address: Address
    port: int
    answers: bool = True


@frozen
class HttpAnswer:
    """What this node answers over HTTP at a port, on all its addresses and for any path: a health check."""

    port: int
    status: int
    body: str
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


HostItem = Link | LinkAddress | Route | Rule | Neighbour | Sysctl
Tracked = TrackedPath | TrackedFront

ROUTE_PROTOCOL = 79
"""Protocol number of the routes, rules, addresses and neighbours that ovnkit makes (none of rt_protos)."""


# -- facts ----------------------------------------------------------------------------------------------------


@frozen
class LinkView:
    """A network interface. `index` is the kernel's; `kind` is `veth`, `bridge`, ... or empty (physical).

    `master` is the interface it is enslaved to (a bridge, a bond; `ovs-system` for ports of Open vSwitch).
    """

    name: str
    index: int
    mac: str
    mtu: int
    up: bool
    kind: str = ""
    master: str = ""

    @property
    def key(self) -> str:
        """The interface's name."""
        return self.name


@frozen
class AddressView:
    """An address of an interface; `protocol` is IFA_PROTO (0 on kernels before 5.18)."""

    link: str
    address: Interface
    protocol: int = 0
    deprecated: bool = False

    @property
    def key(self) -> str:
        """`eth0/10.0.0.1/24`."""
        return f"{self.link}/{self.address}"


@frozen
class Hop:
    """A next hop: gateway (None: on-link) and interface."""

    link: str
    via: Address | None = None


@frozen
class RouteView:
    """A unicast route outside the local table. `hops` has more than one entry for a multipath route."""

    destination: Network
    hops: tuple[Hop, ...]
    table: int = 254
    metric: int = 0
    protocol: int = 0
    source: Address | None = None
    mtu: int = 0

    @property
    def key(self) -> str:
        """`254/10.0.0.0/8/0` (table, destination, metric); IPv6 adds the first interface."""
        key = f"{self.table}/{self.destination}/{self.metric}"
        return f"{key}/{self.hops[0].link}" if self.destination.version == 6 and self.hops else key


LINKS: Kind[LinkView] = Kind("links", HostFacts("links"), lambda raw: LinkView(**raw))
ADDRESSES: Kind[AddressView] = Kind(
    "addresses",
    HostFacts("addresses"),
    lambda raw: AddressView(**raw),
    indexes={"link": lambda view: (view.link,)},
)
ROUTES: Kind[RouteView] = Kind(
    "routes",
    HostFacts("routes"),
    lambda raw: RouteView(**raw),
    indexes={"destination": lambda view: (str(view.destination),)},
)
