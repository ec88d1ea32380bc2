"""Host items applied to the kernel: one change at a time, in the writer's thread."""

from __future__ import annotations

import errno
import socket
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ovnkit.api.host import ROUTE_PROTOCOL, HostItem, Link, LinkAddress, Neighbour, Route, Rule

_IFA_F_NODAD = 0x02
_FOREVER = 0xFFFFFFFF
_RT_SCOPE_LINK = 253
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO})


def family(version: int) -> int:
    """The address family of an IP version."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


def apply(ip: IPRoute, item: HostItem, index: int) -> None:
    """Make a netlink item so; `index` is its link's (0 for a rule). Raises NetlinkError."""
    if isinstance(item, Link):
        wanted: dict[str, Any] = {"index": index, "state": "up"}
        if item.mac:
            wanted["address"] = item.mac
        if item.mtu:
            wanted["mtu"] = item.mtu
        ip.link("set", **wanted)
    elif isinstance(item, LinkAddress):
        _apply_address(ip, item, index)
    elif isinstance(item, Route):
        ip.route("replace", **_route(item, index))
    elif isinstance(item, Rule):
        _apply_rule(ip, item)
    elif isinstance(item, Neighbour):
        ip.neigh("replace", ifindex=index, dst=str(item.address), lladdr=item.mac, state="permanent",
                 protocol=ROUTE_PROTOCOL, family=family(item.address.version))  # fmt: skip


def remove(ip: IPRoute, item: HostItem, index: int) -> None:
    """Take a netlink item away; it is no error when it is gone already."""
    try:
        if isinstance(item, LinkAddress):
            ip.addr("del", index=index, address=str(item.address.ip), prefixlen=item.address.network.prefixlen,
                    family=family(item.address.version))  # fmt: skip
        elif isinstance(item, Route):
            wanted = _route(item, index)
            wanted.pop("metrics", None)
            ip.route("del", **wanted)
        elif isinstance(item, Rule):
            ip.rule("del", **_rule(item))
        elif isinstance(item, Neighbour):
            ip.neigh("del", ifindex=index, dst=str(item.address), family=family(item.address.version))
    except NetlinkError as error:
        if error.code not in _GONE:
            raise


def _apply_address(ip: IPRoute, item: LinkAddress, index: int) -> None:
    wanted: dict[str, Any] = {
        "index": index,
        "address": str(item.address.ip),
        "prefixlen": item.address.network.prefixlen,
        "family": family(item.address.version),
        "proto": ROUTE_PROTOCOL,
        "preferred_lft": 0 if item.deprecated else _FOREVER,
        "valid_lft": _FOREVER,
    }
    if item.address.version == 6:
        wanted["flags"] = _IFA_F_NODAD
    ip.addr("replace", **wanted)


def _route(item: Route, index: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "dst": str(item.destination),
        "family": family(item.destination.version),
        "oif": index,
        "table": item.table,
        "proto": ROUTE_PROTOCOL,
    }
    if item.via is not None:
        wanted["gateway"] = str(item.via)
    elif item.destination.version == 4:
        wanted["scope"] = _RT_SCOPE_LINK
    if item.source is not None:
        wanted["prefsrc"] = str(item.source)
    if item.mtu:
        wanted["metrics"] = {"mtu": item.mtu}
    return wanted


def _rule(item: Rule) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "family": family(item.family),
        "priority": item.priority,
        "table": item.table,
        "protocol": ROUTE_PROTOCOL,
    }
    if item.fwmark:
        wanted["fwmark"] = item.fwmark
    return wanted


def _apply_rule(ip: IPRoute, item: Rule) -> None:
    try:
        ip.rule("add", **_rule(item))
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
