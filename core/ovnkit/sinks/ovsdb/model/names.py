"""What rows name in text: matches name address sets and port groups, ACLs that log name their meter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ovnkit.sinks.ovsdb.model.replica import Record

MATCH = "match"
"""The column of ACL, Logical_Router_Policy, QoS, NAT."""
WITHOUT_MATCH = frozenset({"NAT"})
"""Tables in which an empty match is none; elsewhere it is one that OVN can't parse."""
NAMING = frozenset({MATCH, "log", "meter"})
"""The columns from which one sees what a row names. An ACL that doesn't log has a meter's name for nothing."""
SIGNS: Mapping[str, str] = {"Address_Set": "$", "Port_Group": "@", "Meter": "meter "}
"""Tables whose rows are named so, and what tells the names apart."""
_NAMES = re.compile(r'"(?:[^"\\]|\\.)*"|/\*.*?\*/|([$@][A-Za-z_.][A-Za-z_.0-9]*)')


def names_in(text: str) -> set[str]:
    """The names in a match, with their signs."""
    if "$" not in text and "@" not in text:
        return set()
    return {found[1] for found in _NAMES.finditer(text) if found[1]}


def names_of(values: Mapping[str, Any]) -> set[str]:
    """What a row with these columns names."""
    text = values.get(MATCH)
    found = names_in(text) if text else set()
    if values.get("log") and values.get("meter"):
        found.add(f"meter {values['meter']}")
    return found


def name_of(record: Record) -> str:
    """How a row is named, or an empty text."""
    sign = SIGNS.get(record.table)
    name = record.values.get("name") if sign is not None else None
    return f"{sign}{name}" if name else ""
