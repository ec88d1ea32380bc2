"""SCTP's first exchange (RFC 9260): INIT and INIT ACK on raw sockets, for kernels without the protocol.

scapy knows SCTP, too, and this module is tested against it. But it runs in each pod of a test, where scapy 2.8
would take 0.4 s of processor time and 43 MB of memory to import (this module with all of Python: 0.04 s, 14 MB).
"""

from __future__ import annotations

import socket
import struct

from attrs import frozen

PROTOCOL = 132
"""Number of the protocol in IP headers."""

INIT, INIT_ACK = 1, 2
_COOKIE = 7
_HEAD, _CHUNK = struct.Struct("!HHI"), struct.Struct("!BBHIIHHI")
_FIRST = 32
"""Bytes before the first parameter: a head with its checksum, and a chunk."""


@frozen
class Packet:
    """A packet with one chunk of type `kind`; `cookie` is the state cookie of an answer."""

    source: int
    target: int
    kind: int
    initiate_tag: int
    cookie: bytes = b""


def init(source: int, target: int, initiate_tag: int) -> bytes:
    """The first packet of a client."""
    return _packet(source, target, 0, INIT, initiate_tag, b"")


def init_ack(asked: Packet, cookie: bytes = b"") -> bytes:
    """A server's answer to an INIT."""
    return _packet(asked.target, asked.source, asked.initiate_tag, INIT_ACK, asked.initiate_tag, cookie)


def read(data: bytes, family: socket.AddressFamily) -> Packet | None:
    """The packet that a raw socket received (with IPv4's header before it); None when the checksum is wrong."""
    if family == socket.AF_INET:
        data = data[(data[0] & 15) * 4 :]
    if len(data) < _FIRST or struct.unpack_from("<I", data, 8)[0] != crc32c(data[:8] + bytes(4) + data[12:]):
        return None
    source, target = struct.unpack_from("!HH", data)
    kind, _, _, initiate_tag = struct.unpack_from("!BBHI", data, 12)
    length = struct.unpack_from("!H", data, _FIRST + 2)[0] if len(data) > _FIRST else 4
    return Packet(source, target, kind, initiate_tag, data[_FIRST + 4 : _FIRST + length])


def _packet(source: int, target: int, tag: int, kind: int, initiate_tag: int, cookie: bytes) -> bytes:
    more = struct.pack("!HH", _COOKIE, 4 + len(cookie)) + cookie if cookie else b""
    more += bytes(-len(more) % 4)
    chunk = _CHUNK.pack(kind, 0, _CHUNK.size + len(more), initiate_tag, 65536, 1, 1, 1) + more
    head = _HEAD.pack(source, target, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def crc32c(data: bytes) -> int:
    """The checksum of SCTP."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF
