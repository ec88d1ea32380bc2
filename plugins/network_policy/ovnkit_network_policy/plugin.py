"""The network_policy plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, HookCalls, Scope, hookimpl
from ovnkit.api.identity import RowId
from ovnkit.api.renderers import Renderer
from ovnkit.network.acls import ACL_COLUMNS
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit_network_policy.options import NetworkPolicyOptions
from ovnkit_network_policy.zone import Policies

COLUMNS = (
    *ACL_COLUMNS,
    Columns("nb", "Port_Group", ("name", "ports", "acls", "external_ids")),
    Columns("nb", "Address_Set", ("name", "addresses", "external_ids")),
)


class NetworkPolicyPlugin:
    """NetworkPolicy of networking.k8s.io/v1."""

    @hookimpl
    def ovnkit_options(self) -> type:
        """See `NetworkPolicyOptions`."""
        return NetworkPolicyOptions

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """On by default."""
        return Declaration(
            needs=("topology", "pods"),
            kinds=(NETWORK_POLICIES,),
            columns=COLUMNS,
            default=True,
            summary="NetworkPolicy: who may talk to whom",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope, hooks: HookCalls) -> Iterable[Renderer]:
        """Zone: port groups, ACLs, address sets."""
        options = config.options("network_policy", NetworkPolicyOptions)
        return Policies(config, scope, options, hooks).renderers()

    @hookimpl
    def ovnkit_explain(self, row: RowId) -> str | None:
        """What a row is for."""
        if row.renderer == "policy":
            what = "the pods it selects" if row.name == "group" else f"what its rule {row.name} allows"
            return f"policy {row.key}: {what}"
        if row.renderer == "deny":
            return f"default deny of namespace {row.key}: pods that policies isolate, and what isolates them"
        if row.renderer == "default" and row.name.startswith("hairpin"):
            return "pods reach themselves through services, whatever policies say"
        if row.renderer == "default":
            return "connections that a policy has cut stay cut"
        return f"addresses of the pods that policies name as {row.key}"
