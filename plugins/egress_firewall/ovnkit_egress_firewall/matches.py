"""OVN matches of rules, printed from types only: networks, addresses, numbers, and references to sets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from ovnkit.api.matches import Match, all_of, joined, syntax
from ovnkit.api.text import Address, Network
from ovnkit.network.matches import namespace_port_group
from ovnkit_egress_firewall.dnsnames import DnsName, by_family
from ovnkit_egress_firewall.models import PROTOCOLS, RulePort

EVERYTHING: tuple[Network, Network] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def in_network(network: Network, cluster: Sequence[Network]) -> str:
    """A destination in a network, but not in the parts of the cluster network that touch it."""
    field = f"ip{network.version}.dst"
    inside = [part for part in cluster if part.version == network.version and part.overlaps(network)]
    excluded = "&&".join(f"{field} != {part}" for part in inside)
    if excluded:
        return f"{field} == {network} && {excluded}"
    # OVN takes a comparison with a mask of zero bits for true, whatever the packet's family.
    return f"{field} == {network}" if network.prefixlen else f"ip{network.version}"


def everywhere(cluster: Sequence[Network], families: Collection[int] = (4, 6)) -> str:
    """Any destination outside the cluster network, of these IP versions."""
    return " || ".join(f"({in_network(net, cluster)})" for net in EVERYTHING if net.version in families)


def at_addresses(addresses: Iterable[Address]) -> str:
    """A destination that is one of these."""
    ordered = sorted(set(addresses), key=by_family)
    return " || ".join(f"ip{address.version}.dst == {address}" for address in ordered)


def in_sets(name: DnsName, families: Iterable[int]) -> Match:
    """A destination that is one of a name's addresses."""
    return joined(" || ", (f"ip{family}.dst == " + name.match(family) for family in families))


def fault(match: Match | str) -> str:
    """Why OVN has no match like this; empty when it has."""
    return syntax.fault(str(match)) if match else ""


def to_ports(ports: Sequence[RulePort]) -> str:
    """One of these ports: udp, tcp, sctp; empty without ports."""
    parts = []
    for protocol in PROTOCOLS:
        numbers = list(dict.fromkeys(port.port for port in ports if port.protocol == protocol))
        if numbers:
            name = protocol.lower()
            parts.append(f"({name} && ( {' || '.join(f'{name}.dst == {number}' for number in numbers)} ))")
    return f"({' || '.join(parts)})" if parts else ""


def rule(destination: Match | str, namespace: str, ports: Sequence[RulePort]) -> Match:
    """The whole match of a rule for the pods of a namespace."""
    pods = "inport == " + namespace_port_group(namespace)
    return all_of(joined("", ("(", destination, ")")), pods, to_ports(ports))
