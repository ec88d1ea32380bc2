"""Role zone: an ACL per rule, and the address sets of the names in rules."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import AclLogging, HookCalls
from ovnkit.api.identity import object_ids
from ovnkit.api.items import Ask, Row, Slot, Value
from ovnkit.api.matches import Match
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import Address
from ovnkit.api.world import World
from ovnkit.network import rows
from ovnkit.network.acl_logging import acl_logging
from ovnkit.network.acls import acl
from ovnkit_egress_firewall import facts, matches
from ovnkit_egress_firewall.dnsnames import DNS_ANSWERS, DnsName
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS

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

    # -- rules ----------------------------------------------------------------------------------------------

    def rules(self, world: World, key: str) -> Iterable[Row]:
        """The ACLs in order; the priority of a rule is its place. All of them change in one transaction."""
        rules = facts.rules_of(world, key)
        if rules is None:
            return
        namespace = key.partition("/")[0]
        logging = acl_logging(self.hooks, world, namespace)
        everywhere = matches.everywhere(facts.cluster_networks(self.config))
        for number, rule in enumerate(rules[: facts.MAX_RULES]):
            destination = facts.destination(world, rule, self.config)
            if destination is None or matches.fault(destination):
                # Nobody knows what the rule is about, or OVN has no match for it: an Allow opens nothing, a Deny
                # leaves nothing open.
                destination = "" if rule.allow else everywhere
            if destination:
                match = matches.rule(destination, namespace, rule.ports)
                yield _acl(namespace, number, rule.allow, match, logging)
        if any(not rule.allow for rule in rules[facts.MAX_RULES :]):
            match = matches.rule(everywhere, namespace, ())
            yield _acl(namespace, facts.MAX_RULES, False, match, logging)

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
        return not any(address in network for network in facts.cluster_networks(self.config))


def _acl(namespace: str, number: int, allow: bool, match: Match, logging: AclLogging) -> Row:
    ids = object_ids("EgressFirewall", ("k8s.ovn.org/name", namespace), ("rule-index", str(number)))
    return acl(
        f"rule-{number}",
        Slot("Port_Group", rows.namespace_port_group(namespace), "acls"),
        "to-lport",
        FIRST_PRIORITY - number,
        "allow" if allow else "drop",
        match,
        ids,
        shown=f"EF:{namespace}:{number}",
        logging=logging,
    )
