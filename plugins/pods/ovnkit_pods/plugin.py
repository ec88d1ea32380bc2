"""The pods plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, HookCalls, Privilege, Scope, hookimpl
from ovnkit.api.identity import RowId
from ovnkit.api.renderers import Renderer, Role
from ovnkit_pods.latency import CREATION
from ovnkit_pods.options import PodsOptions
from ovnkit_pods.zone.namespaces import NamespaceSets
from ovnkit_pods.zone.ports import PodPorts


class PodsPlugin:
    """Addresses and logical switch ports of pods, and the address sets and port groups of namespaces."""

    @hookimpl
    def ovnkit_options(self) -> type:
        """See `PodsOptions`."""
        return PodsOptions

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """On by default."""
        return Declaration(
            needs=("topology",),
            columns=(
                Columns(
                    "nb",
                    "Logical_Switch_Port",
                    ("name", "addresses", "port_security", "options", "external_ids"),
                ),
                Columns("nb", "Logical_Switch", ("ports",)),
                Columns("nb", "Address_Set", ("name", "addresses", "external_ids")),
                Columns("nb", "Port_Group", ("name", "ports", "external_ids")),
            ),
            privileges=(Privilege("", ("pods/status",), ("patch",), roles=(Role.ZONE,)),),
            latencies=(CREATION,),
            default=True,
            summary="pod addresses, logical switch ports, namespace address sets and port groups",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope, hooks: HookCalls) -> Iterable[Renderer]:
        """Role zone only."""
        yield from PodPorts(config, scope, hooks, config.options("pods", PodsOptions)).renderers()
        yield from NamespaceSets(config.families, scope).renderers()

    @hookimpl
    def ovnkit_explain(self, row: RowId) -> str | None:
        """What a row is for."""
        if row.renderer == "port":
            return f"It is the port of pod {row.key} on the cluster network."
        if row.name == "port-group":
            return f"It holds the ports of the pods in namespace {row.key}."
        return f"It holds the IP{row.name} addresses of the pods in namespace {row.key}."
