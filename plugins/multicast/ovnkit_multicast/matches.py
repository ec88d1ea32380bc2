"""OVN matches of multicast traffic; the names in them are hash names, `a` and digits."""

from __future__ import annotations

from collections.abc import Sequence

from ovnkit.api.identity import PRIMARY_ID, hash_name, object_ids

DYNAMIC_V6 = "(ip6.dst[120..127] == 0xff && ip6.dst[116] == 1)"
"""Groups of ff00::/8 with the T bit: well-known groups (neighbour discovery) must never be filtered."""

ALL = f"(ip4.mcast || mldv1 || mldv2 || {DYNAMIC_V6})"
"""Any multicast, whatever families the cluster has."""


def from_pods(families: Sequence[int]) -> str:
    """What members and senders of an enabled namespace send."""
    return _either({4: "ip4.mcast", 6: f"(mldv1 || mldv2 || {DYNAMIC_V6})"}, families)


def to_pods(namespace: str, families: Sequence[int]) -> str:
    """What they may receive: membership protocols, and groups' traffic from pods of the same namespace."""
    return _either(
        {
            4: f"(igmp || (ip4.src == ${_address_set(namespace, 4)} && ip4.mcast))",
            6: f"(mldv1 || mldv2 || (ip6.src == ${_address_set(namespace, 6)} && {DYNAMIC_V6}))",
        },
        families,
    )


def namespace_group(namespace: str) -> str:
    """Name of the port group of a namespace's pods."""
    return hash_name(object_ids("Namespace", ("k8s.ovn.org/name", namespace))[PRIMARY_ID])


def cluster_router_group() -> str:
    """Name of the port group of the switches' router ports."""
    return hash_name(object_ids("Cluster", ("k8s.ovn.org/name", "clusterRtrPortGroup"))[PRIMARY_ID])


def _address_set(namespace: str, family: int) -> str:
    ids = object_ids("Namespace", ("k8s.ovn.org/name", namespace), ("ip-family", f"v{family}"))
    return hash_name(ids[PRIMARY_ID])


def _either(by_family: dict[int, str], families: Sequence[int]) -> str:
    parts = [by_family[family] for family in families]
    return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"
