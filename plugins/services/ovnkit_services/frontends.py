"""The addresses and ports a service answers at, and what is wrong with those it can't have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from ovnkit.api.text import Network, parse_network, quoted
from ovnkit.api.world import World, derived
from ovnkit.network.services import SERVICES, Service, ServicePort, parse_address
from ovnkit_services.layout import Layout

PROTOCOLS = frozenset({"TCP", "UDP", "SCTP"})

FamilyAddress = tuple[int, str]
"""IP version and canonical text."""


@frozen
class Complaint:
    """What is wrong with a service: CamelCase reason and message of an Event."""

    reason: str
    message: str


@frozen
class Frontend:
    """One port of a service. `external` are externalIPs and addresses of load balancers it doesn't share."""

    port: ServicePort
    cluster: tuple[FamilyAddress, ...]
    external: tuple[FamilyAddress, ...]


@derived
def holders(world: World, address: str) -> Mapping[tuple[str, int], str]:
    """Which service has an address, by protocol and port: a cluster IP before others, then the oldest."""
    found: dict[tuple[str, int], str] = {}
    claims = sorted(world.list(SERVICES, "address", address), key=lambda service: _seniority(service, address))
    for service in claims:
        for port in service.ports:
            found.setdefault((port.protocol, port.port), service.key)
    return found


def _seniority(service: Service, address: str) -> tuple[bool, str, str, str]:
    has = any(str(parse_address(text)) == address for text in service.cluster_ips)
    return not has, service.created, service.uid, service.key


def is_served(service: Service) -> bool:
    """Whether the network has anything to do for it: neither headless nor a name elsewhere."""
    return bool(service.cluster_ips) and service.type != "ExternalName"


def frontends(world: World, service: Service, layout: Layout) -> tuple[list[Frontend], list[Complaint]]:
    """What a service answers at, and what it asked for and doesn't get."""
    if not is_served(service):
        return [], []
    complaints: list[Complaint] = []
    cluster = _addresses(service.cluster_ips, "cluster IP", layout, complaints)
    external = _addresses(service.external_ips, "external IP", layout, complaints)
    external += [
        address
        for address in _addresses(service.ingress_ips, "load balancer address", layout, complaints)
        if address not in external
    ]
    external = [address for address in external if address not in cluster]
    ports = service.ports
    if len(ports) > layout.max_ports:
        message = f"{len(ports)} ports; only the first {layout.max_ports} are served"
        complaints.append(Complaint("TooManyPorts", message))
        ports = ports[: layout.max_ports]
    found = []
    held = {address: holders(world, address[1]) for address in external}
    lost: dict[tuple[str, str], list[str]] = {}
    for port in ports:
        if port.protocol not in PROTOCOLS:
            message = f"port {port.port}: unknown protocol {quoted(port.protocol)}"
            complaints.append(Complaint("UnknownProtocol", message))
            continue
        own = []
        for address, ports_of in held.items():
            holder = ports_of.get((port.protocol, port.port), service.key)
            if holder == service.key:
                own.append(address)
            else:
                lost.setdefault((address[1], holder), []).append(f"{port.protocol} {port.port}")
        found.append(Frontend(port, tuple(cluster), tuple(own)))
    for (text, holder), what in lost.items():
        shown = ", ".join(what[:5]) + (f" and {len(what) - 5} more" if len(what) > 5 else "")
        complaints.append(Complaint("DuplicateExternalIP", f"{text} is served by {holder} already: {shown}"))
    return found, complaints


def _addresses(
    texts: Iterable[str], what: str, layout: Layout, complaints: list[Complaint]
) -> list[FamilyAddress]:
    found: list[FamilyAddress] = []
    for text in texts:
        address = parse_address(text)
        if address is None:
            complaints.append(Complaint("InvalidAddress", f"{what} {quoted(text)} is no address"))
        elif address.is_loopback or address.is_unspecified or address.is_multicast:
            # Every node has it for itself: its own processes would be led to the service.
            complaints.append(Complaint("InvalidAddress", f"{what} {address} can't be that of a service"))
        elif address.version not in layout.families:
            message = f"{what} {address}: the cluster network has no IPv{address.version}"
            complaints.append(Complaint("UnsupportedIPFamily", message))
        elif (item := (address.version, str(address))) not in found:
            found.append(item)
    return found


def source_ranges(service: Service) -> tuple[tuple[Network, ...] | None, list[Complaint]]:
    """The networks that may use a service's load balancer addresses; None means everybody.

    A range that can't be read lets nobody in: were it as if it weren't there, the service might be open to all.
    """
    if not service.source_ranges:
        return None, []
    found: list[Network] = []
    complaints = []
    for text in service.source_ranges:
        try:
            found.append(parse_network(text.strip() if isinstance(text, str) else text))
        except ValueError as error:
            complaints.append(Complaint("InvalidSourceRange", f"loadBalancerSourceRanges: {error}"))
    return tuple(found), complaints
