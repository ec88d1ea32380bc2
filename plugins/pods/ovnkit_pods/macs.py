"""MAC addresses that pods ask for: never one that another pod of the node has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address
from typing import overload

from attrs import frozen

from ovnkit.api import podnetwork
from ovnkit.api.errors import Reject
from ovnkit.api.identity import mac_from_ip
from ovnkit.api.models import PODS, Pod
from ovnkit.api.nodenetwork import Address, Network, port_mac
from ovnkit.api.world import Pool, World
from ovnkit_pods.annotated import has_addresses

_DERIVED = "0a:58:"


@frozen
class _AnyMac(Sequence[str]):
    """Every MAC may be asked for, none is handed out unasked."""

    def __len__(self) -> int:
        return 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """There is nothing to hand out."""
        raise IndexError(index)

    def __contains__(self, mac: object) -> bool:
        return isinstance(mac, str)


class RequestedMacs:
    """Who has which MAC of those that were asked for."""

    def __init__(self) -> None:
        self._pool: Pool[str] = Pool("pod-macs", "MAC address", lambda _world, _node: _AnyMac(), _held)

    def checked(
        self, world: World, pod: Pod, mac: str, addresses: Sequence[Address], subnets: Sequence[Network]
    ) -> str:
        """The MAC; Reject when it is taken, or would be the MAC of a pod with another address."""
        if mac == port_mac(addresses):
            return mac
        if mac.startswith(_DERIVED):
            owner = IPv4Address(int(mac[len(_DERIVED) :].replace(":", ""), 16))
            if any(owner in subnet for subnet in subnets):
                raise Reject(f"MAC address {mac} belongs to address {owner} of this subnet", reason="AlreadyInUse")
        return world.allocate(self._pool, pod.node, pod.key, mac)


def _held(world: World, node: str) -> Mapping[str, Collection[str]]:
    held = {}
    for pod in sorted(world.list(PODS, "node", node), key=lambda pod: pod.key):
        if not has_addresses(pod):
            continue
        addresses, mac = podnetwork.held(pod.annotations.get(podnetwork.ANNOTATION, ""))
        if mac and not (addresses and mac == mac_from_ip(addresses[0])):
            held[pod.key] = (mac,)
    return held
