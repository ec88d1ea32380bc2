"""The egress_firewall plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files

import yaml

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, HookCalls, Privilege, Scope, hookimpl
from ovnkit.api.identity import OWNER_KEY
from ovnkit.api.renderers import Renderer
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS
from ovnkit_egress_firewall.rules import EgressRules

ACL_COLUMNS = (
    "name", "direction", "options", "priority", "action", "match", "log", "meter", "severity", "external_ids",
)  # fmt: skip


class EgressFirewallPlugin:
    """What the pods of a namespace may reach outside the cluster."""

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """Off unless the configuration enables it."""
        crd = files("ovnkit_egress_firewall").joinpath("crds/egressfirewall.yaml").read_text("utf-8")
        return Declaration(
            needs=("topology", "pods"),
            kinds=(EGRESS_FIREWALLS,),
            columns=(
                Columns("nb", "ACL", ACL_COLUMNS),
                Columns("nb", "ACL", ("tier",), "23.06", optional=True),
                Columns("nb", "Port_Group", ("acls",)),
            ),
            crds=(yaml.safe_load(crd),),
            privileges=(
                Privilege("k8s.ovn.org", ("egressfirewalls",), ("get", "list", "watch")),
                Privilege("k8s.ovn.org", ("egressfirewalls/status",), ("patch", "update")),
                Privilege("", ("namespaces", "nodes"), ("get", "list", "watch")),
            ),
            summary="EgressFirewall: ordered rules on what a namespace's pods reach outside the cluster",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope, hooks: HookCalls) -> Iterable[Renderer]:
        """Zone: ACLs. Cluster: status."""
        yield from EgressRules(config, scope, hooks).renderers()

    @hookimpl
    def ovnkit_explain(self, external_ids: Mapping[str, str]) -> str | None:
        """What an ACL is for."""
        path = external_ids.get(OWNER_KEY, "")
        if not path.startswith("egress_firewall/"):
            return None
        number = external_ids.get("rule-index", path.rpartition("-")[2])
        return f"It is rule {number} of the egress firewall of namespace {external_ids.get('k8s.ovn.org/name')}."
