"""The clauses of a rule: one match for each ACL it becomes, with what tells the ACLs apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from ovnkit.api.matches import Match, all_of
from ovnkit.api.selectors import EVERYTHING
from ovnkit.api.world import World
from ovnkit_network_policy import matches
from ovnkit_network_policy.named import with_port
from ovnkit_network_policy.peers import PodSet
from ovnkit_network_policy.rules import INGRESS, Policy, Ports, Rule

SELECTORS, BLOCKS = "-1", "-2"
"""`ip-block-index` of the ACL for selector peers (or no peers), and of the one for address blocks."""

ANYWHERE = PodSet(EVERYTHING)


@frozen
class Clause:
    """One ACL: its match without the port group, the sets it names, and the ids that make it unique."""

    match: Match
    sets: frozenset[PodSet]
    protocol: str
    block: str


def clauses(world: World, policy: Policy, direction: str, rule: Rule, families: Sequence[int]) -> Iterable[Clause]:
    """All clauses of a rule. A rule that named peers of which none is left has none: it allows nobody."""
    field = "src" if direction == INGRESS else "dst"
    if rule.everyone:
        yield from _ports(
            world, policy, direction, rule, matches.everyone(families), frozenset(), SELECTORS, families
        )
    if rule.sets:
        peers = matches.in_sets(field, rule.sets, families)
        yield from _ports(world, policy, direction, rule, peers, frozenset(rule.sets), SELECTORS, families)
    blocks = tuple(block for block in rule.blocks if block.network.version in families)
    if blocks:
        peers = matches.in_blocks(field, blocks)
        yield from _ports(world, policy, direction, rule, peers, frozenset(), BLOCKS, families)


def _ports(
    world: World,
    policy: Policy,
    direction: str,
    rule: Rule,
    peers: Match,
    sets: frozenset[PodSet],
    block: str,
    families: Sequence[int],
) -> Iterable[Clause]:
    if rule.ports is None:
        yield Clause(peers, sets, "None", block)
        return
    for ports in rule.ports:
        numbered = matches.layer4(ports)
        if numbered:
            yield Clause(all_of(peers, numbered), sets, ports.protocol.lower(), block)
        for name in sorted(ports.names) if not ports.whole else ():
            for named in _destinations(world, policy, direction, rule, block, ports, name):
                assert named.port is not None
                number = matches.layer4(Ports(ports.protocol, numbers=frozenset({named.port.number})))
                target = matches.in_sets("dst", [named], families)
                # For egress from a set of peers the set with the port is itself the peer.
                others = peers if direction == INGRESS or block == BLOCKS else ""
                used = sets | {named} if others else frozenset({named})
                ids = f"{ports.protocol.lower()}-{name}-{named.port.number}-{named.name(4)}"
                yield Clause(all_of(others, target, number), used, ids, block)


def _destinations(
    world: World, policy: Policy, direction: str, rule: Rule, block: str, ports: Ports, name: str
) -> Iterable[PodSet]:
    """The pods a named port is looked up in: the policy's own for ingress, the peers for egress."""
    if direction == INGRESS:
        places: Sequence[PodSet] = (PodSet(policy.namespace, policy.pods),)
    elif block == BLOCKS or rule.everyone:
        places = (ANYWHERE,)
    else:
        places = rule.sets
    for place in places:
        yield from with_port(world, place, name, ports.protocol)
