"""The topology plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnkit.api.config import Config
from ovnkit.api.errors import ConfigError, Reject
from ovnkit.api.hooks import Answerer, Columns, Declaration, Privilege, Runtime, Scope, Tell, hookimpl
from ovnkit.api.host import ADDRESSES, LINKS, ROUTES
from ovnkit.api.identity import RowId
from ovnkit.api.metrics import Metric
from ovnkit.api.renderers import Renderer, Role
from ovnkit.network.acls import ACL_COLUMNS
from ovnkit.network.northd import NORTHD
from ovnkit.network.ovn_daemons import OVN_DAEMONS
from ovnkit_topology import chassis, progress
from ovnkit_topology.cluster import Assigner
from ovnkit_topology.explain import explain
from ovnkit_topology.facts import Layout
from ovnkit_topology.liveness import Liveness
from ovnkit_topology.node import OVS_SYSTEM, OwnNode
from ovnkit_topology.options import TopologyOptions
from ovnkit_topology.subnet_metrics import subnet_metrics
from ovnkit_topology.zone import chassis as zone_chassis
from ovnkit_topology.zone.cluster_router import ClusterRows
from ovnkit_topology.zone.daemons import ZoneDaemons
from ovnkit_topology.zone.local_nodes import LocalNodes
from ovnkit_topology.zone.remote_nodes import RemoteNodes

COLUMNS = (
    Columns("nb", "NB_Global", ("name", "options")),
    Columns("nb", "Copp", ("name", "meters", "external_ids")),
    Columns("nb", "Meter", ("name", "unit", "fair", "bands", "external_ids")),
    Columns("nb", "Meter_Band", ("action", "rate", "external_ids")),
    Columns("nb", "Logical_Router", ("name", "options", "copp", "ports", "static_routes", "external_ids")),
    Columns(
        "nb", "Logical_Router_Port", ("name", "networks", "mac", "options", "gateway_chassis", "external_ids")
    ),
    Columns("nb", "Logical_Router_Static_Route", ("ip_prefix", "nexthop", "external_ids")),
    Columns("nb", "Gateway_Chassis", ("name", "chassis_name", "priority", "external_ids")),
    Columns(
        "nb", "Logical_Switch", ("name", "other_config", "load_balancer_group", "ports", "acls", "external_ids")
    ),
    Columns("nb", "Logical_Switch_Port", ("name", "type", "addresses", "options", "external_ids")),
    Columns("nb", "Load_Balancer_Group", ("name",)),
    Columns("nb", "Port_Group", ("name", "external_ids")),
    *ACL_COLUMNS,
    Columns("sb", "Chassis", ("name", "hostname", "other_config", "encaps", "external_ids")),
    Columns("sb", "Chassis_Private", ("external_ids",)),
    Columns("sb", "SB_Global", ("external_ids",)),
    Columns("sb", "Port_Binding", ("chassis",)),
    Columns("sb", "Encap", ("type", "ip", "chassis_name", "options")),
    Columns("ovs", "Open_vSwitch", ("external_ids", "other_config")),
)


class TopologyPlugin:
    """The logical routers and switches every other plugin hangs its rows on."""

    def __init__(self) -> None:
        self._liveness: Liveness | None = None

    @hookimpl
    def ovnkit_options(self) -> type:
        """See `TopologyOptions`."""
        return TopologyOptions

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """On by default; everything else needs it."""
        return Declaration(
            kinds=(LINKS, ADDRESSES, ROUTES, OVS_SYSTEM, NORTHD, *chassis.KINDS, *progress.KINDS, OVN_DAEMONS),
            columns=COLUMNS,
            privileges=(Privilege("", ("nodes/status",), ("patch",), roles=(Role.CLUSTER, Role.NODE)),),
            default=True,
            summary="routers, node switches, transit switch; node ids, subnets and annotations",
        )

    @hookimpl
    def ovnkit_check_config(self, config: Config) -> None:
        """The selector of unmanaged nodes must parse."""
        try:
            config.kubernetes.no_hostsubnet_selector  # noqa: B018
        except Reject as error:
            raise ConfigError(f"[kubernetes] no-hostsubnet-nodes: {error.message}") from None

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope) -> Iterable[Renderer]:
        """Cluster: assignments. Zone: rows. Node: annotations and Open vSwitch."""
        options = config.options("topology", TopologyOptions)
        layout = Layout.of(config, per_node_zones=scope.per_node_zones)
        yield from Assigner(config, per_node_zones=scope.per_node_zones).renderers()
        yield from ClusterRows(config, scope, options).renderers()
        yield from LocalNodes(config, scope, layout).renderers()
        yield from RemoteNodes(config, scope, layout).renderers()
        yield from zone_chassis.renderers()
        yield from ZoneDaemons(scope).renderers()
        yield from OwnNode(config, scope).renderers()

    @hookimpl
    def ovnkit_answerers(self, config: Config, scope: Scope, tell: Tell) -> Iterable[Answerer]:
        """The watch over OVN's daemons."""
        self._liveness = Liveness(scope, config.ovspaths.ovn_run_dir, tell)
        return [self._liveness]

    @hookimpl
    def ovnkit_started(self, runtime: Runtime) -> None:
        """The watch begins when everything has been rendered: until then databases and daemons have other work."""
        if self._liveness is not None:
            self._liveness.start(runtime)

    @hookimpl
    def ovnkit_health(self) -> Mapping[str, str]:
        """Daemons of OVN that don't do their work."""
        return self._liveness.problems() if self._liveness is not None else {}

    @hookimpl
    def ovnkit_metrics(self, runtime: Runtime) -> Iterable[Metric]:
        """Which daemons work, and how far they are; node subnets."""
        if self._liveness is not None:
            yield from self._liveness.metrics()
        yield from subnet_metrics(runtime)

    @hookimpl
    def ovnkit_explain(self, row: RowId) -> str | None:
        """What a row is for."""
        return explain(row)
