"""Text from objects, turned into values and printed again: the only place where it happens.

A text is accepted only if every consumer (OVN, Open vSwitch, nft, the kernel, Kubernetes) reads it as the value
returned here. Python's `ipaddress` alone accepts more than they do (zone ids, netmasks for prefix lengths,
leading zeros in a length), and its `json` more than JSON (NaN, Infinity, lone surrogates). Every function raises
ValueError with one line that quotes the text. The printed form of an address is `str(value)`, that of JSON
`print_json`; both are read back here as the same value.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)
from typing import Any, TypeVar

import orjson
from attrs import frozen

__all__ = [
    "Address",
    "Interface",
    "JsonMembers",
    "Network",
    "check_number",
    "check_port",
    "check_strings",
    "host_network",
    "json_bytes",
    "json_member",
    "parse_address",
    "parse_host",
    "parse_interface",
    "parse_json",
    "parse_json_object",
    "parse_json_strings",
    "parse_mac",
    "parse_moment",
    "parse_network",
    "parse_number",
    "parse_port",
    "print_json",
    "quoted",
    "readable",
]

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network
T = TypeVar("T")

_ADDRESS = re.compile(r"[0-9a-fA-F:.]{2,45}")
_PREFIXED = re.compile(r"([0-9a-fA-F:.]{2,45})/(0|[1-9][0-9]{0,2})")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")
_MOMENT = re.compile(r"2[01][0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


# -- addresses ------------------------------------------------------------------------------------------------


def parse_address(text: object) -> Address:
    """An IPv4 or IPv6 address without zone id; an IPv4-mapped IPv6 address is refused (Go reads it as IPv4)."""
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not an IP address")
    try:
        # Twice as fast as `ip_address`, which tries IPv4 first.
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not an IP address") from None
    _refuse_mapped(text, address)
    return address


def parse_interface(text: object) -> Interface:
    """An address with a prefix length, `10.0.0.5/24`; the length must be there."""
    if not isinstance(text, str) or not _PREFIXED.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not an IP address with a prefix length")
    try:
        interface = ip_interface(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not an IP address with a prefix length") from None
    _refuse_mapped(text, interface.ip)
    return interface


def parse_host(text: object) -> Address:
    """The address of a text with or without a prefix length; costs a third of `parse_interface`."""
    prefixed = _PREFIXED.fullmatch(text) if isinstance(text, str) else None
    if prefixed is None:
        return parse_address(text)
    address = parse_address(prefixed[1])
    if int(prefixed[2]) > address.max_prefixlen:
        raise ValueError(f"{quoted(text)} is not an IP address with a prefix length")
    return address


def parse_network(text: object, *, strict: bool = False) -> Network:
    """A network in CIDR notation. Bits behind the prefix are cleared, as Kubernetes does; refused if `strict`."""
    if not isinstance(text, str) or not _PREFIXED.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a CIDR")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not a CIDR") from None
    address = parse_address(text.partition("/")[0])
    if strict and address != network.network_address:
        raise ValueError(f"{text} has host bits set; the network is {network}")
    return network


def host_network(address: Address) -> Network:
    """The network of one address."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


def parse_mac(text: object, *, unicast: bool = False) -> str:
    """A MAC address as six pairs of hexadecimal digits with colons; in lower case.

    With `unicast` group addresses and the one of all zeros are refused.
    """
    if not isinstance(text, str) or not _MAC.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a MAC address")
    if unicast and (int(text[:2], 16) & 1 or not text.strip("0:")):
        raise ValueError(f"{quoted(text)} is not a unicast MAC address")
    return text.lower()


def no_zone_id(value: object) -> None:
    """Raise ValueError for an IPv6 value that didn't come from here: printed, its zone id would be read as words.

    The last guard of items that are printed for Open vSwitch and nft, whoever made them.
    """
    address = getattr(value, "network_address", value)
    if getattr(address, "scope_id", None) is not None:
        raise ValueError(f"{quoted(str(value))} has a zone id")


# -- numbers --------------------------------------------------------------------------------------------------


def parse_number(text: object, low: int, high: int) -> int:
    """A decimal number in ASCII digits without sign, space, underscore or leading zero, from `low` to `high`."""
    if not isinstance(text, str) or not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise ValueError(f"{quoted(text)} is not a number from {low} to {high}")
    return int(text)


def parse_port(text: object) -> int:
    """A port number from 1 to 65535."""
    return parse_number(text, 1, 65535)


