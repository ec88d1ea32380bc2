"""Text from objects, turned into values: the only place where it happens.

A text is accepted only if every consumer (OVN, Open vSwitch, nft, the kernel, Kubernetes) reads it as the value
returned here. Python's `ipaddress` alone accepts more than they do (zone ids, netmasks for prefix lengths,
leading zeros in a length), and its `json` more than JSON (NaN, Infinity, lone surrogates). Every function raises
ValueError with one line that quotes the text. The printed form is `str(value)`, or `print_json`.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)
from typing import Any

import orjson

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

_ADDRESS = re.compile(r"[0-9a-fA-F:.]{2,45}")
_PREFIXED = re.compile(r"([0-9a-fA-F:.]{2,45})/(0|[1-9][0-9]{0,2})")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


def parse_address(text: object) -> Address:
    """An IPv4 or IPv6 address without zone id; an IPv4-mapped IPv6 address is refused (Go reads it as IPv4)."""
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise ValueError(f"{_quoted(text)} is not an IP address")
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{_quoted(text)} is not an IP address") from None
    _refuse_mapped(text, address)
    return address


def parse_interface(text: object) -> Interface:
    """An address with a prefix length, `10.0.0.5/24`; the length must be there."""
    if not isinstance(text, str) or not _PREFIXED.fullmatch(text):
        raise ValueError(f"{_quoted(text)} is not an IP address with a prefix length")
    try:
        interface = ip_interface(text)
    except ValueError:
        raise ValueError(f"{_quoted(text)} is not an IP address with a prefix length") from None
    _refuse_mapped(text, interface.ip)
    return interface


def parse_network(text: object, *, strict: bool = False) -> Network:
    """A network in CIDR notation. Bits behind the prefix are cleared, as Kubernetes does; refused if `strict`."""
    interface = parse_interface(text)
    if strict and interface.ip != interface.network.network_address:
        raise ValueError(f"{_quoted(text)} has bits set behind its prefix")
    return interface.network


def parse_mac(text: object) -> str:
    """A MAC address as six pairs of hexadecimal digits with colons; in lower case."""
    if not isinstance(text, str) or not _MAC.fullmatch(text):
        raise ValueError(f"{_quoted(text)} is not a MAC address")
    return text.lower()


def parse_number(text: object, low: int, high: int) -> int:
    """A decimal number in ASCII digits without sign, space, underscore or leading zero, from `low` to `high`."""
    if not isinstance(text, str) or not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise ValueError(f"{_quoted(text)} is not a number from {low} to {high}")
    return int(text)


def parse_port(text: object) -> int:
    """A port number from 1 to 65535."""
    return parse_number(text, 1, 65535)


def parse_json(text: str | bytes) -> Any:
    """A JSON value; NaN, Infinity, numbers beyond a double and lone surrogates are not JSON."""
    try:
        return orjson.loads(text)
    except (ValueError, UnicodeEncodeError) as error:
        raise ValueError(f"not JSON: {error}") from None


def print_json(value: Any, *, sort: bool = False) -> str:
    """The JSON text of a value, compact; what `parse_json` reads back as the same value."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort else 0).decode()


def _refuse_mapped(text: object, address: Address) -> None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError(f"{_quoted(text)} is an IPv4 address written as IPv6")


def _quoted(text: object) -> str:
    return repr(text)[:80]
