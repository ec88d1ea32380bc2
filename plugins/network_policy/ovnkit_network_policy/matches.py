"""OVN matches, printed from types only: numbers, networks, and names of sets that are `a` and digits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ovnkit.api.nodenetwork import Address
from ovnkit_network_policy.peers import PodSet
from ovnkit_network_policy.rules import INGRESS, Block, Network, Ports

ALLOW_PRIORITY = 1001
DENY_PRIORITY = 1000
TIER = 2

Families = Sequence[int]


def port_clause(direction: str, group: str) -> str:
    """The port of a group that the packet goes to or comes from."""
    return f"{'outport' if direction == INGRESS else 'inport'} == @{group}"


def everyone(families: Families) -> str:
    """Any packet of the cluster's IP versions."""
    return _either([f"ip{family}" for family in families])


def from_addresses(sources: Iterable[tuple[int, Address]]) -> str:
    """A packet from one of these addresses, given with their IP versions."""
    return _either([f"ip{family}.src == {address}" for family, address in sources])


def in_sets(field: str, sets: Collection[PodSet], families: Families) -> str:
    """A packet whose `field` (src or dst) is in one of the sets."""
    return _either(
        [
            f"ip{family}.{field} == {{{', '.join(sorted(f'${found.name(family)}' for found in sets))}}}"
            for family in families
        ]
    )


def in_blocks(field: str, blocks: Sequence[Block]) -> str:
    """A packet whose `field` is in one of the blocks."""
    return _either([_in_block(field, block) for block in blocks])


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
    return f"{protocol} && {_either(parts)}" if parts else ""


def joined(*parts: str) -> str:
    """All of the parts that say something."""
    return " && ".join(part for part in parts if part)


def _either(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"