def check_number(value: object, low: int, high: int) -> int:
    """An integer of a JSON value, from `low` to `high`; neither a boolean nor a float nor text."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{quoted(value)} is not a number from {low} to {high}")
    return value


def check_port(value: object) -> int:
    """A port number of a JSON value, from 1 to 65535."""
    return check_number(value, 1, 65535)


# -- moments --------------------------------------------------------------------------------------------------


def parse_moment(text: object) -> datetime:
    """A moment of this or the next century as RFC 3339 has it, with its offset from UTC."""
    if isinstance(text, str) and _MOMENT.fullmatch(text):
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    raise ValueError(f"{quoted(text)} is not a time like 2026-01-31T12:00:00Z")


# -- JSON -----------------------------------------------------------------------------------------------------


def parse_json(text: str | bytes | memoryview) -> Any:
    """A JSON value; NaN, Infinity, numbers beyond a double and lone surrogates are not JSON.

    Integers of more than 64 bits come as floats: what must be kept letter for letter is for `JsonMembers`.
    """
    try:
        return orjson.loads(text)
    except (ValueError, UnicodeEncodeError) as error:
        raise ValueError(f"not JSON: {error}") from None


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object."""
    found = parse_json(text)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def parse_json_strings(text: str | bytes) -> list[str]:
    """A JSON list of strings."""
    return check_strings(parse_json(text))


def check_strings(value: object) -> list[str]:
    """A list of strings of a JSON value."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("not a JSON list of strings")
    return value


def print_json(value: object, *, sort: bool = False) -> str:
    """The JSON text of a value, compact; what `parse_json` reads back as the same value."""
    return json_bytes(value, sort=sort).decode()


def json_bytes(value: object, *, sort: bool = False) -> bytes:
    """As `print_json`, encoded. Raises TypeError for what JSON can't say: an object, a lone surrogate."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort else 0)


@frozen
class JsonMembers:
    """The members of a JSON object, key and value each as the text they are written as.

    A value that isn't JSON hides no other: whoever owns one member reads and replaces it, and keeps the rest
    letter for letter, whatever other parsers make of it.
    """

    texts: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> JsonMembers:
        """The members of an object; of two with the same key the last, as in every parser."""
        return cls(dict(_members(text)))

    def get(self, name: str, default: object = None) -> Any:
        """The value of a member, or `default` where there is none."""
        text = self.texts.get(print_json(name))
        return default if text is None else parse_json(text)

    def without(self, name: str) -> JsonMembers:
        """All members but one."""
        key = print_json(name)
        return JsonMembers({known: text for known, text in self.texts.items() if known != key})

    def having(self, name: str, value: object) -> JsonMembers:
        """The members with one added or replaced."""
        return JsonMembers({**self.texts, print_json(name): print_json(value)})

    def __str__(self) -> str:
        """The object, in the order of its keys."""
        return "{" + ",".join(f"{key}:{self.texts[key]}" for key in sorted(self.texts)) + "}"


def json_member(text: str, name: str, default: object = None) -> Any:
    """The value of one member of a JSON object, or `default` where there is none; others may be no JSON."""
    try:
        found = parse_json_object(text)
    except ValueError as error:
        try:
            return JsonMembers.parse(text).get(name, default)
        except ValueError:
            raise error from None
    return found.get(name, default)


_SPACE = " \t\r\n"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["{}\[\]:,]', re.DOTALL)


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Key and value of each member of an object as text; only strings and brackets are looked at."""
    text = text.strip(_SPACE)
    depth, start, key = 0, 1, ""
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign == '"':
            raise ValueError("not JSON: a string without end")
        if not depth and (sign != "{" or token.start()):
            break
        outermost = depth == 1
        if sign in "{[":
            depth += 1
        elif sign in "}]":
            depth -= 1
        if not outermost or sign not in ":,}":
            continue
        part, start = text[start : token.start()].strip(_SPACE), token.end()
        if sign == ":" and not key:
            key = _key(part)
        elif sign != ":" and key and part:
            yield key, part
            key = ""
        elif key or part or sign != "}" or depth:
            break
        if not depth:
            if start == len(text):
                return
            break
    raise ValueError("not a JSON object")


def _key(text: str) -> str:
    """A key's text in the one form that `print_json` gives it; as it is when no parser can read it."""
    try:
        return print_json(orjson.loads(text))
    except ValueError:
        return text


# -- several values -------------------------------------------------------------------------------------------


def readable(parse: Callable[[object], T], texts: Iterable[object]) -> Iterator[T]:
    """The values of those texts that can be read; for facts, where the rest is nobody's fault."""
    for text in texts:
        try:
            yield parse(text)
        except ValueError:
            continue


# -- messages -------------------------------------------------------------------------------------------------


_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 80, 80


def quoted(value: object) -> str:
    """A value for a message: one line of at most 80 characters, without control characters, however deep it is."""
    text = _short.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse_mapped(text: object, address: Address) -> None:
    if address.version == 6 and int(address) >> 32 == 0xFFFF:
        raise ValueError(f"{quoted(text)} is an IPv4 address written as IPv6")
