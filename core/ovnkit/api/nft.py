"""nftables items: what should exist in the table `inet ovn-kubernetes`, which is ovnkit's alone.

Everything is typed; nothing that comes from an object reaches nft as text. Rules of several plugins may share a
chain, and elements of several a set: each rule and each element is an item of its own. A rule waits until the
sets and chains it names exist, an element until its set does.
"""

from __future__ import annotations

import re
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from attrs import field, frozen

from ovnkit.api.text import no_zone_id

__all__ = [
    "TABLE",
    "AddressType",
    "ChainType",
    "Counter",
    "DnatChoice",
    "DnatMap",
    "Hook",
    "Jump",
    "LinkName",
    "Masquerade",
    "Match",
    "NftChain",
    "NftElement",
    "NftItem",
    "NftRule",
    "NftSet",
    "NftType",
    "Protocol",
    "RedirectMap",
    "Selector",
    "SetMark",
    "SetName",
    "Snat",
    "Statement",
    "Verdict",
]

FAMILY = "inet"
TABLE = "ovn-kubernetes"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,126}")
_LINK = re.compile(r"[A-Za-z0-9_.@+-]{1,15}")


def _name(_instance: object, _attribute: object, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name of a chain or set")


def _link(_instance: object, _attribute: object, value: str) -> None:
    if not _LINK.fullmatch(value):
        raise ValueError(f"{value!r} is no interface name")


def _no_zone_ids(_instance: object, _attribute: object, value: Any) -> None:
    for atom in value if isinstance(value, tuple) else (value,):
        no_zone_id(atom[0] if isinstance(atom, tuple) else atom)


class Protocol(Enum):
    """A transport protocol; the value is its number."""

    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


class NftType(Enum):
    """Type of a part of a set's key or a map's value."""

    IPV4 = "ipv4_addr"
    IPV6 = "ipv6_addr"
    PROTOCOL = "inet_proto"
    PORT = "inet_service"
    MARK = "mark"


Atom = IPv4Address | IPv6Address | IPv4Network | IPv6Network | Protocol | int
"""A value: an address, a network (in interval sets and matches), a protocol, a port or mark."""


# -- expressions ----------------------------------------------------------------------------------------------


class Selector(Enum):
    """What of a packet is looked at; the value is nft's own expression."""

    IPV4_SOURCE = "ip saddr"
    IPV4_DESTINATION = "ip daddr"
    IPV6_SOURCE = "ip6 saddr"
    IPV6_DESTINATION = "ip6 daddr"
    PROTOCOL = "meta l4proto"
    SOURCE_PORT = "th sport"
    DESTINATION_PORT = "th dport"
    MARK = "meta mark"
    IN_LINK = "iifname"
    OUT_LINK = "oifname"
    SOURCE_TYPE = "fib saddr type"
    DESTINATION_TYPE = "fib daddr type"
    ICMP_TYPE = "icmp type"
    ICMP_CODE = "icmp code"
    ICMPV6_TYPE = "icmpv6 type"


Key = tuple[Selector, ...]
"""One or several selectors, concatenated."""


@frozen
class LinkName:
    """An interface name, to compare IN_LINK or OUT_LINK with."""

    name: str = field(validator=_link)


class AddressType(Enum):
    """What `fib ... type` may be compared with."""

    LOCAL = "local"
    UNICAST = "unicast"


@frozen
class SetName:
    """A set to look a key up in."""

    name: str = field(validator=_name)


@frozen
class Match:
    """The packet goes on to the next statement only if the key is (or with `negate` is not) this."""

    key: Key
    right: Atom | LinkName | AddressType | SetName = field(validator=_no_zone_ids)
    negate: bool = False


class Verdict(Enum):
    """A final statement. REJECT answers "port unreachable"; RESET, for TCP only, ends the connection.

    A process of this host whose packet is rejected on its way out gets EPERM from sendto(), not ECONNREFUSED.
    """

    RETURN = "return"
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    RESET = "reject with tcp reset"


@frozen
class Jump:
    """Go through another chain."""

    chain: str = field(validator=_name)


@frozen
class Snat:
    """Change the source address."""

    to: IPv4Address | IPv6Address = field(validator=_no_zone_ids)


@frozen
class Masquerade:
    """Change the source address to that of the outgoing interface."""


@frozen
class DnatMap:
    """Change the destination to the address and port that a map of (address, port) has for the key."""

    family: int
    key: Key
    map: str = field(validator=_name)


@frozen
class DnatChoice:
    """Change the destination to one of `targets` (address, port) of one family: at random, or by the source."""

    targets: tuple[tuple[IPv4Address | IPv6Address, int], ...] = field(validator=_no_zone_ids)
    by_source: bool = False


@frozen
class RedirectMap:
    """Change the destination to this host, at the port that a map has for the key."""

    key: Key
    map: str = field(validator=_name)


@frozen
class SetMark:
    """Set the packet's mark."""

    mark: int


@frozen
class Counter:
    """Count packets and bytes."""


Statement = Match | Verdict | Jump | Snat | Masquerade | DnatMap | DnatChoice | RedirectMap | SetMark | Counter


# -- items ----------------------------------------------------------------------------------------------------


class ChainType(Enum):
    """Type of a base chain."""

    FILTER = "filter"
    NAT = "nat"
    ROUTE = "route"


class Hook(Enum):
    """Where a base chain sits."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"


@frozen
class NftChain:
    """A chain; with `type`, `hook` and `priority` a base chain, whose policy is accept."""

    name: str = field(validator=_name)
    type: ChainType | None = None
    hook: Hook | None = None
    priority: int = 0


@frozen
class NftRule:
    """A rule of a chain. Rules stand in the order of `order`, then of their owners' names, then as rendered.

    `otherwise` stands in its place while nft refuses it, or while a set or chain that it names isn't there: so a
    rule that restricts never leaves open what it is to close.
    """

    chain: str = field(validator=_name)
    order: int
    statements: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()


@frozen
class NftSet:
    """A set, or with `value` a map. `interval` allows networks as keys (of one part)."""

    name: str = field(validator=_name)
    key: tuple[NftType, ...]
    value: tuple[NftType, ...] = ()
    interval: bool = False


@frozen
class NftElement:
    """An element of a set or map; counted like a Member."""

    set: str = field(validator=_name)
    key: tuple[Atom, ...] = field(validator=_no_zone_ids)
    value: tuple[Atom, ...] = field(default=(), validator=_no_zone_ids)


NftItem = NftChain | NftRule | NftSet | NftElement
