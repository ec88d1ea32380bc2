"""What a pod is to have on the cluster network: what it was plugged with, is annotated with, or asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.models import Pod
from ovnkit.api.text import Address
from ovnkit.network import pod as podnetwork
from ovnkit.network.node import port_mac
from ovnkit.network.pod import PodNetwork
from ovnkit.network.pod_addresses import pod_addresses
from ovnkit_pods import annotated, request
from ovnkit_pods.nodes import NodeNetwork, contains, interface


@frozen
class Asked:
    """Addresses by IP version (those that are missing are handed out), and a MAC address or empty.

    `existing` is what the annotation says, if it says anything. `kept` is what the pod runs with: it stays as it
    is, whatever the pod would get today. `reason` is that of the Event when the MAC can't be used.
    """

    addresses: Mapping[int, Address]
    mac: str = ""
    existing: PodNetwork | None = None
    kept: PodNetwork | None = None
    reason: str = podnetwork.INVALID

    @classmethod
    def of(cls, addresses: Iterable[Address]) -> Asked:
        """These addresses and the MAC address derived from them."""
        return cls({address.version: address for address in addresses})


def ask(pod: Pod, network: NodeNetwork, existing: PodNetwork | None) -> Asked:
    """What a pod of a node asks for; raises Reject when an address is not of the node, or a request is wrong."""
    said = existing or _by_status(pod, network)
    kept = annotated.plugged(pod, said) if said is not None else None
    if kept is not None:
        return Asked(_kept_addresses(pod, network, kept), kept.mac_address, existing, kept)
    if existing is not None:
        return Asked(_annotated_addresses(pod, network, existing), existing.mac_address, existing)
    asked = request.parse(pod.annotations)
    for address in asked.addresses.values():
        if not any(address in subnet for subnet in network.subnets):
            raise _foreign(request.ANNOTATION, str(address), pod, network)
    return Asked(asked.addresses, asked.mac, reason=request.INVALID)


def _by_status(pod: Pod, network: NodeNetwork) -> PodNetwork | None:
    """What a running pod whose annotation is lost has: its status tells the addresses, the node the rest."""
    if not annotated.is_plugged(pod):
        return None
    found = [
        (address, subnet)
        for subnet in network.subnets
        for address in pod_addresses(pod, subnet.version)
        if address in subnet
    ]
    if not found:
        return None
    families = {subnet.version for _, subnet in found}
    try:
        mac = request.parse(pod.annotations).mac
    except Reject:
        mac = ""  # the request has come after the pod was plugged
    return PodNetwork(
        tuple(interface(address, subnet) for address, subnet in found),
        mac or port_mac([address for address, _ in found]),
        tuple(hop for hop in network.gateways if hop.version in families),
        tuple(route for route in network.routes if route[0].version in families),
    )


def _kept_addresses(pod: Pod, network: NodeNetwork, kept: PodNetwork) -> Mapping[int, Address]:
    """The addresses of a running pod in the families that its node has now: they must be of the node still."""
    found: dict[int, Address] = {}
    for address in kept.ip_addresses:
        subnet = network.subnet(address.version)
        if subnet is None:
            continue  # the cluster has left this family; nobody else can have the address
        if address.ip not in subnet:
            raise _foreign(podnetwork.ANNOTATION, str(address), pod, network)
        found[address.version] = address.ip
    return found


def _annotated_addresses(pod: Pod, network: NodeNetwork, existing: PodNetwork) -> Mapping[int, Address]:
    """The addresses in the annotation of a pod that isn't plugged (again) yet."""
    found: dict[int, Address] = {}
    for address in existing.ip_addresses:
        subnet = network.subnet(address.version)
        if subnet is None and str(address.ip) in pod.addresses:
            continue  # it had the address in its last sandbox; the cluster has left this family
        if subnet is None or not contains(subnet, address):
            raise _foreign(podnetwork.ANNOTATION, str(address), pod, network)
        found[address.version] = address.ip
    return found


def _foreign(annotation: str, address: str, pod: Pod, network: NodeNetwork) -> Reject:
    subnets = ", ".join(map(str, network.subnets))
    return Reject(
        f"annotation {annotation}: {address} is not in a subnet of node {pod.node} ({subnets})",
        reason="ForeignAddress",
    )
