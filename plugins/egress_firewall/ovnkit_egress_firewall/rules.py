"""Role zone: an ACL per rule, and the address sets of the names in rules."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api import rows
from ovnkit.api.acllogging import AclLogging, acl_columns, acl_logging
from ovnkit.api.config import Config
from ovnkit.api.hooks import HookCalls
from ovnkit.api.identity import object_ids
from ovnkit.api.items import Ask, Row, Slot, Value
from ovnkit.api.nodenetwork import Address, Network
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.world import World
from ovnkit_egress_firewall import facts, matches
from ovnkit_egress_firewall.dnsnames import DNS_ANSWERS, DnsName
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS, Rule

FIRST_PRIORITY = 10000


@frozen
class EgressRules:
    """The renderers of the rows."""

    config: Config
    hooks: HookCalls

    def renderers(self) -> Iterable[Renderer]:
        """One render per firewall, and one per name, however many firewalls have it."""
        yield Renderer("rules", Role.ZONE, self.rules, each=EGRESS_FIREWALLS)
        yield Renderer("name", Role.ZONE, self.name, each=self.names)

    @property
    def _cluster(self) -> tuple[Network, ...]:
        return tuple(subnet.network for subnet in self.config.default.cluster_subnets)

    # -- rules ----------------------------------------------------------------------------------------------

    def rules(self, world: World, key: str) -> Iterable[Row]:
        """The ACLs in order; the priority of a rule is its place. All of them change in one transaction."""
        rules = facts.rules_of(world, key)
        if rules is None:
            return
        namespace = key.partition("/")[0]
        logging = acl_logging(self.hooks, world, namespace)
        group = rows.namespace_port_group_name(namespace)
        for number, rule in enumerate(rules[: facts.MAX_RULES]):
            destination = self._destination(world, rule)
            if destination:
                match = matches.rule(destination, group, rule.ports)
                yield _acl(namespace, number, rule.allow, match, logging)
        if any(not rule.allow for rule in rules[facts.MAX_RULES :]):
            everything = matches.rule(matches.everywhere(self._cluster), group, ())
            yield _acl(namespace, facts.MAX_RULES, False, everything, logging)

    def _destination(self, world: World, rule: Rule) -> str:
        """The destination's part of the match; empty for a rule that matches nothing."""
        destination = None if rule.fault else rule.to
        if isinstance(destination, LabelSelector):
            return matches.at_addresses(facts.node_addresses(world, destination))
        if isinstance(destination, DnsName):
            known = facts.families_with_sets(world, destination, self.config.families)
            closed = () if rule.allow else [family for family in self.config.families if family not in known]
            if known:
                parts = matches.in_sets(destination, known), matches.everywhere(self._cluster, closed)
                return " || ".join(filter(None, parts))
        elif destination is not None:
            return matches.in_network(destination, self._cluster)
        # Nobody knows what the rule is about: an Allow opens nothing, a Deny leaves nothing open.
        return "" if rule.allow else matches.everywhere(self._cluster)

    # -- names ----------------------------------------------------------------------------------------------

    def names(self, world: World) -> Iterable[str]:
        """The names in rules of any firewall."""
        found = (facts.names_of(world, key) for key in world.keys(EGRESS_FIREWALLS))
        return {name.text for names in found for name in names}

    def name(self, world: World, key: str) -> Iterable[Ask | Row]:
        """The question to the resolver, and an address set per IP version about which anything is known.

        Addresses of the cluster network are left out: egress firewalls never affect traffic inside.
        """
        name = DnsName(key)
        if not name.is_wildcard:
            yield Ask(DNS_ANSWERS, key)
        families, resolvers = self.config.families, self.config.kubernetes.ovn_config_namespace
        addresses = facts.addresses_of(world, name, families, resolvers)
        for family, found in addresses.items():
            mine = frozenset(str(address) for address in found if self._is_outside(address))
            columns: dict[str, Value] = {
                "name": name.set_name(family),
                "addresses": mine,
                "external_ids": name.set_ids(family),
            }
            yield Row("Address_Set", f"v{family}", columns)

    def _is_outside(self, address: Address) -> bool:
        return not any(address in network for network in self._cluster)


def _acl(namespace: str, number: int, allow: bool, match: str, logging: AclLogging) -> Row:
    action = "allow" if allow else "drop"
    ids = object_ids("EgressFirewall", ("k8s.ovn.org/name", namespace), ("rule-index", str(number)))
    return Row(
        "ACL",
        f"rule-{number}",
        {
            "direction": "to-lport",
            "priority": FIRST_PRIORITY - number,
            "action": action,
            "match": match,
            "options": {},
            "tier": 2,
            "external_ids": ids,
            **acl_columns(f"EF:{namespace}:{number}", action, logging),
        },
        parent=Slot("Port_Group", rows.namespace_port_group(namespace), "acls"),
        optional=frozenset({"tier"}),
    )
