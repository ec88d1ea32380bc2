"""From rtnetlink messages to facts."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

from attrs import frozen
from pyroute2 import IPRoute

from ovnkit.api.host import AddressView, Hop, LinkView, Neighbour, RouteView, Rule
from ovnkit.api.text import Address

Message = Any
"""A message of pyroute2: `message[field]`, `message.get(attribute)`, `message.get_attr(NAME)`.

One about a link may be a dict with what `_link` asks for."""

WHAT = ("links", "addresses", "routes", "rules", "neighbours")
"""Kinds of facts, in the order in which they are read (links first: the others name them by index)."""

# RTMGRP_* bits of linux/rtnetlink.h; RTNLGRP_IPV6_RULE is group 19.
GROUPS = {
    "links": 0x1,
    "neighbours": 0x4,
    "addresses": 0x10 | 0x100,
    "routes": 0x40 | 0x400,
    "rules": 0x80 | 1 << 18,
}

_TYPES = {16: "links", 17: "links", 20: "addresses", 21: "addresses", 24: "routes", 25: "routes",
          28: "neighbours", 29: "neighbours", 32: "rules", 33: "rules"}  # fmt: skip
_NEWROUTE = 24
_NLM_F_REPLACE = 0x100
_IFF_UP = 0x1
_IFA_F_DEPRECATED = 0x20
_NUD_PERMANENT = 0x80
_RTN_UNICAST = 1
_RTM_F_CLONED = 0x200
_LOCAL_TABLE = 255
_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}


@frozen
class Fact:
    """A fact: `view` is its content (a view of `ovnkit.api.host`, or a Rule or Neighbour item).

    `held` is false for what the kernel only mentions (a neighbour it learned by itself).
    """

    what: str
    key: str
    view: Any
    protocol: int = 0
    index: int = 0
    up: bool = True
    held: bool = True


def what(message: Message) -> str:
    """Which kind of fact a message is about; empty for others."""
    return _TYPES.get(message["header"]["type"], "")


def gone(message: Message) -> bool:
    """Whether the message says that the fact is no more (RTM_DEL types are odd)."""
    return bool(message["header"]["type"] & 1)


def replaces(message: Message) -> bool:
    """Whether the message tells of a route that took the place of another."""
    return message["header"]["type"] == _NEWROUTE and bool(message["header"]["flags"] & _NLM_F_REPLACE)


def dump(ip: IPRoute, kind: str, route_protocol: int | None) -> Iterable[Message]:
    """All messages of one kind of fact."""
    if kind == "links":
        yield from ip.get_links()
    elif kind == "addresses":
        yield from ip.get_addr()
    elif kind == "neighbours":
        for family in _FAMILIES:
            yield from ip.get_neighbours(family=family)
    elif kind == "rules":
        for family in _FAMILIES:
            yield from ip.get_rules(family=family)
    else:
        for family in _FAMILIES:
            wanted = {} if route_protocol is None else {"proto": route_protocol}
            yield from ip.get_routes(family=family, **wanted)


def fact(kind: str, message: Message, names: Mapping[int, str]) -> Fact | None:
    """The fact in a message; None for what is of no interest. `names` are the links' names by index."""
    return _DECODERS[kind](message, names)


def _link(message: Message, names: Mapping[int, str]) -> Fact | None:
    name = message.get("ifname")
    if not name or message["family"] == socket.AF_BRIDGE:
        return None
    info = message.get("linkinfo")
    up = bool(message["flags"] & _IFF_UP)
    kind = (info.get("kind") if info else None) or ""
    index = message["index"]
    master = names.get(message.get("master") or 0, "")
    view = LinkView(name, index, message.get("address") or "", message.get("mtu") or 0, up, kind, master)
    return Fact("links", name, view, index=index, up=up)


def _address(message: Message, names: Mapping[int, str]) -> Fact | None:
    text = message.get("local") or message.get("address")
    name = names.get(message["index"])
    if not text or not name:
        return None
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    address = ip_interface(f"{text}/{message['prefixlen']}")
    if isinstance(address, IPv6Interface) and address.ip.ipv4_mapped is not None:
        return None  # nobody can be told of it: annotated, it would be IPv4 to some readers and refused by others
    protocol = message.get("proto") or 0
    view = AddressView(name, address, protocol, bool(flags & _IFA_F_DEPRECATED))
    return Fact("addresses", view.key, view, protocol=protocol, index=message["index"])


def _route(message: Message, names: Mapping[int, str]) -> Fact | None:
    family = _FAMILIES.get(message["family"])
    table = message.get_attr("RTA_TABLE") or message["table"]
    if (
        family is None
        or message["type"] != _RTN_UNICAST
        or table == _LOCAL_TABLE
        or message["flags"] & _RTM_F_CLONED
    ):
        return None
    anywhere = "0.0.0.0" if family == 4 else "::"
    metrics = message.get("metrics")
    view = RouteView(
        ip_network(f"{message.get('dst') or anywhere}/{message['dst_len']}"),
        tuple(_hops(message, names)),
        table,
        message.get("priority") or 0,
        message["proto"],
        _parsed(message.get("prefsrc")),
        (metrics.get("mtu") if metrics else None) or 0,
    )
    return Fact("routes", view.key, view, protocol=view.protocol)


def _hops(message: Message, names: Mapping[int, str]) -> Iterable[Hop]:
    for hop in message.get("multipath") or ():
        yield Hop(names.get(hop["oif"], ""), _parsed(hop.get("gateway")))
    if message.get("oif"):
        via = message.get("gateway")
        if via is None and message.get("via"):
            via = message.get("via")["addr"]
        yield Hop(names.get(message.get("oif"), ""), _parsed(via))


def _parsed(text: str | None) -> Address | None:
    return ip_address(text) if text else None


def _rule(message: Message, _names: Mapping[int, str]) -> Fact | None:
    family = _FAMILIES.get(message["family"])
    special = (
        "src",
        "dst",
        "iifname",
        "oifname",
        "goto",
        "l3mdev",
        "uid_range",
        "ip_proto",
        "sport_range",
        "dport_range",
    )
    if family is None or any(message.get(name) for name in special):
        return None
    table = message.get_attr("FRA_TABLE") or message["table"]
    rule = Rule(family, message.get("priority") or 0, table, message.get("fwmark") or 0)
    key = f"{rule.family}/{rule.priority}/{rule.table}/{rule.fwmark}"
    return Fact("rules", key, rule, protocol=message.get("protocol") or 0)


def _neighbour(message: Message, names: Mapping[int, str]) -> Fact | None:
    name = names.get(message["ifindex"])
    address = message.get("dst")
    if not name or not address or message["family"] not in _FAMILIES:
        return None
    held = bool(message["state"] & _NUD_PERMANENT)
    item = Neighbour(name, ip_address(address), message.get("lladdr") or "")
    return Fact("neighbours", f"{name}/{item.address}", item, protocol=message.get("protocol") or 0, held=held)


_DECODERS = {
    "links": _link,
    "addresses": _address,
    "routes": _route,
    "rules": _rule,
    "neighbours": _neighbour,
}
