"""The egress_firewall plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

import yaml

from ovnkit.api.config import Config
from ovnkit.api.hooks import (
    Answerer,
    AppliedStatus,
    Columns,
    Declaration,
    HookCalls,
    Privilege,
    Scope,
    Tell,
    hookimpl,
)
from ovnkit.api.identity import RowId
from ovnkit.api.metrics import Metric
from ovnkit.api.renderers import Renderer, Role
from ovnkit.network.acls import ACL_COLUMNS
from ovnkit_egress_firewall.cluster import FirewallStatus
from ovnkit_egress_firewall.dnsnames import DNS_ANSWERS, DNS_NAME_RESOLVERS, DNS_SETS
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS
from ovnkit_egress_firewall.options import EgressFirewallOptions, Server
from ovnkit_egress_firewall.status import is_message
from ovnkit_egress_firewall.zone.message import ZoneMessages
from ovnkit_egress_firewall.zone.rules import EgressRules

if TYPE_CHECKING:
    from ovnkit_egress_firewall.resolver import Resolver


class EgressFirewallPlugin:
    """What the pods of a namespace may reach outside the cluster."""

    def __init__(self) -> None:
        self._resolver: Resolver | None = None

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """On by default, as in the manifests that OVN-Kubernetes ships: without objects it does nothing."""
        crd = files("ovnkit_egress_firewall").joinpath("crds/egressfirewall.yaml").read_text("utf-8")
        return Declaration(
            needs=("topology", "pods"),
            kinds=(EGRESS_FIREWALLS, DNS_ANSWERS, DNS_NAME_RESOLVERS, DNS_SETS),
            columns=(
                *ACL_COLUMNS,
                Columns("nb", "Address_Set", ("name", "addresses", "external_ids")),
                Columns("nb", "Port_Group", ("acls",)),
            ),
            applies=(AppliedStatus(EGRESS_FIREWALLS, is_message),),
            crds=(yaml.safe_load(crd),),
            privileges=(
                Privilege("k8s.ovn.org", ("egressfirewalls/status",), ("patch",), roles=(Role.CLUSTER, Role.ZONE)),
            ),
            default=True,
            summary="EgressFirewall: ordered rules on what a namespace's pods reach outside the cluster",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope, hooks: HookCalls) -> Iterable[Renderer]:
        """Zone: ACLs, address sets and a line of the status. Cluster: status."""
        yield from EgressRules(config, hooks).renderers()
        yield from ZoneMessages(config, scope).renderers()
        yield from FirewallStatus(config, scope).renderers()

    @hookimpl
    def ovnkit_options(self) -> type:
        """Section `[egress_firewall]`."""
        return EgressFirewallOptions

    @hookimpl
    def ovnkit_check_config(self, config: Config) -> None:
        """The servers must be addresses."""
        for text in config.options("egress_firewall", EgressFirewallOptions).dns_servers:
            Server.parse(text)

    @hookimpl
    def ovnkit_answerers(self, config: Config, tell: Tell) -> Iterable[Answerer]:
        """The resolver; it runs where a zone's rules ask for names."""
        from ovnkit_egress_firewall.resolver import Resolver  # dnspython takes 0.13 s of processor time to import

        self._resolver = Resolver(config.options("egress_firewall", EgressFirewallOptions), config.families, tell)
        return [self._resolver]

    @hookimpl
    def ovnkit_metrics(self) -> Iterable[Metric]:
        """What the resolver knows."""
        return self._resolver.metrics() if self._resolver is not None else ()

    @hookimpl
    def ovnkit_explain(self, row: RowId, external_ids: Mapping[str, str]) -> str | None:
        """What an ACL or an address set is for."""
        if row.renderer == "name":
            return f"It has the addresses of {external_ids.get('k8s.ovn.org/name')}, for egress firewall rules."
        number = external_ids.get("rule-index", row.name.rpartition("-")[2])
        return f"It is rule {number} of the egress firewall of namespace {external_ids.get('k8s.ovn.org/name')}."
