"""What a zone says in the status of firewalls."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.items import Status
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit_egress_firewall import facts, matches
from ovnkit_egress_firewall.dnsnames import DnsName
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS, Rule
from ovnkit_egress_firewall.status import APPLIED, NOT_APPLIED, faults, summary


@frozen
class ZoneMessages:
    """The renderer of this zone's line in each firewall's status."""

    config: Config
    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """One render per firewall."""
        yield Renderer("message", Role.ZONE, self.message, each=EGRESS_FIREWALLS)

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
