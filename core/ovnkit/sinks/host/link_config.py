"""Addresses and routes of one network interface moved to another, so that nothing is missing in between.

First the target gets the addresses, then each route is replaced by one through the target, then the addresses
of the source go. Whatever a crash leaves, doing it again ends the same.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any

from attrs import frozen
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ovnkit.api.host import ROUTE_PROTOCOL
from ovnkit.sinks.host.naming import MAIN_TABLE, HostItemError, kernel_error

Entry = dict[str, Any]
"""An address or route as JSON holds it and pyroute2 takes it, without its interface."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_KERNEL, _UNICAST, _LOCAL_TABLE, _CLONED, _ONLINK = 2, 1, 255, 0x200, 4
_TEMPORARY, _NODAD, _DEPRECATED, _NOPREFIXROUTE = 0x01, 0x02, 0x20, 0x200
_FOREVER = 0xFFFFFFFF
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL})
_PLAIN = (
    ("gateway", "RTA_GATEWAY"),
    ("via", "RTA_VIA"),
    ("prefsrc", "RTA_PREFSRC"),
    ("priority", "RTA_PRIORITY"),
)


@frozen
class LinkConfig:
    """What an interface has that is the host's own: none of ovnkit's, no link-local and no temporary addresses.

    Lifetimes are left out: whoever renews an address does so where it was first, and it would run out here.
    """

    addresses: tuple[Entry, ...] = ()
    routes: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.addresses or self.routes)


def link_index(ip: IPRoute, name: str) -> int | None:
    """The kernel's number of an interface; None when there is none of that name."""
    return next(iter(ip.link_lookup(ifname=name)), None)


def link_name(ip: IPRoute, index: int) -> str:
    """The name of an interface, or its number where it is gone."""
    try:
        return str(ip.get_links(index)[0].get_attr("IFLA_IFNAME"))
    except (NetlinkError, IndexError):
        return str(index)


def read_config(ip: IPRoute, index: int) -> LinkConfig:
    """What an interface has; on-link routes come before those with a next hop, which need them."""
    addresses = [entry for family in _FAMILIES for entry in _addresses(ip, index, family)]
    routes = [entry for family in _FAMILIES for entry in _routes(ip, index, family)]
    hops = ("gateway", "via", "multipath")
    return LinkConfig(
        tuple(addresses), tuple(sorted(routes, key=lambda entry: any(name in entry for name in hops)))
    )


def _addresses(ip: IPRoute, index: int, family: int) -> Iterable[Entry]:
    for message in ip.get_addr(family=family, index=index):
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        temporary = family == socket.AF_INET6 and flags & _TEMPORARY
        ours = message.get_attr("IFA_PROTO") == ROUTE_PROTOCOL
        if ip_address(text).is_link_local or temporary or ours:
            continue
        entry: Entry = {"address": text, "prefixlen": message["prefixlen"]}
        if flags & _DEPRECATED:
            entry["preferred_lft"] = 0
        if flags & _NOPREFIXROUTE:
            entry["flags"] = _NOPREFIXROUTE
        yield entry


def _routes(ip: IPRoute, index: int, family: int) -> Iterable[Entry]:
    for message in ip.get_routes(family=family):
        table = message.get_attr("RTA_TABLE") or message["table"]
        hops = message.get_attr("RTA_MULTIPATH") or ()
        if (
            message["type"] != _UNICAST
            or table == _LOCAL_TABLE
            or message["proto"] == ROUTE_PROTOCOL
            or message["flags"] & _CLONED
            or {message.get_attr("RTA_OIF"), *(hop["oif"] for hop in hops)} - {None} != {index}
        ):
            continue
        entry = _route(message, family, table)
        if not entry["dst"].startswith(("fe80:", "ff00:")):
            yield entry


