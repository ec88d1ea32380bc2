"""Role zone: an ACL per rule, and what this zone says in the status. Role cluster: the status of the whole."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api import rows
from ovnkit.api.acllogging import AclLogging, acl_columns, acl_logging
from ovnkit.api.config import Config
from ovnkit.api.errors import Reject
from ovnkit.api.hooks import HookCalls, Scope
from ovnkit.api.identity import object_ids
from ovnkit.api.items import Event, Row, Slot, Status
from ovnkit.api.models import NODES
from ovnkit.api.nodenetwork import Address, Network, host_cidrs, is_unmanaged
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.world import World, derived
from ovnkit_egress_firewall import matches
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS, EgressFirewall, Rule

NAME = "default"
"""The only name that counts."""

FIRST_PRIORITY = 10000
MAX_RULES = 8000
APPLIED = "EgressFirewall Rules applied"
NOT_APPLIED = "EgressFirewall Rules not correctly applied"
SHOWN = 5
"""Faults that a status message tells; it counts the others."""


@derived
def node_addresses(world: World, selector: LabelSelector) -> tuple[Address, ...]:
    """All addresses of the nodes that a selector selects; nodes whose annotation is nonsense count without."""
    found: set[Address] = set()
    for node in world.list(NODES):
        if not selector.matches(node.labels):
            continue
        try:
            found.update(interface.ip for interface in host_cidrs(world, node.name) or ())
        except Reject:
            continue
    return tuple(sorted(found, key=lambda address: (address.version, address)))


def faults(firewall: EgressFirewall) -> tuple[str, ...]:
    """What is wrong with the rules, one text for each that is."""
    found = tuple(f"rule {number}: {rule.fault}" for number, rule in enumerate(firewall.rules) if rule.fault)
    if len(firewall.rules) > MAX_RULES:
        found += (f"{len(firewall.rules)} rules are more than {MAX_RULES}; the others are not read",)
    return found


def _summary(found: tuple[str, ...]) -> str:
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


@frozen
class EgressRules:
    """The renderers of firewalls."""

    config: Config
    scope: Scope
    hooks: HookCalls

    def renderers(self) -> Iterable[Renderer]:
        """One render per firewall in each role."""
        yield Renderer("rules", Role.ZONE, self.render, each=EGRESS_FIREWALLS)
        yield Renderer("status", Role.CLUSTER, self.status, each=EGRESS_FIREWALLS)

    # -- zone -----------------------------------------------------------------------------------------------

    def render(self, world: World, key: str) -> Iterable[Row | Status]:
        """The ACLs in order; the priority of a rule is its place."""
        firewall = world.get(EGRESS_FIREWALLS, key)
        if firewall is None or firewall.name != NAME:
            return
        namespace = firewall.namespace
        logging = acl_logging(self.hooks, world, namespace)
        group = matches.namespace_group(namespace)
        for number, rule in enumerate(firewall.rules[:MAX_RULES]):
            destination = self._destination(world, rule)
            if destination:
                match = matches.rule(destination, group, rule.ports)
                yield _acl(namespace, number, rule.allow, match, logging)
        if any(not rule.allow for rule in firewall.rules[MAX_RULES:]):
            everything = matches.rule(matches.everywhere(self._cluster), group, ())
            yield _acl(namespace, MAX_RULES, False, everything, logging)
        found = faults(firewall)
        said = f"{NOT_APPLIED}: {_summary(found)}" if found else APPLIED
        others = [text for text in firewall.messages if self._is_of_other_zone(world, text)]
        yield Status(EGRESS_FIREWALLS, key, {"messages": sorted({*others, f"{self.scope.zone}: {said}"})})

    @property
    def _cluster(self) -> tuple[Network, ...]:
        return tuple(subnet.network for subnet in self.config.default.cluster_subnets)

    def _destination(self, world: World, rule: Rule) -> str:
        """The destination's part of the match; empty for a rule that matches nothing."""
        if rule.fault:
            return "" if rule.allow else matches.everywhere(self._cluster)
        if rule.network is not None:
            return matches.in_network(rule.network, self._cluster)
        assert rule.nodes is not None
        return matches.at_addresses(node_addresses(world, rule.nodes))

    def _is_of_other_zone(self, world: World, text: str) -> bool:
        zone = text.partition(":")[0]
        return zone != self.scope.zone and zone in self._zones(world)

    def _zones(self, world: World) -> Iterable[str]:
        if not self.scope.per_node_zones:
            return [self.config.default.zone or "global"]
        unmanaged = self.config.kubernetes.no_hostsubnet_selector
        return [name for name in world.keys(NODES) if not is_unmanaged(world, name, unmanaged)]

    # -- cluster --------------------------------------------------------------------------------------------

    def status(self, world: World, key: str) -> Iterable[Status | Event]:
        """One word for all zones, and an Event that says what is wrong."""
        firewall = world.get(EGRESS_FIREWALLS, key)
        if firewall is None:
            return
        if firewall.name != NAME:
            raise Reject(f"an EgressFirewall must be named {NAME}; this one has no effect")
        found = faults(firewall)
        if found:
            yield Event(EGRESS_FIREWALLS, key, "InvalidRule", _summary(found))
        said = {zone: text.strip() for zone, _, text in (text.partition(":") for text in firewall.messages)}
        answers = [said.get(zone, "") for zone in self._zones(world)]
        if any(answer.startswith(NOT_APPLIED) for answer in answers):
            yield Status(EGRESS_FIREWALLS, key, {"status": NOT_APPLIED})
        elif answers and all(answer == APPLIED for answer in answers):
            yield Status(EGRESS_FIREWALLS, key, {"status": APPLIED})


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
