"""What the renderers of several roles need to know of firewalls, nodes and names, remembered by the core."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ovnkit.api.config import Config
from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Scope
from ovnkit.api.matches import Match, joined
from ovnkit.api.models import NODES
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Address, Network
from ovnkit.api.world import World, derived
from ovnkit.network.node import host_cidrs, is_unmanaged
from ovnkit_egress_firewall import matches
from ovnkit_egress_firewall.dnsnames import DNS_ANSWERS, DNS_NAME_RESOLVERS, DNS_SETS, DnsName, by_family
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS, Rule

NAME = "default"
"""The only name of an EgressFirewall that counts."""

MAX_RULES = 8000


def cluster_networks(config: Config) -> tuple[Network, ...]:
    """The cluster network, which firewalls never affect."""
    return tuple(subnet.network for subnet in config.default.cluster_subnets)


@derived
def rules_of(world: World, key: str) -> tuple[Rule, ...] | None:
    """The rules of a firewall, whatever its status says; None for one that doesn't count."""
    firewall = world.get(EGRESS_FIREWALLS, key)
    return firewall.rules if firewall is not None and firewall.name == NAME else None


@derived
def names_of(world: World, key: str) -> frozenset[DnsName]:
    """The names in the rules of a firewall."""
    rules = rules_of(world, key) or ()
    return frozenset(rule.to for rule in rules[:MAX_RULES] if isinstance(rule.to, DnsName) and not rule.fault)


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
    return tuple(sorted(found, key=by_family))


@derived
def families_with_sets(world: World, name: DnsName, families: Sequence[int]) -> tuple[int, ...]:
    """The IP versions whose address set of a name is in the northbound: a match may not name one that isn't."""
    return tuple(family for family in families if world.get(DNS_SETS, name.set_name(family)) is not None)


def destination(world: World, rule: Rule, config: Config) -> Match | str | None:
    """The destination's part of a rule's match: empty for one that matches nothing, None if nobody knows it.

    Of a name of which nobody knows the addresses of one IP version, a Deny closes that version altogether.
    """
    to = None if rule.fault else rule.to
    if isinstance(to, LabelSelector):
        return matches.at_addresses(node_addresses(world, to))
    if isinstance(to, DnsName):
        known = families_with_sets(world, to, config.families)
        closed = () if rule.allow else [family for family in config.families if family not in known]
        parts = matches.in_sets(to, known), matches.everywhere(cluster_networks(config), closed)
        return joined(" || ", filter(None, parts)) if known else None
    return matches.in_network(to, cluster_networks(config)) if to is not None else None


@derived
def addresses_of(
    world: World, name: DnsName, families: Sequence[int], resolvers: str
) -> Mapping[int, tuple[Address, ...]]:
    """The addresses of a name by IP version, without those about which nobody knows anything.

    What our resolver found (until then: what is in the northbound since before a restart), and what
    DNSNameResolver objects in the namespace `resolvers` say the cluster's DNS server gave out.
    """
    objects = [item for item in world.list(DNS_NAME_RESOLVERS, "name", name.text) if item.namespace == resolvers]
    given_out = {address for item in objects for address in item.addresses}
    found = {}
    for family in families:
        mine = None if name.is_wildcard else _resolved(world, name, family)
        if mine is not None or objects:
            all_of_it = given_out.union(mine or ())
            found[family] = tuple(sorted((a for a in all_of_it if a.version == family), key=by_family))
    return found


def _resolved(world: World, name: DnsName, family: int) -> Collection[Address] | None:
    answer = world.get(DNS_ANSWERS, name.text)
    if answer is not None and family in answer.known:
        return answer.addresses
    row = world.get(DNS_SETS, name.set_name(family))
    return None if row is None else row.addresses


PENDING = "it has not been looked up yet"


@derived
def name_fault(world: World, name: DnsName, families: Sequence[int], resolvers: str) -> str:
    """Why a name stands for no addresses, or nobody knows whether it has some of an IP version; `PENDING` as long
    as it is too early to say, or rows are missing."""
    addresses = addresses_of(world, name, families, resolvers)
    if families_with_sets(world, name, families) != tuple(addresses):
        return PENDING
    if any(addresses.values()) and len(addresses) == len(families):
        return ""
    if name.is_wildcard:
        return "no DNSNameResolver says what it stands for"
    answer = world.get(DNS_ANSWERS, name.text)
    if answer is not None and answer.fault:
        return answer.fault
    return PENDING if len(addresses) < len(families) else ""


def zones(world: World, config: Config, scope: Scope) -> Iterable[str]:
    """The zones there are."""
    if not scope.per_node_zones:
        return [config.default.zone or "global"]
    unmanaged = config.kubernetes.no_hostsubnet_selector
    return [name for name in world.keys(NODES) if not is_unmanaged(world, name, unmanaged)]
