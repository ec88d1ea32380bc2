"""The network_policy plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, HookCalls, Scope, hookimpl
from ovnkit.api.identity import OWNER_KEY
from ovnkit.api.renderers import Renderer
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit_network_policy.options import NetworkPolicyOptions
from ovnkit_network_policy.zone import Policies

COLUMNS = (
    Columns("nb", "ACL", ("tier",), "23.06", optional=True),
    Columns("nb", "Port_Group", ("name", "ports", "acls", "external_ids")),
    Columns("nb", "Address_Set", ("name", "addresses", "external_ids")),
    Columns(
        "nb",
        "ACL",
        (
            "direction",
            "priority",
            "action",
            "match",
            "options",
            "name",
            "log",
            "severity",
            "meter",
            "external_ids",
        ),
    ),
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
    def ovnkit_explain(self, external_ids: Mapping[str, str]) -> str | None:
        """What a row is for."""
        plugin, _, rest = external_ids.get(OWNER_KEY, "").partition("/")
        renderer, _, rest = rest.partition("/")
        key, _, name = rest.rpartition("/")
        if plugin != "network_policy":
            return None
        if renderer == "policy":
            what = "the pods it selects" if name == "group" else f"what its rule {name} allows"
            return f"policy {key}: {what}"
        if renderer == "deny":
            return f"default deny of namespace {key}: pods that policies isolate, and what isolates them"
        if renderer == "default" and name.startswith("hairpin"):
            return "pods reach themselves through services, whatever policies say"
        if renderer == "default":
            return "connections that a policy has cut stay cut"
        return f"addresses of the pods that policies name as {key}"
