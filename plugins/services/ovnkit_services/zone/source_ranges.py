"""Role zone: loadBalancerSourceRanges for pods. What comes from outside is sorted out on the node."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.identity import object_ids
from ovnkit.api.items import Row, Slot
from ovnkit.api.matches.syntax import fault
from ovnkit.network import rows
from ovnkit.network.acls import acl
from ovnkit.network.services import Service, parse_address
from ovnkit_services.frontends import Frontend, source_ranges

PRIORITY = 1120
"""Above what policies allow (1001) and between networks (1100): these addresses are for the named clients only."""


def guards(service: Service, items: Iterable[Frontend]) -> Iterable[Row]:
    """ACLs that drop what pods send to the service's load balancer addresses unless their address is named.

    They stand before load balancing, where the packet still has the service's address, and apply to the ports
    of all switches that have a management port (`clusterPortGroup`).
    """
    allowed, _ = source_ranges(service)
    if allowed is None:
        return
    announced = {str(parse_address(text)) for text in service.ingress_ips}
    for item in items:
        for family, address in item.external:
            if address not in announced:
                continue
            protocol, port = item.port.protocol.lower(), item.port.port
            sources = [str(network) for network in allowed if network.version == family]
            # A source that OVN has no match for is let in no more than one that isn't named.
            known = [source for source in sources if not fault(f"ip{family}.src == {source}")]
            unless = f" && !(ip{family}.src == {{{', '.join(known)}}})" if known else ""
            ids = (("k8s.ovn.org/name", service.key), ("ip", address), ("rule-index", f"{protocol}-{port}"))
            yield acl(
                f"sources-{protocol}-{port}-{address}",
                Slot("Port_Group", rows.cluster_port_group(), "acls"),
                "from-lport",
                PRIORITY,
                "drop",
                f"ip{family}.dst == {address} && {protocol}.dst == {port}{unless}",
                object_ids("ServiceSourceRanges", *ids),
                tier=None,
            )
