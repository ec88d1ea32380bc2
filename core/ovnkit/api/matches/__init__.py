"""OVN matches as values: their text, and which rows the text names.

OVN resolves `$name` (an address set) and `@name` (a port group) in a match when it turns the match into flows. A
match that names what isn't there is no match at all: ovn-controller logs an error and leaves the flow out, so an
ACL that drops lets everything through. So a name inside a match is a reference like any other. The functions here
make the name and the reference together, and `+`, `all_of` and `any_of` keep them together:

    "inport == " + namespace_port_group("shop") + " && ip4"

The core writes such a value when the rows it names are there, or with them in one transaction, and deletes a row
only when no match in the database names it any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.identity import RowId

__all__ = [
    "Match",
    "address_set",
    "all_of",
    "any_of",
    "joined",
    "port_group",
]


@frozen
class Match:
    """A match, or a part of one: `text`, and the UUIDs of the rows that the text names.

    It is the value of a column like `ACL.match`, or of another text that names a row (`ACL.meter`). A plain text
    does as well where nothing is named.
    """

    text: str
    names: frozenset[str] = frozenset()

    def __add__(self, other: Match | str) -> Match:
        if isinstance(other, str):
            return Match(self.text + other, self.names)
        return Match(self.text + other.text, self.names | other.names)

    def __radd__(self, other: str) -> Match:
        return Match(other + self.text, self.names)

    def __bool__(self) -> bool:
        return bool(self.text)

    def __str__(self) -> str:
        return self.text


# -- names ------------------------------------------------------------------------------------------------------


def address_set(name: str, row: RowId) -> Match:
    """The name of an address set, which is this row of ovnkit's, as a constant."""
    return Match(f"${name}", frozenset((row.uuid,)))


def port_group(name: str, row: RowId) -> Match:
    """The name of a port group, which is this row of ovnkit's, as a constant."""
    return Match(f"@{name}", frozenset((row.uuid,)))


# -- composition ------------------------------------------------------------------------------------------------


def joined(separator: str, parts: Iterable[Match | str]) -> Match:
    """The parts with a text between them."""
    texts: list[str] = []
    names: set[str] = set()
    for part in parts:
        if isinstance(part, Match):
            names |= part.names
        texts.append(str(part))
    return Match(separator.join(texts), frozenset(names))


def all_of(*parts: Match | str) -> Match:
    """All of the parts, without those that are empty. A part that is an alternative has its own parentheses."""
    return joined(" && ", (part for part in parts if part))


def any_of(parts: Iterable[Match | str]) -> Match:
    """One of the parts; in parentheses, if there is more than one."""
    found = list(parts)
    return joined("", found) if len(found) == 1 else "(" + joined(" || ", found) + ")"
