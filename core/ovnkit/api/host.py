"""Host items: what should exist in the node's kernel and on its bridges."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from attrs import frozen

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Prefix = IPv4Network | IPv6Network


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

    destination: Prefix
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
    """A value under /proc/sys, by its path parts (`("net", "ipv4", "conf", "ovn-k8s-mp0", "forwarding")`)."""

    path: tuple[str, ...]
    value: str


HostItem = Link | LinkAddress | Route | Rule | Neighbour | Sysctl
