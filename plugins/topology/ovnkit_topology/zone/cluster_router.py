"""Role zone: what a zone's northbound has once: routers, switches and groups that don't belong to a node."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.identity import PRIMARY_ID, RowId, hash_name
from ovnkit.api.items import Lookup, Member, Ref, Row, Slot
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network import names, rows
from ovnkit.network.meters import meter_rows
from ovnkit.network.node import cluster_router_join_address, port_mac
from ovnkit_topology.options import TopologyOptions

PROTOCOLS = (
    "arp",
    "arp-resolve",
    "bfd",
    "event-elb",
    "icmp4-error",
    "icmp6-error",
    "reject",
    "svc-monitor",
    "tcp-reset",
)
"""What OVN punts to ovn-controller, each rate-limited (Copp.meters)."""

PACKETS_PER_SECOND = 25
"""Rate of each such meter, upstream's."""

TRANSIT_TUNNEL_KEY = 16711683
"""Tunnel key of the default network's transit switch; all zones must agree on it."""

ROUTER_PORT = names.router_to_join(names.CLUSTER_ROUTER)
SWITCH_PORT = names.join_to_router(names.CLUSTER_ROUTER)

LB_GROUPS = (
    (rows.cluster_lb_group(), names.CLUSTER_LB_GROUP),
    (rows.switch_lb_group(), names.SWITCH_LB_GROUP),
    (rows.router_lb_group(), names.ROUTER_LB_GROUP),
)
PORT_GROUPS = (
    (rows.cluster_port_group(), names.CLUSTER_PORT_GROUP),
    (rows.cluster_router_port_group(), names.CLUSTER_ROUTER_PORT_GROUP),
)


@frozen
class ClusterRows:
    """The renderer of the zone's cluster-wide rows."""

    config: Config
    scope: Scope
    options: TopologyOptions

    def renderers(self) -> Iterable[Renderer]:
        """One render with the empty key."""
        yield Renderer("cluster", Role.ZONE, self.render)

    def render(self, _world: World, _key: str) -> Iterable[Row | Member]:
        """Everything; nothing of it depends on an object."""
        yield from self._router()
        yield from self._meters()
        yield from self._groups()
        if self.scope.per_node_zones:
            yield _transit_switch()
        yield from self._global()

    def _router(self) -> Iterable[Row]:
        yield Row(
            "Logical_Router",
            rows.cluster_router().name,
            {
                "name": names.CLUSTER_ROUTER,
                "external_ids": {"k8s-cluster-router": "yes"},
                "options": {"always_learn_from_arp_request": "false"},
                "copp": Ref.to(rows.copp()),
            },
        )
        yield Row("Logical_Switch", rows.join_switch().name, {"name": names.JOIN_SWITCH})
        addresses = [
            cluster_router_join_address(self.config.join_subnet(family)) for family in self.config.families
        ]
        yield Row(
            "Logical_Router_Port",
            "join-router-port",
            {
                "name": ROUTER_PORT,
                "networks": frozenset(str(address) for address in addresses),
                "mac": port_mac(addresses),
            },
            parent=Slot("Logical_Router", rows.cluster_router(), "ports"),
        )
        yield Row(
            "Logical_Switch_Port",
            "join-switch-port",
            {
                "name": SWITCH_PORT,
                "type": "router",
                "addresses": frozenset({"router"}),
                "options": {"router-port": ROUTER_PORT},
            },
            parent=Slot("Logical_Switch", rows.join_switch(), "ports"),
        )

    def _meters(self) -> Iterable[Row]:
        yield Row(
            "Copp",
            rows.copp().name,
            {"name": "ovnkube-default", "meters": {name: f"{name}-rate-limiter" for name in PROTOCOLS}},
        )
        for protocol in PROTOCOLS:
            row = RowId("topology", "cluster", "", f"meter-{protocol}")
            yield from meter_rows(row, f"{protocol}-rate-limiter", PACKETS_PER_SECOND)

    def _groups(self) -> Iterable[Row]:
        for row, name in LB_GROUPS:
            yield Row("Load_Balancer_Group", row.name, {"name": name})
        for row, name in PORT_GROUPS:
            ids = rows.cluster_group_ids(name)
            yield Row("Port_Group", row.name, {"name": hash_name(ids[PRIMARY_ID]), "external_ids": ids})

    def _global(self) -> Iterable[Member]:
        """NB_Global isn't ours; we add to it. northd copies `options:name` to the southbound."""
        zone = self.scope.zone
        yield Member(Slot("NB_Global", Lookup("NB_Global"), "name"), zone)
        options = Slot("NB_Global", Lookup("NB_Global"), "options")
        yield Member(options, zone, key="name")
        yield Member(options, str(self.options.northd_probe_interval), key="northd_probe_interval")
        if self.options.northd_backoff_interval:
            yield Member(options, str(self.options.northd_backoff_interval), key="northd-backoff-interval-ms")


def _transit_switch() -> Row:
    return Row(
        "Logical_Switch",
        rows.transit_switch().name,
        {
            "name": names.TRANSIT_SWITCH,
            "other_config": {
                "interconn-ts": names.TRANSIT_SWITCH,
                "requested-tnl-key": str(TRANSIT_TUNNEL_KEY),
                "mcast_snoop": "true",
                "mcast_querier": "false",
                "mcast_flood_unregistered": "true",
            },
        },
    )
