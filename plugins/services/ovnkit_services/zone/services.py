"""Role zone: the rows of a service in the zone's northbound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from ovnkit.api.identity import RowId
from ovnkit.api.items import Member, Ref, Row, Slot
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network import rows
from ovnkit.network.northd import northd_release
from ovnkit.network.services import SERVICES, Service
from ovnkit_services import balancers, idling, templates
from ovnkit_services.balancers import Balancers, BalancerScope, Policy, Vips
from ovnkit_services.endpoints import service_endpoints
from ovnkit_services.frontends import frontends, is_served
from ovnkit_services.layout import Layout
from ovnkit_services.nodes import NodeFacts, zone_nodes
from ovnkit_services.zone import source_ranges as sources

HASHED = 86_400
"""Affinity timeout (a day, the longest) that stands for "for ever": the client's address chooses the target."""

HASHES_IPV6 = (25, 3)
"""Since this release of OVN a load balancer can choose by IPv6 addresses. Before, all clients would be alike."""

_BOTH_ENDS = {4: {"ip_src", "ip_dst"}, 6: {"ipv6_src", "ipv6_dst"}}

Slots = tuple[Slot, ...]


@frozen
class ZoneServices:
    """The renderers of the zone role."""

    layout: Layout
    per_node_zones: bool

    def renderers(self) -> Iterable[Renderer]:
        """One render per service, and with templates one per chassis."""
        yield Renderer("service", Role.ZONE, self.render, each=SERVICES)
        if self.layout.templates:
            yield Renderer("templates", Role.ZONE, self.variables, each=self.chassis)

    # -- variables ----------------------------------------------------------------------------------------

    def chassis(self, world: World) -> Iterable[str]:
        """Those of the zone's nodes."""
        return templates.by_chassis(zone_nodes(world, self.layout))

    def variables(self, world: World, name: str) -> Iterable[Row | Member]:
        """The addresses of the node with this chassis, for templates."""
        node = templates.by_chassis(zone_nodes(world, self.layout)).get(name)
        if node is not None:
            yield from templates.node_variables(node)

    # -- services -----------------------------------------------------------------------------------------

    def render(self, world: World, key: str) -> Iterable[Row | Member]:
        """The load balancers of a service. What it can't have is left out; the cluster role says so."""
        service = world.get(SERVICES, key)
        if service is None or not is_served(service):
            return
        items, _ = frontends(world, service, self.layout)
        endpoints = service_endpoints(world, key, self.layout.cluster)
        policy = Policy(
            internal_local=service.internal_local,
            external_local=service.external_local,
            # OVN keeps no affinity for templates, and the targets of a local policy differ by node anyway.
            templates=self.layout.templates and not service.external_local and not service.affinity_timeout,
        )
        nodes: tuple[NodeFacts, ...] = ()
        if balancers.needs_nodes(items, endpoints, policy, self.layout):
            nodes = zone_nodes(world, self.layout)
        found = balancers.build(items, endpoints, nodes, policy, self.layout)
        waits = idling.clients_wait(world, service, self.layout)
        writer = _Writer(service, self.layout, waits, self._selection(world, service))
        for protocol, vips in found.cluster.items():
            yield from writer.balancer(
                protocol, "cluster", BalancerScope.CLUSTER.value, vips, _group(BalancerScope.CLUSTER)
            )
        yield from self._nodes(writer, found, nodes)
        if found.node_ports:
            shared, variables = templates.build(key, found.node_ports, endpoints, nodes, self.layout)
            for item in shared:
                yield from writer.template(item)
            yield from variables
        yield from sources.guards(service, items)

    def _selection(self, world: World, service: Service) -> frozenset[str]:
        """What of a packet chooses the target.

        With affinity it is the client's address: Open vSwitch learns who has which target one connection at a
        time, and those that a client opens before that has taken effect must come to the same target.
        """
        if not service.affinity_timeout:
            return frozenset()
        families = self.layout.families
        fields = {4: {"ip_src"}, 6: {"ipv6_src"}} if service.affinity_timeout != HASHED else _BOTH_ENDS
        if northd_release(world) >= HASHES_IPV6:
            return frozenset().union(*(fields[family] for family in families))
        if service.affinity_timeout == HASHED or families == (4,):
            return frozenset(fields[4])
        return frozenset()

    def _nodes(self, writer: _Writer, found: Balancers, nodes: tuple[NodeFacts, ...]) -> Iterable[Row | Member]:
        if self.per_node_zones:
            # The groups of switches and routers have one member each here, so nothing has to name the node's own;
            # but a gateway router that serves no NodePorts is in no group of routers.
            in_groups = {node.name for node in nodes if node.node_ports}
            for protocol, scope, node, vips in _merged(found):
                to_router = scope in (BalancerScope.ROUTER, BalancerScope.LOCAL_ROUTER)
                slots = (_slot(scope, node),) if to_router and node not in in_groups else _group(scope)
                yield from writer.balancer(
                    protocol, _row(scope, node), f"{scope.value}_{node}", vips, slots, scope
                )
            return
        for (protocol, scope), by_node in found.nodes.items():
            uniform = (protocol, scope) not in found.differing
            yield from _shared(writer, protocol, scope, by_node, uniform=uniform and len(by_node) == len(nodes))


