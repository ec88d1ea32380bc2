"""A policy compiled: typed peers and ports of each rule, and what is wrong with the rest.

What can't be understood allows nothing: a peer or a port that is wrong is left out, and a rule that named peers
(or ports) of which none is left allows nobody, not everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Network, check_port, parse_network, quoted
from ovnkit.network.policies import STATELESS, IpBlock, NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule
from ovnkit_network_policy.peers import PodSet

INGRESS, EGRESS = "Ingress", "Egress"
PROTOCOLS = ("TCP", "UDP", "SCTP")

_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)


@frozen
class Block:
    """A network without some parts of it."""

    network: Network
    excepts: tuple[Network, ...] = ()


@frozen
class Ports:
    """The ports of one protocol that a rule allows; `whole`: all of them."""

    protocol: str
    whole: bool = False
    numbers: frozenset[int] = frozenset()
    ranges: frozenset[tuple[int, int]] = frozenset()
    names: frozenset[str] = frozenset()


@frozen
class Rule:
    """One rule. `everyone`: it names no peers. `ports` None: it names no ports, every protocol is allowed."""

    everyone: bool
    sets: tuple[PodSet, ...] = ()
    blocks: tuple[Block, ...] = ()
    ports: tuple[Ports, ...] | None = None


@frozen
class Policy:
    """A compiled policy; `ingress` and `egress` are None where it doesn't isolate. `faults` are for its author."""

    namespace: str
    name: str
    pods: LabelSelector
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None
    stateless: bool
    faults: tuple[str, ...]

    @property
    def directions(self) -> Iterable[tuple[str, tuple[Rule, ...]]]:
        """The directions it isolates, with their rules."""
        if self.ingress is not None:
            yield INGRESS, self.ingress
        if self.egress is not None:
            yield EGRESS, self.egress


def compile_policy(policy: NetworkPolicy) -> Policy:
    """The policy with everything typed. One whose own selector is wrong isolates, and allows nothing."""
    faults: list[str] = []
    if policy.fault:
        faults.append(f"spec.podSelector: {policy.fault}; its rules allow nothing")

    def rules(field: str, found: tuple[PolicyRule, ...] | None) -> tuple[Rule, ...] | None:
        if found is None:
            return None
        typed = tuple(
            _rule(rule, policy.namespace, f"spec.{field}[{index}]", faults) for index, rule in enumerate(found)
        )
        return () if policy.fault else typed

    return Policy(
        policy.namespace,
        policy.name,
        policy.pods,
        rules("ingress", policy.ingress),
        rules("egress", policy.egress),
        policy.annotations.get(STATELESS) == "true",
        tuple(faults),
    )


def _rule(rule: PolicyRule, namespace: str, path: str, faults: list[str]) -> Rule:
    if rule.fault:
        faults.append(f"{path}: {rule.fault}")
        return Rule(everyone=False)
    sets: dict[PodSet, None] = {}
    blocks: dict[Block, None] = {}
    for index, peer in enumerate(rule.peers):
        try:
            found = _peer(peer, namespace)
        except ValueError as error:
            faults.append(f"{path} peer {index}: {error}")
            continue
        if isinstance(found, Block):
            blocks[found] = None
        else:
            sets[found] = None
    ports = _ports(rule.ports, path, faults) if rule.ports else None
    return Rule(not rule.peers, tuple(sets), tuple(blocks), ports)


def _peer(peer: PolicyPeer, namespace: str) -> PodSet | Block:
    if peer.fault:
        raise ValueError(peer.fault)
    if peer.block is not None:
        if peer.pods is not None or peer.namespaces is not None:
            raise ValueError("ipBlock together with a selector")
        return _block(peer.block)
    if peer.pods is None and peer.namespaces is None:
        raise ValueError("it is empty, and matches nobody")
    place = namespace if peer.namespaces is None else peer.namespaces
    return PodSet(place, peer.pods or LabelSelector(), legacy=peer.pods is None)


def _block(block: IpBlock) -> Block:
    network = parse_network(block.cidr)
    excepts = [parse_network(text) for text in block.excepts]
    for text, found in zip(block.excepts, excepts, strict=True):
        if found.version != network.version:
            raise ValueError(f"except {quoted(text)} is not of the family of {block.cidr}")
    return Block(network, tuple(dict.fromkeys(excepts)))


def _ports(ports: Iterable[PolicyPort], path: str, faults: list[str]) -> tuple[Ports, ...]:
    found: dict[str, list[PolicyPort]] = {}
    for index, port in enumerate(ports):
        try:
            found.setdefault(port.protocol, []).append(_port(port))
        except ValueError as error:
            faults.append(f"{path} port {index}: {error}")
    return tuple(_merged(protocol, found[protocol]) for protocol in PROTOCOLS if protocol in found)


def _port(port: PolicyPort) -> PolicyPort:
    """The same port if it makes sense; raises ValueError."""
    if port.protocol not in PROTOCOLS:
        raise ValueError(f"protocol {quoted(port.protocol)} is not one of {', '.join(PROTOCOLS)}")
    if port.end_port is not None:
        if not isinstance(port.port, int):
            raise ValueError("endPort needs a numeric port")
        if check_port(port.end_port) < check_port(port.port):
            raise ValueError(f"{port.port}-{port.end_port} is not a range of ports")
    if isinstance(port.port, str) and not _PORT_NAME.fullmatch(port.port):
        raise ValueError(f"{quoted(port.port)} is not the name of a port")
    if port.port is not None and not isinstance(port.port, str):
        check_port(port.port)
    return port


def _merged(protocol: str, ports: Iterable[PolicyPort]) -> Ports:
    numbers, ranges, names, whole = set(), set(), set(), False
    for port in ports:
        if port.port is None:
            whole = True
        elif isinstance(port.port, str):
            names.add(port.port)
        elif port.end_port is None or port.end_port == port.port:
            numbers.add(port.port)
        else:
            ranges.add((port.port, port.end_port))
    return Ports(protocol, whole, frozenset(numbers), frozenset(ranges), frozenset(names))
