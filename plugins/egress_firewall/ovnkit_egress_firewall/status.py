"""The status of firewalls. Role zone: what this zone says. Role cluster: one word for all, Events, tidying up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Scope
from ovnkit.api.items import Event, Status
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit_egress_firewall import facts, matches
from ovnkit_egress_firewall.dnsnames import DnsName
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS, Rule

APPLIED = "EgressFirewall Rules applied"
NOT_APPLIED = "EgressFirewall Rules not correctly applied"
SHOWN = 5
"""Faults that a message tells; it counts the others."""


@frozen
class EgressStatus:
    """The renderers of status."""

    config: Config
    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """One render per firewall in each role."""
        yield Renderer("message", Role.ZONE, self.message, each=EGRESS_FIREWALLS)
        yield Renderer("status", Role.CLUSTER, self.status, each=EGRESS_FIREWALLS)

    def message(self, world: World, key: str) -> Iterable[Status]:
        """What this zone says; nothing as long as a name has not been looked up.

        Each zone applies its own line, under its own name: it reads nobody else's, and overwrites none.
        """
        rules = facts.rules_of(world, key)
        if rules is None:
            return
        found = dict(faults(rules))
        for number, rule in enumerate(rules[: facts.MAX_RULES]):
            fault = self._name_fault(world, rule) or self._match_fault(world, rule)
            if fault == facts.PENDING:
                return
            if fault:
                found[number] = f"rule {number}: {fault}"
        said = f"{NOT_APPLIED}: {summary(found)}" if found else APPLIED
        zone = self.scope.zone
        yield Status(EGRESS_FIREWALLS, key, {"messages": [f"{zone}: {said}"]}, manager=zone)

    def _name_fault(self, world: World, rule: Rule) -> str:
        if not isinstance(rule.to, DnsName) or rule.fault:
            return ""
        families, resolvers = self.config.families, self.config.kubernetes.ovn_config_namespace
        fault = facts.name_fault(world, rule.to, families, resolvers)
        if not fault or fault == facts.PENDING:
            return fault
        known = facts.families_with_sets(world, rule.to, families)
        unknown = [family for family in families if family not in known]
        resolved = any(facts.addresses_of(world, rule.to, families, resolvers).values())
        if resolved and (rule.allow or not unknown):
            return ""
        which = f"IPv{unknown[0]} " if known and unknown else ""
        closed = f"; meanwhile it denies every {which}destination outside the cluster"
        return (
            f"dnsName {rule.to.text} has no {which if resolved else ''}addresses: {fault}"
            f"{closed if unknown and not rule.allow else ''}"
        )

    def _match_fault(self, world: World, rule: Rule) -> str:
        fault = matches.fault(facts.destination(world, rule, self.config) or "")
        closed = "" if rule.allow else "; it denies every destination outside the cluster"
        return f"OVN has no match for its destination: {fault}{closed}" if fault else ""

    def status(self, world: World, key: str) -> Iterable[Status | Event]:
        """One word for all zones, and Events that say what is wrong. Lines of zones that are gone go."""
        firewall = world.get(EGRESS_FIREWALLS, key)
        if firewall is None:
            return
        if firewall.name != facts.NAME:
            raise Reject(f"an EgressFirewall must be named {facts.NAME}; this one has no effect")
        mine = summary(dict(faults(firewall.rules)))
        if mine:
            yield Event(EGRESS_FIREWALLS, key, "InvalidRule", mine)
        said = {zone: text.strip() for zone, _, text in (text.partition(":") for text in firewall.messages)}
        zones = frozenset(facts.zones(world, self.config, self.scope))
        answers = [said.get(zone, "") for zone in zones]
        for text in sorted(set(answers)):
            reason = text.removeprefix(f"{NOT_APPLIED}: ")
            if reason not in (text, mine):
                yield Event(EGRESS_FIREWALLS, key, "RuleNotApplied", reason)
        for zone in sorted(zone for zone in said.keys() - zones if said[zone].startswith((APPLIED, NOT_APPLIED))):
            yield Status(EGRESS_FIREWALLS, key, {}, manager=zone)
        if any(answer.startswith(NOT_APPLIED) for answer in answers):
            yield Status(EGRESS_FIREWALLS, key, {"status": NOT_APPLIED})
        elif answers and all(answer == APPLIED for answer in answers):
            yield Status(EGRESS_FIREWALLS, key, {"status": APPLIED})


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
