"""The sets and groups of the default network that matches name, as names with their references."""

from __future__ import annotations

from ovnkit.api.identity import PRIMARY_ID, RowId, hash_name
from ovnkit.api.matches import Match, address_set, port_group
from ovnkit.network import names, rows


def namespace_address_set(namespace: str, family: int) -> Match:
    """The addresses of a namespace's pods, of IP version `family`."""
    name = rows.namespace_address_set_name(namespace, family)
    return address_set(name, rows.namespace_address_set(namespace, family))


def namespace_port_group(namespace: str) -> Match:
    """The ports of a namespace's pods in this zone."""
    return port_group(rows.namespace_port_group_name(namespace), rows.namespace_port_group(namespace))


def cluster_port_group() -> Match:
    """The ports of the management ports."""
    return _cluster_group(names.CLUSTER_PORT_GROUP, rows.cluster_port_group())


def cluster_router_port_group() -> Match:
    """The switches' router ports."""
    return _cluster_group(names.CLUSTER_ROUTER_PORT_GROUP, rows.cluster_router_port_group())


def _cluster_group(name: str, row: RowId) -> Match:
    return port_group(hash_name(rows.cluster_group_ids(name)[PRIMARY_ID]), row)
