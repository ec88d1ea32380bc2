"""What policies never forbid or name by address: pods that reach themselves, and the cluster's hosts."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.config import Config
from ovnkit.api.identity import RowId, object_ids
from ovnkit.api.items import Member, Row, Slot
from ovnkit.api.models import NAMESPACES, NODES
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Address
from ovnkit.api.world import World, derived
from ovnkit.network import rows
from ovnkit.network.acls import TIER
from ovnkit.network.hosts import management_addresses
from ovnkit.network.masquerade import Masquerade, masquerade_address
from ovnkit.network.node import gateway_router_join_address, node_id
from ovnkit_network_policy import matches
from ovnkit_network_policy.acls import acl_row
from ovnkit_network_policy.peers import PodSet
from ovnkit_network_policy.rules import EGRESS, INGRESS

HAIRPIN = "allow-hairpinning"


def hairpin(config: Config) -> Iterable[Row]:
    """A pod reaches itself through a service, whatever policies say: its load balancers give it this source.

    The ACLs have no port clause; they hold for all ports of the switches that the group has a port of.
    """
    sources = [
        (family, masquerade_address(config.masquerade_subnet(family), Masquerade.HAIRPIN).ip)
        for family in config.families
    ]
    for direction in (INGRESS, EGRESS):
        yield acl_row(
            rows.cluster_port_group(),
            f"hairpin-{direction}",
            direction,
            matches.ALLOW_PRIORITY,
            "allow-related",
            matches.from_addresses(sources),
            object_ids("NetpolDefault", ("k8s.ovn.org/name", HAIRPIN), ("direction", direction)),
            f"NetpolDefault:{HAIRPIN}:{direction}",
        )


def still_blocked() -> Iterable[Row]:
    """What a policy cuts stays cut: without these, the second packet of a blocked connection is let through.

    northd's own flow for connections that were blocked once and that no ACL matches (they are free again) doesn't
    wait for the last tier: it ends the search in the first tier that has no ACL for the packet. Seen in OVN 25.03.
    """
    for tier in range(TIER):
        name = f"still-blocked-{tier}"
        yield Row(
            "ACL",
            name,
            {
                "direction": "to-lport",
                "priority": 0,
                "action": "pass",
                "match": "ct.est && ct_mark.blocked == 1",
                "external_ids": object_ids("NetpolDefault", ("k8s.ovn.org/name", name), ("direction", INGRESS)),
                "tier": tier,
            },
            parent=Slot("Port_Group", rows.cluster_port_group(), "acls"),
            only_with=frozenset({"tier"}),
        )


def host_members(world: World, config: Config, pods: PodSet, row: RowId, family: int) -> Iterable[Member]:
    """Addresses of the hosts, for a set of whole namespaces that takes in the one that stands for the hosts."""
    name = config.kubernetes.host_network_namespace
    if not (name and pods.legacy and isinstance(pods.namespaces, LabelSelector)):
        return
    namespace = world.get(NAMESPACES, name)
    if namespace is None or not pods.namespaces.matches(namespace.labels):
        return
    for address in host_addresses(world, config):
        if address.version == family:
            yield Member(Slot("Address_Set", row, "addresses"), str(address))


@derived
def host_addresses(world: World, config: Config) -> tuple[Address, ...]:
    """What pods see of the nodes: their management ports, and their gateway routers on the join switch."""
    found: set[Address] = set()
    for node in world.keys(NODES):
        found.update(management_addresses(world, node))
        number = node_id(world, node)
        if number is not None:
            found.update(
                gateway_router_join_address(config.join_subnet(family), number).ip for family in config.families
            )
    return tuple(sorted(found, key=lambda address: (address.version, int(address))))
