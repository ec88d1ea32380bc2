"""Connections that the kernel of this host tracks: found by where they go, and forgotten."""

from __future__ import annotations

import socket

from pyroute2 import NFCTSocket
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

from ovnkit.api.text import Address


def forget(
    protocol: int, address: Address, port: int, target: tuple[str, int] | None, *, unanswered: bool = False
) -> int:
    """Forget connections to an address and port, or those of them that a target answers; how many there were.

    With `unanswered` only those of which no answer has been seen. `protocol` is IP's number. Raises OSError or
    NetlinkError when the kernel can't be asked.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    wanted = {"daddr": str(address), "proto": protocol, "dport": port}
    forgotten = 0
    with NFCTSocket(nfgen_family=family) as kernel:
        # The kernel's own filter of IPv6 addresses finds nothing (6.18), and none filters before 5.8.
        part = NFCTAttrTuple(family=family, proto=protocol, dport=port)
        for entry in list(kernel.dump(tuple_orig=part)):
            there = NFCTAttrTuple.from_netlink(family, entry.get_attr("CTA_TUPLE_ORIG"))
            back = NFCTAttrTuple.from_netlink(family, entry.get_attr("CTA_TUPLE_REPLY"))
            if any(getattr(there, name) != value for name, value in wanted.items()):
                continue
            if target is not None and (back.saddr, back.sport) != target:
                continue
            if unanswered and entry.get_attr("CTA_STATUS") & _SEEN_REPLY:
                continue
            try:
                kernel.entry("del", tuple_orig=there)
            except NetlinkError as error:
                if error.code != _GONE:
                    raise
            else:
                forgotten += 1
    return forgotten


_SEEN_REPLY = 2
"""IPS_SEEN_REPLY of nf_conntrack_common.h."""

_GONE = 2
"""ENOENT: the connection has ended meanwhile."""
