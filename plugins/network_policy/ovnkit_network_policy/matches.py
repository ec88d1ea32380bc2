"""OVN matches, printed from types only: numbers, networks, and references to sets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ovnkit.api.matches import Match, any_of, joined
from ovnkit.api.text import Address, Network
from ovnkit_network_policy.peers import PodSet
from ovnkit_network_policy.rules import INGRESS, Block, Ports

ALLOW_PRIORITY = 1001
DENY_PRIORITY = 1000

Families = Sequence[int]


def port_clause(direction: str, group: Match) -> Match:
    """The port of a group that the packet goes to or comes from."""
    return f"{'outport' if direction == INGRESS else 'inport'} == " + group


def everyone(families: Families) -> Match:
    """Any packet of the cluster's IP versions."""
    return any_of(f"ip{family}" for family in families)


def from_addresses(sources: Iterable[tuple[int, Address]]) -> Match:
    """A packet from one of these addresses, given with their IP versions."""
    return any_of(f"ip{family}.src == {address}" for family, address in sources)


def in_sets(field: str, sets: Collection[PodSet], families: Families) -> Match:
    """A packet whose `field` (src or dst) is in one of the sets."""
    return any_of(_in_sets(f"ip{family}.{field}", sets, family) for family in families)


def _in_sets(field: str, sets: Collection[PodSet], family: int) -> Match:
    named = sorted((found.match(family) for found in sets), key=str)
    return f"{field} == {{" + joined(", ", named) + "}"


def in_blocks(field: str, blocks: Sequence[Block]) -> Match:
    """A packet whose `field` is in one of the blocks."""
    return any_of(_in_block(field, block) for block in blocks)


def _in_block(field: str, block: Block) -> str:
    family = block.network.version
    # OVN takes a comparison with a mask of zero bits for true, whatever the packet's family.
    inside = f"ip{family}.{field} == {block.network}" if block.network.prefixlen else f"ip{family}"
    if not block.excepts:
        return inside
    if any(not network.prefixlen for network in block.excepts):
        return "0"
    return f"({inside} && ip{family}.{field} != {{{_list(block.excepts)}}})"


def _list(values: Iterable[Network | int]) -> str:
    texts = [str(value) for value in values]
    return ", ".join(texts)


def layer4(ports: Ports) -> str:
    """The protocol and its ports by number; empty when there are only names."""
    protocol = ports.protocol.lower()
    if ports.whole:
        return protocol
    parts = []
    if len(ports.numbers) == 1:
        parts.append(f"{protocol}.dst=={next(iter(ports.numbers))}")
    elif ports.numbers:
        parts.append(f"{protocol}.dst=={{{','.join(map(str, sorted(ports.numbers)))}}}")
    parts += [f"{first}<={protocol}.dst<={last}" for first, last in sorted(ports.ranges)]
    return f"{protocol} && {any_of(parts)}" if parts else ""
