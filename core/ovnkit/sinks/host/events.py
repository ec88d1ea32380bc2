"""What an event socket of rtnetlink says, message by message.

Messages about links are taken apart here, the others by pyroute2: a link has fifty attributes with all its
statistics, of which pyroute2 makes objects for 0.25 ms, and each pod that comes brings seven messages. Local,
multicast and other routes that are no facts are left out: three of the four that a new link has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from pyroute2.netlink.rtnl.marshal import MarshalRtnl

_NEWLINK, _DELLINK, _NEWROUTE, _DELROUTE = 16, 17, 24, 25
_UNICAST = 1
_HEADER = struct.Struct("=IHH8x")
"""nlmsghdr: length, type, flags."""
_LINK = struct.Struct("=Bx2xiI4x")
"""ifinfomsg: family, index, flags."""
_ROUTE_TYPE = struct.Struct("=7xB4x")
"""rtmsg: type."""
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")
_TYPE_MASK = 0x3FFF
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _INFO_KIND = 1, 3, 4, 10, 18, 1


class Events:
    """Reads what was received, one datagram at a time."""

    def __init__(self) -> None:
        self._marshal = MarshalRtnl()

    def read(self, data: bytes) -> Iterator[Any]:
        """The messages, as `ovnkit.sinks.host.decode` takes them."""
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags = _HEADER.unpack_from(data, offset)
            if not _HEADER.size <= length <= len(data) - offset:
                return
            message = data[offset : offset + length]
            if kind in (_NEWROUTE, _DELROUTE) and _ROUTE_TYPE.unpack_from(message, _HEADER.size)[0] != _UNICAST:
                pass
            elif kind in (_NEWLINK, _DELLINK):
                yield {"header": {"type": kind, "flags": flags}, **_link(message)}
            else:
                yield from self._marshal.parse(message)
            offset += _aligned(length)


def _link(message: bytes) -> dict[str, Any]:
    """What a LinkView needs, under pyroute2's names."""
    family, index, flags = _LINK.unpack_from(message, _HEADER.size)
    found: dict[str, Any] = {"family": family, "index": index, "flags": flags}
    for kind, value in _attributes(message[_HEADER.size + _LINK.size :]):
        if kind == _IFNAME:
            found["ifname"] = _text(value)
        elif kind == _ADDRESS:
            found["address"] = value.hex(":")
        elif kind == _MTU:
            (found["mtu"],) = _NUMBER.unpack(value)
        elif kind == _MASTER:
            (found["master"],) = _NUMBER.unpack(value)
        elif kind == _LINKINFO:
            kinds = [text for inner, text in _attributes(value) if inner == _INFO_KIND]
            found["linkinfo"] = {"kind": _text(kinds[0]) if kinds else ""}
    return found


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _aligned(length: int) -> int:
    """Messages and attributes begin at multiples of four."""
    return length + 3 & ~3
