"""Section `[services]` of the configuration."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, in_


@frozen
class ServicesOptions:
    """Options of services.

    `svc_template_support` says whether NodePorts use OVN's template load balancers: `always`, `never`, or `auto`,
    which is where several nodes share a northbound. `ovn_empty_lb_events` lets idled services be woken by their
    first client. `affinity_first_packet` says whether the node keeps the first packet of a session that OVN would
    drop. `max_ports` is how many ports of one service are served.
    """

    svc_template_support: str = field(default="auto", validator=in_(("auto", "always", "never")))
    ovn_empty_lb_events: bool = True
    affinity_first_packet: bool = True
    max_ports: int = field(default=1000, validator=ge(1))

    def templates(self, *, per_node_zones: bool) -> bool:
        """Whether NodePorts use template load balancers."""
        if self.svc_template_support == "auto":
            return not per_node_zones
        return self.svc_template_support == "always"
