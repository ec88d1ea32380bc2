"""Role zone: multicast is denied except between nodes and in namespaces that ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.identity import RowId, link_local_from_mac, object_ids
from ovnkit.api.items import Member, Ref, Row, Slot
from ovnkit.api.matches import Match
from ovnkit.api.models import NAMESPACES, NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network import rows
from ovnkit.network.acls import acl
from ovnkit.network.hosts import host_pod_addresses
from ovnkit.network.matches import cluster_router_port_group, namespace_port_group
from ovnkit.network.node import gateway_address, host_subnets, port_mac, zone_nodes
from ovnkit_multicast import matches

ENABLED = "k8s.ovn.org/multicast-enabled"
"""Annotation of a namespace; only the exact value `true` counts."""

ALLOW_PRIORITY, DENY_PRIORITY = 1012, 1011
"""Both above network policies (1001 and 1000), which don't govern multicast."""


@frozen
class Multicast:
    """The renderers."""

    config: Config
    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """ACLs for the cluster and per namespace; options of the cluster router and per node of the zone."""
        yield Renderer("cluster", Role.ZONE, self.cluster)
        yield Renderer("namespace", Role.ZONE, self.namespace, each=NAMESPACES)
        yield Renderer("router", Role.ZONE, self.router)
        nodes = partial(zone_nodes, scope=self.scope, config=self.config)
        yield Renderer("node", Role.ZONE, self.node, each=nodes, subject=NODES)

    def cluster(self, _world: World, _key: str) -> Iterable[Row]:
        """The deny has no port clause: it holds for all ports of the switches that the group has a port of."""
        for direction, port in (("Egress", "inport"), ("Ingress", "outport")):
            yield _acl("MulticastCluster", "DefaultDeny", direction, rows.cluster_port_group(), matches.ALL)
            match = f"{port} == " + cluster_router_port_group() + f" && {matches.ALL}"
            yield _acl("MulticastCluster", "AllowInterNode", direction, rows.cluster_router_port_group(), match)

    def namespace(self, world: World, key: str) -> Iterable[Row]:
        """Two ACLs for a namespace with the annotation, and one more if it has pods on hosts' networks."""
        found = world.get(NAMESPACES, key)
        if found is None or found.annotations.get(ENABLED) != "true":
            return
        families = self.config.families
        hosts = [address for address in host_pod_addresses(world, key) if address.version in families]
        if hosts:
            match = matches.from_hosts(families, hosts)
            yield _acl("MulticastNS", key, "HostEgress", rows.cluster_port_group(), match)
        group, ports = rows.namespace_port_group(key), namespace_port_group(key)
        yield _acl(
            "MulticastNS", key, "Egress", group, "inport == " + ports + " && " + matches.from_pods(families)
        )
        match = "outport == " + ports + " && " + matches.to_pods(key, families, hosts)
        yield _acl("MulticastNS", key, "Ingress", group, match)

    def router(self, _world: World, _key: str) -> Iterable[Member]:
        """The cluster router forwards groups between the node switches and the transit switch."""
        yield Member(Slot("Logical_Router", rows.cluster_router(), "options"), "true", key="mcast_relay")

    def node(self, world: World, node: str) -> Iterable[Member]:
        """Snooping, and a querier that speaks as the node's gateway."""
        subnets = host_subnets(world, node, self.config.default.cluster_subnets)
        if subnets is None:
            return
        ports = Slot("Port_Group", rows.cluster_router_port_group(), "ports")
        yield Member(ports, Ref.to(rows.node_switch_port(node)))
        gateways = [gateway_address(network) for network in subnets]
        mac = port_mac(gateways)
        options = {"mcast_snoop": "true", "mcast_querier": "true", "mcast_eth_src": mac}
        for gateway in gateways:
            source = gateway.ip if gateway.version == 4 else link_local_from_mac(mac)
            options[f"mcast_ip{gateway.version}_src"] = str(source)
        for key, value in options.items():
            yield Member(Slot("Logical_Switch", rows.node_switch(node), "other_config"), value, key=key)


def _acl(owner_type: str, subject: str, direction: str, group: RowId, match: Match | str) -> Row:
    """`subject` is a namespace, or what the ACL is for in the cluster."""
    of_cluster, denies, sent = owner_type == "MulticastCluster", subject == "DefaultDeny", direction != "Ingress"
    return acl(
        f"{subject}-{direction}" if of_cluster else direction,
        Slot("Port_Group", group, "acls"),
        "from-lport" if sent else "to-lport",
        DENY_PRIORITY if denies else ALLOW_PRIORITY,
        "drop" if denies else "allow",
        match,
        object_ids(owner_type, ("type" if of_cluster else "k8s.ovn.org/name", subject), ("direction", direction)),
        shown=f"{owner_type if of_cluster else 'MC'}:{subject}:{direction}",
        after_lb=sent,
    )
