"""OVN matches of multicast traffic."""

from __future__ import annotations

from collections.abc import Sequence

from ovnkit.api.matches import Match, any_of
from ovnkit.api.text import Address
from ovnkit.network.matches import cluster_port_group, namespace_address_set

DYNAMIC_V6 = "(ip6.dst[120..127] == 0xff && ip6.dst[116] == 1)"
"""Groups of ff00::/8 with the T bit: well-known groups (neighbour discovery) must never be filtered."""

ALL = f"(ip4.mcast || mldv1 || mldv2 || {DYNAMIC_V6})"
"""Any multicast, whatever families the cluster has."""

_SENT = {4: "ip4.mcast", 6: f"(mldv1 || mldv2 || {DYNAMIC_V6})"}
_GROUPS = {4: "ip4.mcast", 6: DYNAMIC_V6}
_MEMBERSHIP = {4: "igmp", 6: "mldv1 || mldv2"}


def from_pods(families: Sequence[int]) -> Match:
    """What members and senders of an enabled namespace send."""
    return any_of(_SENT[family] for family in families)


def to_pods(namespace: str, families: Sequence[int], hosts: Sequence[Address]) -> Match:
    """What they may receive: membership protocols, and groups' traffic from pods and hosts of the namespace."""
    return any_of(
        f"({_MEMBERSHIP[family]} || (" + _senders(namespace, family, hosts) + f" && {_GROUPS[family]}))"
        for family in families
    )


def from_hosts(families: Sequence[int], hosts: Sequence[Address]) -> Match:
    """Groups' traffic of hosts, by the addresses of their management ports."""
    sent = any_of(f"({source} && {_GROUPS[v]})" for v in families if (source := _is_source(v, hosts)))
    return "inport == " + cluster_port_group() + " && " + sent


def _senders(namespace: str, family: int, hosts: Sequence[Address]) -> Match:
    pods = f"ip{family}.src == " + namespace_address_set(namespace, family)
    return any_of(part for part in (pods, _is_source(family, hosts)) if part)


def _is_source(family: int, hosts: Sequence[Address]) -> str:
    listed = ", ".join(str(host) for host in hosts if host.version == family)
    return f"ip{family}.src == {{{listed}}}" if listed else ""