def _merged(found: Balancers) -> Iterable[tuple[str, BalancerScope, str, Vips]]:
    """Per-node load balancers, switch and router in one where they are the same."""
    for (protocol, scope), by_node in found.nodes.items():
        for node, vips in by_node.items():
            if scope in (BalancerScope.SWITCH, BalancerScope.ROUTER):
                other = BalancerScope.ROUTER if scope is BalancerScope.SWITCH else BalancerScope.SWITCH
                if found.nodes.get((protocol, other), {}).get(node) == vips:
                    if scope is BalancerScope.SWITCH:
                        yield protocol, BalancerScope.BOTH, node, vips
                    continue
            yield protocol, scope, node, vips


def _shared(
    writer: _Writer, protocol: str, scope: BalancerScope, by_node: Mapping[str, Vips], *, uniform: bool
) -> Iterable[Row | Member]:
    """Of a zone with several nodes: what most nodes have is one load balancer; who differs has its own.

    What is the same on all nodes by its nature hangs on a group, so that a node more costs nothing.
    """
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for node, vips in by_node.items():
        alike.setdefault(tuple(sorted(vips.items())), []).append(node)
    common = min(alike.values(), key=lambda members: (-len(members), members))
    if len(common) > 1:
        name = f"{scope.value}_{common[0]}_merged"
        slots = _group(scope) if uniform else tuple(_slot(scope, node) for node in common)
        yield from writer.balancer(protocol, f"{scope.value}-common", name, by_node[common[0]], slots, scope)
    for node, vips in by_node.items():
        if len(common) == 1 or node not in common:
            name = f"{scope.value}_{node}"
            yield from writer.balancer(protocol, _row(scope, node), name, vips, (_slot(scope, node),), scope)


def _row(scope: BalancerScope, node: str) -> str:
    return f"{scope.value}-{node}"


def _group(scope: BalancerScope) -> Slots:
    groups = {BalancerScope.SWITCH: rows.switch_lb_group(), BalancerScope.ROUTER: rows.router_lb_group()}
    groups[BalancerScope.LOCAL_ROUTER] = rows.router_lb_group()
    return (Slot("Load_Balancer_Group", groups.get(scope, rows.cluster_lb_group()), "load_balancer"),)


def _slot(scope: BalancerScope, node: str) -> Slot:
    if scope is BalancerScope.SWITCH:
        return Slot("Logical_Switch", rows.node_switch(node), "load_balancer")
    return Slot("Logical_Router", rows.gateway_router(node), "load_balancer")


@frozen
class _Writer:
    """Makes the rows of one service's load balancers.

    `waits`: clients wait for endpoints and aren't refused. `selection` are OVN's `selection_fields`.
    """

    service: Service
    layout: Layout
    waits: bool
    selection: frozenset[str]

    def balancer(
        self,
        protocol: str,
        row: str,
        suffix: str,
        vips: Vips,
        slots: Slots,
        scope: BalancerScope = BalancerScope.CLUSTER,
    ) -> Iterable[Row | Member]:
        """A load balancer and what refers to it."""
        options = self._options(protocol)
        if scope is BalancerScope.LOCAL_ROUTER:
            options["skip_snat"] = "true"
        if self.service.affinity_timeout not in (0, HASHED):
            options["affinity_timeout"] = str(self.service.affinity_timeout)
        yield from self._row(protocol, row, suffix, vips, options, slots)

    def template(self, item: templates.TemplateBalancer) -> Iterable[Row | Member]:
        """A template load balancer on all nodes."""
        options = {**self._options(item.protocol), "template": "true", "address-family": f"ipv{item.family}"}
        row = f"{item.scope.value}-template-v{item.family}"
        slots = _group(item.scope)
        yield from self._row(item.protocol, row, item.suffix, item.vips, options, slots)

    def _options(self, protocol: str) -> dict[str, str]:
        options = {
            "reject": "false" if self.waits else "true",
            "event": "true" if self.waits else "false",
            "skip_snat": "false",
            "neighbor_responder": "none",
            "hairpin_snat_ip": self.layout.hairpin,
        }
        if protocol == "UDP":
            # A client that keeps its port would be sent to an endpoint that is gone for as long as it sends.
            options["ct_flush"] = "true"
        return options

    def _row(
        self,
        protocol: str,
        row: str,
        suffix: str,
        vips: Vips,
        options: Mapping[str, str],
        slots: Slots,
    ) -> Iterable[Row | Member]:
        key = self.service.key
        name = f"{protocol.lower()}-{row}"
        yield Row(
            "Load_Balancer",
            name,
            {
                "name": f"Service_{key}_{protocol}_{suffix}",
                "protocol": protocol.lower(),
                "vips": vips,
                "options": options,
                "selection_fields": self.selection,
                "external_ids": {"k8s.ovn.org/kind": "Service", "k8s.ovn.org/owner": key},
            },
        )
        reference = Ref.to(RowId("services", "service", key, name))
        for slot in slots:
            yield Member(slot, reference)
