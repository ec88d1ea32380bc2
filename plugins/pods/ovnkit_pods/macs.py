"""MAC addresses that pods ask for: never one that something else on the node's switch has, or will have."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import overload

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.identity import DERIVED_MACS, mac_from_ip
from ovnkit.api.models import PODS, Pod
from ovnkit.api.text import Address
from ovnkit.api.world import Pool, World
from ovnkit.network import pod as podnetwork
from ovnkit.network.node import port_mac
from ovnkit.network.pod_addresses import has_own_network


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

    def checked(self, world: World, pod: Pod, mac: str, addresses: Sequence[Address], reason: str) -> str:
        """The MAC; Reject when another pod has asked for it, or (`reason`) when it isn't for pods to choose.

        All that start with `0a:58` are derived from addresses: of pods, those that come later among them, and of
        routers, management ports and the ARP proxy. Which address one is derived from can't be told for IPv6, so
        a pod may have no other of them than its own.
        """
        if mac.startswith(DERIVED_MACS):
            if mac in map(mac_from_ip, addresses):
                return mac
            raise Reject(
                f"MAC address {mac} can't be used: those starting with {DERIVED_MACS} derive from addresses "
                f"of pods and routers, and this pod's is {port_mac(addresses)}",
                reason=reason,
            )
        return world.allocate(self._pool, pod.node, pod.key, mac)


def _held(world: World, node: str) -> Mapping[str, Collection[str]]:
    held = {}
    for pod in sorted(world.list(PODS, "node", node), key=lambda pod: pod.key):
        if not has_own_network(pod):
            continue
        _, mac = podnetwork.held(pod.annotations.get(podnetwork.ANNOTATION, ""))
        if mac and not mac.startswith(DERIVED_MACS):
            held[pod.key] = (mac,)
    return held
