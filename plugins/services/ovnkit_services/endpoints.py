"""Which endpoints a port of a service has: several slices joined, the eligible ones chosen, bad ones left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from ovnkit.api.text import Network, quoted
from ovnkit.api.world import World, derived
from ovnkit.network.services import (
    ENDPOINT_SLICES,
    SERVICES,
    Endpoint,
    EndpointSlice,
    parse_address,
)

FAMILIES = {"IPv4": 4, "IPv6": 6}
"""Address types of EndpointSlices that carry addresses (the third is FQDN), and their IP versions."""

PortKey = tuple[str, str]
"""Protocol and port name: what joins a port of a service with ports of its slices."""


@frozen
class Target:
    """An address and port to send to.

    `ready` is false for one that is used only while none is ready: it is going, but still serves. `hosted` says
    that the address lies outside the cluster network: a host-network pod, or something outside.
    """

    address: str
    port: int
    node: str
    ready: bool
    hosted: bool

    def text(self, family: int) -> str:
        """As in a load balancer's `vips`."""
        return vip(self.address, self.port, family)


@frozen
class Targets:
    """The targets of one port of a service in one IP family, sorted by port and address text."""

    known: tuple[Target, ...] = ()

    def eligible(self) -> tuple[Target, ...]:
        """Those that are ready, or, when there are none, those that are going but still serve."""
        return _eligible(self.known)

    def on(self, node: str) -> tuple[Target, ...]:
        """The same among those of one node."""
        return _eligible(target for target in self.known if target.node == node)


NOBODY = Targets()
Endpoints = Mapping[tuple[PortKey, int], Targets]
"""Targets by port key and IP version."""


def _eligible(targets: Iterable[Target]) -> tuple[Target, ...]:
    targets = tuple(targets)
    return tuple(target for target in targets if target.ready) or targets


def vip(address: str, port: int, family: int) -> str:
    """An address and a port as OVN writes them."""
    return f"{address}:{port}" if family == 4 else f"[{address}]:{port}"


@derived
def service_endpoints(world: World, key: str, cluster: tuple[Network, ...]) -> Endpoints:
    """The targets of all ports of a service."""
    service = world.get(SERVICES, key)
    everyone = service is not None and service.publish_not_ready
    found: dict[tuple[PortKey, int], dict[tuple[int, str], Target]] = {}
    for piece in sorted(world.list(ENDPOINT_SLICES, "service", key), key=lambda piece: piece.name):
        family = FAMILIES.get(piece.address_type)
        if family is None:
            continue
        usable = [item for endpoint in piece.endpoints for item in _usable(endpoint, family, everyone, cluster)]
        for port in piece.ports:
            targets = found.setdefault(((port.protocol, port.name), family), {})
            for address, node, ready, hosted in usable:
                known = targets.get((port.port, address))
                if known is None or (ready and not known.ready):
                    targets[port.port, address] = Target(address, port.port, node, ready, hosted)
    return {key: Targets(tuple(targets[item] for item in sorted(targets))) for key, targets in found.items()}


def _usable(
    endpoint: Endpoint, family: int, everyone: bool, cluster: tuple[Network, ...]
) -> Iterable[tuple[str, str, bool, bool]]:
    ready = everyone or endpoint.ready
    if not ready and not (endpoint.serving and endpoint.terminating):
        return
    for text in endpoint.addresses:
        if fault(text, family):
            continue
        address = parse_address(text)
        yield str(address), endpoint.node, ready, not any(address in network for network in cluster)


def fault(text: str, family: int) -> str:
    """Why an endpoint's address can't be used; empty when it can. As the API server should have said."""
    address = parse_address(text)
    if address is None:
        return f"endpoint {quoted(text)} is no address"
    if address.version != family:
        return f"endpoint {address} is no IPv{family} address"
    if address.is_unspecified or address.is_loopback or address.is_link_local or address.is_multicast:
        return f"endpoint {address} is no address of a host"
    return ""


def faults(piece: EndpointSlice) -> list[str]:
    """What is wrong with the endpoints of a slice."""
    family = FAMILIES.get(piece.address_type)
    if family is None:
        return []
    found = (fault(text, family) for endpoint in piece.endpoints for text in endpoint.addresses)
    return [item for item in found if item]
