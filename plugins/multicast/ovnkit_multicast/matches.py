"""OVN matches of multicast traffic; the names in them are hash names, `a` and digits."""

from __future__ import annotations

from collections.abc import Sequence

from ovnkit.api import rows
from ovnkit.api.identity import PRIMARY_ID, hash_name, object_ids
from ovnkit.api.nodenetwork import Address

DYNAMIC_V6 = "(ip6.dst[120..127] == 0xff && ip6.dst[116] == 1)"
"""Groups of ff00::/8 with the T bit: well-known groups (neighbour discovery) must never be filtered."""

ALL = f"(ip4.mcast || mldv1 || mldv2 || {DYNAMIC_V6})"
"""Any multicast, whatever families the cluster has."""


def from_pods(families: Sequence[int]) -> str:
    """What members and senders of an enabled namespace send."""
    return _either({4: "ip4.mcast", 6: f"(mldv1 || mldv2 || {DYNAMIC_V6})"}, families)


def to_pods(namespace: str, families: Sequence[int], hosts: Sequence[Address]) -> str:
    """What they may receive: membership protocols, and groups' traffic from pods and hosts of the namespace."""
    return _either(
        {
            4: f"(igmp || ({_senders(namespace, 4, hosts)} && ip4.mcast))",
            6: f"(mldv1 || mldv2 || ({_senders(namespace, 6, hosts)} && {DYNAMIC_V6}))",
        },
        families,
    )


def from_hosts(families: Sequence[int], hosts: Sequence[Address]) -> str:
    """Groups' traffic of hosts, by the addresses of their management ports."""
    group = hash_name(object_ids("Cluster", ("k8s.ovn.org/name", "clusterPortGroup"))[PRIMARY_ID])
    sources = _either(
        {
            4: f"({_is_source(4, hosts)} && ip4.mcast)",
            6: f"({_is_source(6, hosts)} && {DYNAMIC_V6})",
        },
        [family for family in families if any(host.version == family for host in hosts)],
    )
    return f"inport == @{group} && {sources}"


def cluster_router_group() -> str:
    """Name of the port group of the switches' router ports."""
    return hash_name(object_ids("Cluster", ("k8s.ovn.org/name", "clusterRtrPortGroup"))[PRIMARY_ID])


def _senders(namespace: str, family: int, hosts: Sequence[Address]) -> str:
    pods = f"ip{family}.src == ${rows.namespace_address_set_name(namespace, family)}"
    mine = [host for host in hosts if host.version == family]
    return f"({pods} || {_is_source(family, mine)})" if mine else pods


def _is_source(family: int, hosts: Sequence[Address]) -> str:
    listed = ", ".join(str(host) for host in hosts if host.version == family)
    return f"ip{family}.src == {{{listed}}}"


def _either(by_family: dict[int, str], families: Sequence[int]) -> str:
    parts = [by_family[family] for family in families]
    return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"
