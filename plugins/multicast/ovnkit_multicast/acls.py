"""Role zone: multicast is denied everywhere, but between nodes and in namespaces that ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.identity import RowId, object_ids
from ovnkit.api.items import Row, Slot
from ovnkit.api.matches import Match
from ovnkit.api.models import NAMESPACES, PODS
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World, derived
from ovnkit.network import rows
from ovnkit.network.matches import cluster_router_port_group, namespace_port_group
from ovnkit.network.node import Address, management_address, node_subnets
from ovnkit_multicast import matches

ENABLED = "k8s.ovn.org/multicast-enabled"
"""Annotation of a namespace; only the exact value `true` counts."""

ALLOW_PRIORITY = 1012
DENY_PRIORITY = 1011
"""Both above network policies (1001 and 1000), which don't govern multicast."""

EGRESS, INGRESS = "Egress", "Ingress"


@frozen
class MulticastAcls:
    """The renderers of ACLs; `families` are the cluster's IP versions."""

    families: tuple[int, ...]

    def renderers(self) -> Iterable[Renderer]:
        """One render for the cluster, and one per namespace."""
        yield Renderer("cluster", Role.ZONE, self.cluster)
        yield Renderer("namespace", Role.ZONE, self.namespace, each=NAMESPACES)

    def cluster(self, _world: World, _key: str) -> Iterable[Row]:
        """Deny without a port clause: it holds for all ports of the switches that the group has a port of."""
        for direction, side in ((EGRESS, "inport"), (INGRESS, "outport")):
            yield _acl(
                f"deny-{direction.lower()}",
                direction,
                "drop",
                matches.ALL,
                rows.cluster_port_group(),
                object_ids("MulticastCluster", ("type", "DefaultDeny"), ("direction", direction)),
                f"MulticastCluster:DefaultDeny:{direction}",
            )
            yield _acl(
                f"allow-{direction.lower()}",
                direction,
                "allow",
                f"{side} == " + cluster_router_port_group() + f" && {matches.ALL}",
                rows.cluster_router_port_group(),
                object_ids("MulticastCluster", ("type", "AllowInterNode"), ("direction", direction)),
                f"MulticastCluster:AllowInterNode:{direction}",
            )

    def namespace(self, world: World, key: str) -> Iterable[Row]:
        """Two ACLs for a namespace with the annotation, and one more if it has pods on hosts' networks."""
        found = world.get(NAMESPACES, key)
        if found is None or found.annotations.get(ENABLED) != "true":
            return
        group, hosts = namespace_port_group(key), self._hosts(world, key)
        if hosts:
            yield _acl(
                "allow-hosts",
                EGRESS,
                "allow",
                matches.from_hosts(self.families, hosts),
                rows.cluster_port_group(),
                object_ids("MulticastNS", ("k8s.ovn.org/name", key), ("direction", "HostEgress")),
                f"MC:{key}:HostEgress",
            )
        for direction, match in (
            (EGRESS, "inport == " + group + " && " + matches.from_pods(self.families)),
            (INGRESS, "outport == " + group + " && " + matches.to_pods(key, self.families, hosts)),
        ):
            yield _acl(
                f"allow-{direction.lower()}",
                direction,
                "allow",
                match,
                rows.namespace_port_group(key),
                object_ids("MulticastNS", ("k8s.ovn.org/name", key), ("direction", direction)),
                f"MC:{key}:{direction}",
            )

    def _hosts(self, world: World, namespace: str) -> list[Address]:
        """Addresses of the management ports through which a namespace's host-network pods send."""
        found: list[Address] = []
        for node in host_nodes(world, namespace):
            try:
                subnets = node_subnets(world, node) or ()
            except Reject:  # reported on the node; its hosts stay out
                continue
            found += [management_address(network).ip for network in subnets if network.version in self.families]
        return found


@derived
def host_nodes(world: World, namespace: str) -> tuple[str, ...]:
    """The nodes on whose network a namespace has pods."""
    pods = world.list(PODS, "namespace", namespace)
    return tuple(sorted({pod.node for pod in pods if pod.host_network and pod.node and not pod.completed}))


def _acl(
    row: str, direction: str, action: str, match: Match | str, group: RowId, ids: Mapping[str, str], name: str
) -> Row:
    return Row(
        "ACL",
        row,
        {
            "name": name[:63],
            "direction": "from-lport" if direction == EGRESS else "to-lport",
            "options": {"apply-after-lb": "true"} if direction == EGRESS else {},
            "priority": DENY_PRIORITY if action == "drop" else ALLOW_PRIORITY,
            "action": action,
            "match": match,
            "log": False,
            "meter": "acl-logging",
            "tier": 2,
            "external_ids": ids,
        },
        parent=Slot("Port_Group", group, "acls"),
        optional=frozenset({"tier"}),
    )
