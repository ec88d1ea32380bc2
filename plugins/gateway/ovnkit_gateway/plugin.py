"""The gateway plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, HostFactsReader, Privilege, Scope, hookimpl
from ovnkit.api.host import ADDRESSES, LINKS, ROUTES
from ovnkit.api.identity import RowId
from ovnkit.api.renderers import Renderer, Role
from ovnkit.network.bridges import OVS_KINDS
from ovnkit_gateway.detect import found_routes
from ovnkit_gateway.explain import explain
from ovnkit_gateway.facts import check, translated_ports
from ovnkit_gateway.node.gateway import MAPPINGS, NodeGateways
from ovnkit_gateway.node.uplink import Uplinks, check_host
from ovnkit_gateway.zone.pod_snat import PodTranslations
from ovnkit_gateway.zone.routers import GatewayRouters

log = structlog.get_logger()

COLUMNS = (
    Columns(
        "nb",
        "Logical_Router",
        (
            "name",
            "options",
            "copp",
            "ports",
            "static_routes",
            "policies",
            "nat",
            "load_balancer_group",
            "external_ids",
        ),
    ),
    Columns("nb", "Logical_Router_Port", ("name", "networks", "mac", "options", "external_ids")),
    Columns(
        "nb",
        "Logical_Router_Static_Route",
        ("ip_prefix", "nexthop", "output_port", "policy", "external_ids"),
    ),
    Columns("nb", "Logical_Router_Policy", ("priority", "match", "action", "nexthops", "external_ids")),
    Columns("nb", "NAT", ("type", "logical_ip", "external_ip", "options", "external_port_range", "external_ids")),
    Columns("nb", "Static_MAC_Binding", ("logical_port", "ip", "mac", "override_dynamic_mac")),
    Columns("nb", "Logical_Switch", ("name", "ports", "external_ids")),
    Columns("nb", "Logical_Switch_Port", ("name", "type", "addresses", "options", "tag_request", "external_ids")),
    Columns("ovs", "Open_vSwitch", ("external_ids",)),
)


class GatewayPlugin:
    """Gateway routers and the external bridge."""

    def __init__(self) -> None:
        self._interface = ""
        """The interface that leads outside, as found at start; it stays until the process ends."""

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """On by default; does nothing while `[gateway] mode` is empty."""
        return Declaration(
            needs=("topology",),
            after=("management_port",),
            kinds=(LINKS, ADDRESSES, ROUTES, *OVS_KINDS, MAPPINGS),
            columns=COLUMNS,
            privileges=(Privilege("", ("nodes/status",), ("patch",), roles=(Role.NODE,)),),
            default=True,
            summary="gateway routers, external bridge, the way out of and into the cluster",
        )

    @hookimpl
    def ovnkit_check_config(self, config: Config) -> None:
        """The section `[gateway]` must not contradict itself."""
        check(config)

    @hookimpl
    def ovnkit_check_host(self, config: Config, scope: Scope, facts: HostFactsReader) -> None:
        """A node needs one interface that leads outside in every IP family, and that can be on a bridge."""
        if Role.NODE not in scope.roles or not config.gateway.mode or config.gateway.allow_no_uplink:
            return
        for found in found_routes(facts(ROUTES), config.families, config.gateway.interface):
            log.info(str(found), plugin="gateway")
        self._interface = check_host(config, facts)

    @hookimpl
    def ovnkit_renderers(self, config: Config, scope: Scope) -> Iterable[Renderer]:
        """Zone: gateway routers. Node: annotation, bridge mapping, kernel, flows."""
        routers = GatewayRouters(config, scope, translated_ports(config))
        yield from routers.renderers()
        if config.gateway.disable_snat_multiple_gws:
            yield from PodTranslations(routers).renderers()
        if config.gateway.mode:
            yield from NodeGateways(config, scope, self._interface).renderers()
            if not config.gateway.allow_no_uplink:
                yield from Uplinks(config, self._interface).renderers()

    @hookimpl
    def ovnkit_explain(self, row: RowId) -> str | None:
        """What a row is for."""
        return explain(row)
