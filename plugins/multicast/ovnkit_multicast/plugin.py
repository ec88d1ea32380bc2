"""The multicast plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, Scope, hookimpl
from ovnkit.api.identity import RowId
from ovnkit.api.renderers import Renderer
from ovnkit.network.acls import ACL_COLUMNS
from ovnkit_multicast.zone import Multicast


class MulticastPlugin:
    """IP multicast between the pods of namespaces that ask for it."""

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """Off unless the configuration enables it."""
        return Declaration(
            needs=("topology", "pods", "management_port"),
            columns=(
                *ACL_COLUMNS,
                Columns("nb", "Port_Group", ("acls", "ports")),
                Columns("nb", "Logical_Router", ("options",)),
                Columns("nb", "Logical_Switch", ("other_config",)),
            ),
            summary="multicast in namespaces with the annotation k8s.ovn.org/multicast-enabled",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope) -> Iterable[Renderer]:
        """Role zone only."""
        return Multicast(config, scope).renderers()

    @hookimpl
    def ovnkit_explain(self, row: RowId) -> str:
        """What an ACL is for."""
        if row.renderer == "namespace":
            pods = "host-network pods" if row.name == "HostEgress" else "pods"
            return f"It lets the {pods} of namespace {row.key} take part in the namespace's multicast."
        if row.name.startswith("DefaultDeny"):
            return "It keeps multicast from and to all pods that nothing allows it to."
        return "It lets multicast cross between nodes."