def _route(message: Any, family: int, table: int) -> Entry:
    everywhere = "0.0.0.0" if family == socket.AF_INET else "::"
    entry: Entry = {
        "dst": f"{message.get_attr('RTA_DST') or everywhere}/{message['dst_len']}",
        "family": int(family),
        "table": table,
        "proto": message["proto"],
        "scope": message["scope"],
    }
    for name, attribute in _PLAIN:
        value = message.get_attr(attribute)
        if value is not None:
            entry[name] = value
    hops = message.get_attr("RTA_MULTIPATH")
    if hops:
        entry["multipath"] = [_hop(hop) for hop in hops]
    elif message["flags"] & _ONLINK:
        entry["flags"] = _ONLINK
    metrics = message.get_attr("RTA_METRICS")
    if metrics is not None:
        entry["metrics"] = {name.removeprefix("RTAX_").lower(): value for name, value in metrics["attrs"]}
    return entry


def _hop(hop: Any) -> Entry:
    entry: Entry = {"hops": hop["hops"], "flags": hop["flags"] & _ONLINK}
    for name, attribute in _PLAIN[:2]:
        value = hop.get_attr(attribute)
        if value is not None:
            entry[name] = value
    return entry


def put(ip: IPRoute, index: int, things: LinkConfig) -> None:
    """Give an interface addresses and routes; routes of other interfaces to the same places are replaced.

    Raises HostItemError, which names the address or route.
    """
    for entry in things.addresses:
        wanted: Entry = {"preferred_lft": _FOREVER, "valid_lft": _FOREVER, **entry}
        if _family(entry) == socket.AF_INET6:
            wanted["flags"] = wanted.get("flags", 0) | _NODAD
        with _named(f"address {entry['address']}/{entry['prefixlen']}", ip, index):
            ip.addr("replace", index=index, family=_family(entry), **wanted)
    known = {_place(entry) for entry in read_config(ip, index).routes}
    for entry in things.routes:
        # The kernel has made those of the addresses by itself.
        if not (entry["proto"] == _KERNEL and _place(entry) in known):
            with _named(_route_words(entry), ip, index):
                ip.route("replace", **_through(entry, index))


@contextmanager
def _named(what: str, ip: IPRoute, index: int) -> Iterator[None]:
    """Errors of the kernel say what they are about."""
    try:
        yield
    except NetlinkError as error:
        raise HostItemError(f"{what} dev {link_name(ip, index)}: {kernel_error(error)}") from error


def _route_words(entry: Entry) -> str:
    via = f" via {entry['gateway']}" if "gateway" in entry else ""
    source = f" src {entry['prefsrc']}" if "prefsrc" in entry else ""
    table = "" if entry["table"] == MAIN_TABLE else f" table {entry['table']}"
    return f"route {entry['dst']}{via}{source}{table}"


def _family(entry: Entry) -> int:
    return socket.AF_INET6 if ":" in entry["address"] else socket.AF_INET


def _place(entry: Entry) -> tuple[Any, ...]:
    return entry["dst"], entry["table"], entry.get("priority", 0)


def _through(entry: Entry, index: int) -> Entry:
    if "multipath" not in entry:
        return {**entry, "oif": index}
    return {**entry, "multipath": [{**hop, "oif": index} for hop in entry["multipath"]]}


def clear(ip: IPRoute, index: int, things: LinkConfig) -> None:
    """Take routes, then addresses from an interface; what is gone already is no error."""
    for entry in things.routes:
        wanted = {name: value for name, value in _through(entry, index).items() if name != "metrics"}
        _quietly(partial(ip.route, "del", **wanted))
    # With the first address of a network its others could go as well: it is the last to be removed.
    for entry in reversed(things.addresses):
        where = {"address": entry["address"], "prefixlen": entry["prefixlen"], "family": _family(entry)}
        _quietly(partial(ip.addr, "del", index=index, **where))


def _quietly(change: Callable[[], object]) -> None:
    try:
        change()
    except NetlinkError as error:
        if error.code not in _GONE:
            raise
