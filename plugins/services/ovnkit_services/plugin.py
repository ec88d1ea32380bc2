"""The services plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, Privilege, Runtime, Scope, hookimpl
from ovnkit.api.renderers import Renderer, Role
from ovnkit.network.acls import ACL_COLUMNS
from ovnkit.network.bridges import OVS_KINDS
from ovnkit.network.northd import NORTHD
from ovnkit.network.services import ENDPOINT_SLICES, SERVICES
from ovnkit_services import idling
from ovnkit_services.affinity import AffinityFlows
from ovnkit_services.cluster import ClusterServices
from ovnkit_services.layout import Layout
from ovnkit_services.node.health import HealthChecks
from ovnkit_services.node.services import NodeServices
from ovnkit_services.options import ServicesOptions
from ovnkit_services.zone import idled
from ovnkit_services.zone.services import ZoneServices

COLUMNS = (
    Columns("nb", "Load_Balancer", ("name", "vips", "protocol", "selection_fields", "options", "external_ids")),
    Columns("nb", "Load_Balancer_Group", ("load_balancer",)),
    Columns("nb", "Logical_Switch", ("load_balancer",)),
    Columns("nb", "Logical_Router", ("load_balancer",)),
    *ACL_COLUMNS,
    Columns("nb", "Port_Group", ("acls",)),
)
TEMPLATE_COLUMNS = Columns("nb", "Chassis_Template_Var", ("chassis", "variables", "external_ids"))


class ServicesPlugin:
    """Kubernetes Services as OVN load balancers."""

    def __init__(self) -> None:
        self._affinity: AffinityFlows | None = None

    @hookimpl
    def ovnkit_options(self) -> type:
        """See `ServicesOptions`."""
        return ServicesOptions

    @hookimpl
    def ovnkit_declare(self, config: Config) -> Declaration:
        """On by default; its load balancers hang on rows of the topology."""
        woken = idling.KINDS if config.options("services", ServicesOptions).ovn_empty_lb_events else ()
        return Declaration(
            needs=("topology",),
            kinds=(SERVICES, ENDPOINT_SLICES, NORTHD, *OVS_KINDS, *woken),
            columns=(*COLUMNS, TEMPLATE_COLUMNS),
            privileges=(Privilege("", ("services/status",), ("patch",), roles=(Role.CLUSTER,)),),
            default=True,
            summary="Services: cluster IPs, NodePorts, external and load balancer addresses",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope) -> Iterable[Renderer]:
        """Cluster: Events. Zone: load balancers. Node: nftables, flows and health checks."""
        layout = Layout.of(config, scope)
        yield from ClusterServices(layout).renderers()
        if layout.empty_lb_events:
            yield from idled.renderers()
        yield from ZoneServices(layout, scope.per_node_zones).renderers()
        yield from NodeServices(config, scope, layout).renderers()
        yield from HealthChecks(scope.node, layout).renderers()

    @hookimpl
    def ovnkit_explain(self, table: str, external_ids: Mapping[str, str]) -> str | None:
        """What a row is for."""
        if table == "ACL":
            service = external_ids.get("k8s.ovn.org/name", "?")
            return f"keeps all but the named clients from a load balancer address of service {service}"
        if table == "Load_Balancer":
            return f"answers at addresses of service {external_ids.get('k8s.ovn.org/owner', '?')}"
        return "holds the addresses of a node that NodePort services answer at"

    @hookimpl
    def ovnkit_started(self, runtime: Runtime) -> None:
        """Role node: keep copies of OVN's flows."""
        if Role.NODE in runtime.scope.roles:
            learning = runtime.config.options("services", ServicesOptions).affinity_first_packet
            self._affinity = AffinityFlows(runtime.config.ovspaths.ovs_run_dir, learning=learning)
            self._affinity.start()

    @hookimpl
    def ovnkit_stopping(self) -> None:
        """End what runs beside the renderers."""
        if self._affinity is not None:
            self._affinity.stop()
            self._affinity = None
