"""The tokens of OVN's expression language, as `lib/lex.c` of OVN reads them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from attrs import define

_INET6_ADDRSTRLEN = 46


class SyntaxFault(Exception):
    """OVN would not parse this."""


@define(eq=False)
class Integer:
    """A number, an address or a MAC address; `width` is the least that a field needs to hold it, in bits."""

    value: int
    width: int
    decimal: bool = False
    masked: bool = False


@define(eq=False)
class Named:
    """A set of constants by name: `$` addresses, `@` ports."""

    sign: str


@define(eq=False)
class Text:
    """A string in quotes."""


@define(eq=False)
class Word:
    """A name of a field or function."""

    text: str


Token = Integer | Named | Text | Word | str
"""Operators and punctuation are texts; the end is the empty one."""

_ADDRESSES, _PORTS, _STRING = Named("$"), Named("@"), Text()
_SPLIT = re.compile(
    r"""
    [ \t\n\r\v\f]+ | /\*[^\n]*?\*/                                        # space, and comments within a line
  | (?P<name>[$@][A-Za-z_.][A-Za-z_.0-9]*)
  | (?P<number>(?:[0-9]|::|[a-fA-F][0-9a-fA-F]*:)[0-9A-Za-z:]*(?:[0-9A-Za-z]|\.(?!\.))*)
  | (?P<word>[A-Za-z_][A-Za-z_.0-9]*)
  | (?P<sign>==|!=|<=|>=|<->|&&|\|\||--|\.\.|[=!<>,;:(){}\[\]-])
  | "(?P<text>(?:[^"\\]|\\["\\/bfnrt]|\\u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4})*)"
    """,
    re.VERBOSE,
)
_DECIMAL = re.compile(r"[0-9]+")
_HEXADECIMAL = re.compile(r"0[xX]([0-9a-fA-F]+)")
_MAC = re.compile(r"(?=.{17}$)[0-9a-fA-F]+(?::[0-9a-fA-F]+){5}")
_MASK = re.compile(r"[0-9A-Za-z:]*(?:[0-9A-Za-z]|\.(?!\.))*")


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a match; raises SyntaxFault."""
    position = 0
    while position < len(text):
        found = _SPLIT.match(text, position)
        if found is None:
            raise SyntaxFault(_strange(text, position))
        position = found.end()
        kind = found.lastgroup
        if kind == "sign":
            yield found[0]
        elif kind == "word":
            yield Word(found[0])
        elif kind == "name":
            yield _ADDRESSES if found[0][0] == "$" else _PORTS
        elif kind == "text":
            yield _STRING
        elif kind == "number":
            form, value = _constant(found[0])
            if text.startswith("/", position):
                mask = _MASK.match(text, position + 1)
                assert mask is not None
                position = mask.end()
                yield _masked(form, value, mask[0])
            else:
                width = _WIDTHS.get(form, value.bit_length())
                yield Integer(value, width, form == "decimal")


def _strange(text: str, position: int) -> str:
    if text.startswith("//", position):
        return "a comment to the end of the line takes in what northd adds"
    if text.startswith("/*", position):
        return "`/*' without matching `*/'"
    if text[position] == '"':
        return "a string without end, or with a wrong escape"
    if text[position] in "$@":
        return f"`{text[position]}' must be followed by an identifier"
    return f"{text[position]!r} at character {position} has no meaning"


_WIDTHS = {"ip4": 32, "ip6": 128, "mac": 48}


def _constant(text: str) -> tuple[str, int]:
    """The form of a constant, and its value."""
    if _MAC.fullmatch(text):
        return "mac", int(text.replace(":", ""), 16)
    if _DECIMAL.fullmatch(text):
        if text[0] == "0" and len(text) > 1:
            raise SyntaxFault(f"{text}: a decimal constant must not have leading zeros")
        if len(text) > 20 or int(text) >= 2**64:
            raise SyntaxFault(f"{text}: a decimal constant must be less than 2**64")
        return "decimal", int(text)
    found = _HEXADECIMAL.fullmatch(text)
    if found is not None:
        value = int(found[1], 16)
        if value.bit_length() > 128:
            raise SyntaxFault(f"{text} has more than 128 bits")
        return "hexadecimal", value
    if len(text) < _INET6_ADDRSTRLEN and not text.startswith(("0x", "0X")):
        for form, family in (("ip4", socket.AF_INET), ("ip6", socket.AF_INET6)):
            try:
                return form, int.from_bytes(socket.inet_pton(family, text))
            except OSError:
                continue
    raise SyntaxFault(f"{text} is no number and no address")


def _masked(form: str, value: int, text: str) -> Integer:
    if not text:
        raise SyntaxFault("a mask is expected after `/'")
    mask_form, mask = _constant(text)
    if form != mask_form:
        width = {"ip4": 32, "ip6": 128}.get(form)
        if width is not None and mask_form == "decimal" and mask & 0xFFFFFFFF <= width:
            mask &= 0xFFFFFFFF
            mask = (1 << width) - (1 << (width - mask))
        elif form != "decimal" or mask_form != "hexadecimal" or value:
            raise SyntaxFault(f"/{text} is no mask for what stands before it")
    return Integer(value & mask, mask.bit_length(), masked=True)
