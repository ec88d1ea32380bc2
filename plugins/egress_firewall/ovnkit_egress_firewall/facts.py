"""What the renderers of several roles need to know of firewalls, nodes and names, remembered by the core."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ovnkit.api.config import Config
from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Scope
from ovnkit.api.matches import Match
from ovnkit.api.models import NODES
from ovnkit.api.nodenetwork import Address, Network, host_cidrs, is_unmanaged
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.world import World, derived
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
def sets_exist(world: World, name: DnsName, families: Sequence[int]) -> bool:
    """Whether the address sets of a name are in the northbound. Until then a Deny closes more than them."""
    return all(world.get(DNS_SETS, name.set_name(family)) is not None for family in families)


def destination(world: World, rule: Rule, config: Config) -> Match | str | None:
    """The destination's part of a rule's match: empty for one that matches nothing, None if nobody knows it."""
    to = None if rule.fault else rule.to
    if isinstance(to, LabelSelector):
        return matches.at_addresses(node_addresses(world, to))
    if isinstance(to, DnsName):
        return matches.in_sets(to, config.families) if sets_exist(world, to, config.families) else None
    return matches.in_network(to, cluster_networks(config)) if to is not None else None


@derived
def addresses_of(
    world: World, name: DnsName, families: Sequence[int], resolvers: str
) -> tuple[Address, ...] | None:
    """The addresses of a name; None as long as nobody knows.

    What our resolver found (until then: what is in the northbound since before a restart), and what
    DNSNameResolver objects in the namespace `resolvers` say the cluster's DNS server gave out.
    """
    objects = [item for item in world.list(DNS_NAME_RESOLVERS, "name", name.text) if item.namespace == resolvers]
    mine = None if name.is_wildcard else _resolved(world, name, families)
    if mine is None and not objects:
        return None
    found = {address for item in objects for address in item.addresses}.union(mine or ())
    return tuple(sorted(found, key=by_family))


def _resolved(world: World, name: DnsName, families: Sequence[int]) -> Collection[Address] | None:
    answer = world.get(DNS_ANSWERS, name.text)
    if answer is not None and answer.known:
        return answer.addresses
    rows = [world.get(DNS_SETS, name.set_name(family)) for family in families]
    return None if None in rows else [address for row in rows if row is not None for address in row.addresses]


PENDING = "it has not been looked up yet"


@derived
def name_fault(world: World, name: DnsName, families: Sequence[int], resolvers: str) -> str:
    """Why a name stands for no addresses; `PENDING` as long as it is too early to say, or rows are missing."""
    addresses = addresses_of(world, name, families, resolvers)
    if addresses is not None and not sets_exist(world, name, families):
        return PENDING
    if addresses:
        return ""
    if name.is_wildcard:
        return "no DNSNameResolver says what it stands for"
    answer = world.get(DNS_ANSWERS, name.text)
    return answer.fault if answer is not None else PENDING if addresses is None else ""


def zones(world: World, config: Config, scope: Scope) -> Iterable[str]:
    """The zones there are."""
    if not scope.per_node_zones:
        return [config.default.zone or "global"]
    unmanaged = config.kubernetes.no_hostsubnet_selector
    return [name for name in world.keys(NODES) if not is_unmanaged(world, name, unmanaged)]
