"""What of the configuration the renderers of services depend on, as one hashable value."""

from __future__ import annotations

from attrs import field, frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Network
from ovnkit.network.node import hairpin_address
from ovnkit_services.options import ServicesOptions

HOST_MASQUERADE = 2
ETP_LOCAL = 3
"""Offsets in the masquerade subnets: a node's own address as its gateway router reaches it; the address on a
node's switch for external traffic that must stay on the node."""


@frozen(cache_hash=True)
class Layout:
    """The cluster as services see it.

    `host_masquerade` and `etp_local` are addresses by IP version, as text; `hairpin` is OVN's `hairpin_snat_ip`.
    `zone` is empty with one central zone.
    """

    families: tuple[int, ...]
    cluster: tuple[Network, ...]
    zone: str
    templates: bool
    empty_lb_events: bool
    max_ports: int
    unmanaged: LabelSelector | None
    hairpin: str
    host_masquerade: dict[int, str] = field(hash=False)
    etp_local: dict[int, str] = field(hash=False)

    @classmethod
    def of(cls, config: Config, scope: Scope) -> Layout:
        """The layout of a configuration."""
        options = config.options("services", ServicesOptions)

        def masquerade(offset: int) -> dict[int, str]:
            return {family: str(config.masquerade_subnet(family)[offset]) for family in (4, 6)}

        return cls(
            families=config.families,
            cluster=tuple(subnet.network for subnet in config.default.cluster_subnets),
            zone=scope.zone if scope.per_node_zones else "",
            templates=options.templates(per_node_zones=scope.per_node_zones),
            empty_lb_events=options.ovn_empty_lb_events,
            max_ports=options.max_ports,
            unmanaged=config.kubernetes.no_hostsubnet_selector,
            hairpin=" ".join(str(hairpin_address(config.masquerade_subnet(family))) for family in (4, 6)),
            host_masquerade=masquerade(HOST_MASQUERADE),
            etp_local=masquerade(ETP_LOCAL),
        )
