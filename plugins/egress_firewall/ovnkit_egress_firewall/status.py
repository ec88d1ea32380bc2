"""Texts of the status of firewalls, which zones write and the cluster role reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ovnkit_egress_firewall import facts
from ovnkit_egress_firewall.models import Rule

APPLIED = "EgressFirewall Rules applied"
NOT_APPLIED = "EgressFirewall Rules not correctly applied"
SHOWN = 5
"""Faults that a message tells; it counts the others."""


def is_message(zone: str, status: Mapping[str, Any]) -> bool:
    """Whether a zone has said something in the status of a firewall."""
    said = (f"{zone}: {APPLIED}", f"{zone}: {NOT_APPLIED}")
    return any(isinstance(text, str) and text.startswith(said) for text in status.get("messages") or ())


def faults(rules: tuple[Rule, ...]) -> Iterable[tuple[int, str]]:
    """What is wrong with the rules as they are written, by number."""
    for number, rule in enumerate(rules[: facts.MAX_RULES]):
        if rule.fault:
            yield number, f"rule {number}: {rule.fault}"
    if len(rules) > facts.MAX_RULES:
        yield facts.MAX_RULES, f"{len(rules)} rules are more than {facts.MAX_RULES}; the others are not read"


def summary(found: dict[int, str]) -> str:
    """The first faults in the order of the rules, and how many more there are."""
    texts = [found[number] for number in sorted(found)]
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
