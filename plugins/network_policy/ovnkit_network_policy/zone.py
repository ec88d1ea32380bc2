"""Role zone: the port group and ACLs of each policy, the default deny of its namespace, the sets of its peers."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import AclLogging, HookCalls, Scope
from ovnkit.api.identity import PRIMARY_ID, RowId, hash_name, object_ids
from ovnkit.api.items import Event, Member, Row
from ovnkit.api.live import LiveSet
from ovnkit.api.matches import Match, all_of, port_group
from ovnkit.api.models import NAMESPACES, PODS, Pod
from ovnkit.api.renderers import KeysOf, Renderer, Role
from ovnkit.api.selectors import EVERYTHING, LabelSelector, SelectorIndex
from ovnkit.api.world import World, derived
from ovnkit.network.acl_logging import OFF, acl_logging
from ovnkit.network.acls import Action
from ovnkit.network.pod_addresses import InZone, port_references
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit_network_policy import matches
from ovnkit_network_policy.acls import acl_row, group_row
from ovnkit_network_policy.clauses import Clause, clauses
from ovnkit_network_policy.hosts import hairpin, host_members, still_blocked
from ovnkit_network_policy.options import NetworkPolicyOptions
from ovnkit_network_policy.peers import PodSet
from ovnkit_network_policy.rules import EGRESS, INGRESS, Policy, compile_policy

DIRECTIONS = (INGRESS, EGRESS)


@frozen(cache_hash=True)
class Isolated:
    """Whether a pod of this zone matches one of the selectors; a namespace has as many as policies."""

    zone: InZone
    selectors: frozenset[LabelSelector]
    _index: SelectorIndex[LabelSelector] = field(init=False, eq=False, factory=SelectorIndex)

    def __attrs_post_init__(self) -> None:
        for selector in self.selectors:
            self._index.add(selector, selector)

    def __call__(self, pod: Pod) -> bool:
        """Whether it does."""
        return self.zone(pod) and next(iter(self._index.matching(pod.labels)), None) is not None


@derived
def compiled(world: World, key: str) -> Policy | None:
    """A policy with everything typed."""
    found = world.get(NETWORK_POLICIES, key)
    return compile_policy(found) if found is not None else None


@derived
def policy_clauses(
    world: World, key: str, families: tuple[int, ...]
) -> tuple[tuple[str, int, tuple[Clause, ...]], ...]:
    """The clauses of each rule of a policy: (direction, rule number, clauses)."""
    policy = compiled(world, key)
    if policy is None:
        return ()
    return tuple(
        (direction, index, tuple(clauses(world, policy, direction, rule, families)))
        for direction, rules in policy.directions
        for index, rule in enumerate(rules)
    )


@derived
def isolating(world: World, namespace: str, direction: str) -> frozenset[LabelSelector]:
    """Selectors of the pods that a namespace's policies isolate in a direction."""
    found = set()
    for view in world.list(NETWORK_POLICIES, "namespace", namespace):
        policy = compiled(world, view.key)
        if policy is not None and direction in dict(policy.directions):
            found.add(policy.pods)
    return frozenset(found)


def _namespace_of(_world: World, policy: str) -> Iterable[str]:
    return (policy.partition("/")[0],)


