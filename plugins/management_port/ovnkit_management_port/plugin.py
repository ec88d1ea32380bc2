"""The hooks of the management port."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, Runtime, Scope, hookimpl
from ovnkit.api.host import LINKS
from ovnkit.api.renderers import Renderer, Role
from ovnkit.network.names import MANAGEMENT_LINK
from ovnkit_management_port.node import NodeEnd
from ovnkit_management_port.zone import LogicalEnd


class ManagementPortPlugin:
    """Each node's own way into the pod network."""

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """Declare it; the rows hang on the topology's switches."""
        return Declaration(
            needs=("topology",),
            kinds=(LINKS,),
            columns=(
                Columns("nb", "Logical_Switch_Port", ("name", "addresses", "external_ids")),
                Columns("nb", "Logical_Switch", ("ports",)),
                Columns("nb", "Port_Group", ("ports",)),
                Columns("ovs", "Bridge", ("name", "ports")),
                Columns("ovs", "Port", ("name", "interfaces", "external_ids")),
                Columns("ovs", "Interface", ("name", "type", "mac", "mtu_request", "external_ids")),
            ),
            default=True,
            summary=f"{MANAGEMENT_LINK} on each node: host to pod and pod to host",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope) -> Iterable[Renderer]:
        """The zone's ports, and this node's device."""
        yield from LogicalEnd(config, scope).renderers()
        if Role.NODE in scope.roles:
            yield from NodeEnd(config, scope.node).renderers()

    @hookimpl
    def ovnkit_health(self, runtime: Runtime) -> Mapping[str, str] | None:
        """Whether the port is up."""
        if Role.NODE not in runtime.scope.roles:
            return None
        link = runtime.get(LINKS, MANAGEMENT_LINK)
        return (
            {} if link is not None and link.up else {"management-port": f"interface {MANAGEMENT_LINK} is not up"}
        )

    @hookimpl
    def ovnkit_explain(self, table: str, external_ids: Mapping[str, str]) -> str | None:
        """What the rows are for."""
        iface_id = external_ids.get("iface-id", "")
        if table == "Logical_Switch_Port":
            return "management port: the node's own way into the pod network"
        if table in ("Port", "Interface"):
            return f"device of the node's management port {iface_id}".rstrip()
        return None
