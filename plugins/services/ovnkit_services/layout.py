"""What of the configuration the renderers of services depend on, as one hashable value."""

from __future__ import annotations

from attrs import field, frozen

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import Network
from ovnkit.network.masquerade import Masquerade, masquerade_address
from ovnkit_services.options import ServicesOptions


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

        def masquerade(place: Masquerade) -> dict[int, str]:
            return {
                family: str(masquerade_address(config.masquerade_subnet(family), place).ip) for family in (4, 6)
            }

        return cls(
            families=config.families,
            cluster=tuple(subnet.network for subnet in config.default.cluster_subnets),
            zone=scope.zone if scope.per_node_zones else "",
            templates=options.templates(per_node_zones=scope.per_node_zones),
            empty_lb_events=options.ovn_empty_lb_events,
            max_ports=options.max_ports,
            unmanaged=config.kubernetes.no_hostsubnet_selector,
            hairpin=" ".join(masquerade(Masquerade.HAIRPIN).values()),
            host_masquerade=masquerade(Masquerade.HOST),
            etp_local=masquerade(Masquerade.ETP_LOCAL),
        )