@frozen
class Policies:
    """The renderers of the zone role."""

    config: Config
    scope: Scope
    options: NetworkPolicyOptions
    hooks: HookCalls

    def renderers(self) -> Iterable[Renderer]:
        """One per policy, per namespace with policies, and per distinct set of peers."""
        yield Renderer("policy", Role.ZONE, self.policy, each=NETWORK_POLICIES)
        namespaces = KeysOf(NETWORK_POLICIES, _namespace_of)
        yield Renderer("deny", Role.ZONE, self.deny, each=namespaces, subject=NAMESPACES)
        yield Renderer("peers", Role.ZONE, self.peers, each=KeysOf(NETWORK_POLICIES, self.sets))
        yield Renderer("default", Role.ZONE, self.default)

    # -- a policy -----------------------------------------------------------------------------------------------

    def policy(self, world: World, key: str) -> Iterable[Row | Event]:
        """The port group of the pods it selects, and an ACL for each clause of its rules."""
        policy = compiled(world, key)
        if policy is None:
            return
        for fault in policy.faults:
            yield Event(NETWORK_POLICIES, key, "InvalidRule", fault)
        name = f"{policy.namespace}:{policy.name}"
        ids = object_ids("NetworkPolicy", ("k8s.ovn.org/name", name))
        group = RowId("network_policy", "policy", key, "group")
        ports = LiveSet(PODS, port_references, policy.pods, policy.namespace, where=InZone(self.scope))
        yield group_row(group, ids, ports)
        logging = acl_logging(self.hooks, world, policy.namespace)
        action: Action = "allow-related"
        if policy.stateless and self.options.enable_stateless_netpol:
            action = "allow-stateless"
        named = port_group(hash_name(ids[PRIMARY_ID]), group)
        for direction, index, listed in policy_clauses(world, key, self.config.families):
            own = matches.port_clause(direction, named)
            for clause in listed:
                yield acl_row(
                    group,
                    f"{direction}-{index}-{clause.protocol}-{clause.block}",
                    direction,
                    matches.ALLOW_PRIORITY,
                    action,
                    all_of(clause.match, own),
                    object_ids(
                        "NetworkPolicy",
                        ("k8s.ovn.org/name", name),
                        ("direction", direction),
                        ("gress-index", str(index)),
                        ("port-policy-protocol", clause.protocol),
                        ("ip-block-index", clause.block),
                    ),
                    f"NP:{policy.namespace}:{policy.name}:{direction}:{index}",
                    logging,
                )

    def default(self, _world: World, _key: str) -> Iterable[Row]:
        """ACLs that hold whatever policies there are."""
        yield from hairpin(self.config)
        yield from still_blocked()

    # -- the default deny of a namespace --------------------------------------------------------------------------

    def deny(self, world: World, namespace: str) -> Iterable[Row]:
        """A port group per direction with the pods that are isolated, and the ACLs that isolate them."""
        logging = acl_logging(self.hooks, world, namespace)
        for direction in DIRECTIONS:
            ids = object_ids("NetpolNamespace", ("k8s.ovn.org/name", namespace), ("direction", direction))
            group = RowId("network_policy", "deny", namespace, direction)
            selectors = isolating(world, namespace, direction)
            isolated = Isolated(InZone(self.scope), selectors)
            yield group_row(
                group,
                ids,
                LiveSet(PODS, port_references, EVERYTHING, namespace, where=isolated) if selectors else None,
            )
            own = matches.port_clause(direction, port_group(hash_name(ids[PRIMARY_ID]), group))
            yield self._deny_acl(group, namespace, direction, "defaultDeny", own, logging)
            arp = all_of(own, "(arp || nd)")
            yield self._deny_acl(group, namespace, direction, "arpAllow", arp, OFF)
            if self.options.allow_icmp_network_policy:
                icmp = all_of(own, "(icmp || icmp6)")
                yield self._deny_acl(group, namespace, direction, "icmpAllow", icmp, OFF)

    def _deny_acl(
        self, group: RowId, namespace: str, direction: str, kind: str, match: Match, logging: AclLogging
    ) -> Row:
        deny = kind == "defaultDeny"
        return acl_row(
            group,
            f"{direction}-{kind}",
            direction,
            matches.DENY_PRIORITY if deny else matches.ALLOW_PRIORITY,
            "drop" if deny else "allow",
            match,
            object_ids(
                "NetpolNamespace", ("k8s.ovn.org/name", namespace), ("direction", direction), ("type", kind)
            ),
            f"NP:{namespace}:{direction}",
            logging,
        )

    # -- the sets of peers --------------------------------------------------------------------------------------

    def sets(self, world: World, policy: str) -> Iterable[str]:
        """Keys of the sets that a policy names."""
        return {
            found.key
            for _, _, listed in policy_clauses(world, policy, self.config.families)
            for clause in listed
            for found in clause.sets
        }

    def peers(self, world: World, key: str) -> Iterable[Row | Member]:
        """An address set per family; the core keeps the addresses up to date."""
        pods = PodSet.parse(key)
        for family in self.config.families:
            row = pods.row(family)
            yield Row(
                "Address_Set",
                row.name,
                {
                    "name": pods.name(family),
                    "addresses": pods.addresses(family),
                    "external_ids": pods.ids(family),
                },
            )
            yield from host_members(world, self.config, pods, row, family)
