"""Addresses that pods already have: from their annotations, else from their status."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import evolve

from ovnkit.api.models import PODS, Pod
from ovnkit.api.text import Address
from ovnkit.api.world import World
from ovnkit.network.pod import PodNetwork
from ovnkit.network.pod_addresses import pod_addresses


def held(world: World, node: str, family: int) -> Mapping[str, Collection[Address]]:
    """What the pods of a node hold, by pod; of two that claim one address the likelier owner comes first.

    That is the one that runs with it (its status says so), then the older one.
    """
    pods = sorted(world.list(PODS, "node", node), key=_claim)
    return {pod.key: found for pod in pods if (found := pod_addresses(pod, family))}


def _claim(pod: Pod) -> tuple[bool, str, str]:
    found = [*pod_addresses(pod, 4), *pod_addresses(pod, 6)]
    return not any(str(address) in pod.addresses for address in found), pod.created, pod.key


def is_plugged(pod: Pod) -> bool:
    """Whether a pod runs with what it was plugged with: the kubelet has reported its addresses."""
    return bool(pod.addresses) and pod.sandbox_ready


def plugged(pod: Pod, network: PodNetwork) -> PodNetwork | None:
    """What a pod has of its annotated network, by its status; None when it has none of these addresses (yet)."""
    if not is_plugged(pod):
        return None
    own = tuple(address for address in network.ip_addresses if str(address.ip) in pod.addresses)
    if not own or own == network.ip_addresses:
        return network if own else None
    families = {address.version for address in own}
    return evolve(
        network,
        ip_addresses=own,
        gateway_ips=tuple(hop for hop in network.gateway_ips if hop.version in families),
        routes=tuple(route for route in network.routes if route[0].version in families),
    )
