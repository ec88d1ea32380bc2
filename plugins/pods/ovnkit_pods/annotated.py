"""Addresses that pods already hold, from their annotations; used where a whole parse would cost too much."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ovnkit.api import podaddresses
from ovnkit.api.models import PODS, Pod
from ovnkit.api.nodenetwork import Address
from ovnkit.api.podnetwork import ANNOTATION
from ovnkit.api.world import World


def has_addresses(pod: Pod) -> bool:
    """Whether the addresses in a pod's annotation are its own now: not the host's, and not given back."""
    return not pod.host_network and not pod.completed


def of_pod(pod: Pod, family: int) -> Collection[Address]:
    """A pod's addresses of one IP version."""
    return podaddresses.pod_addresses(pod, family)


def ipv4(pod: Pod) -> Collection[str]:
    """Text of a pod's IPv4 addresses, for live sets."""
    return [str(address) for address in of_pod(pod, 4)]


def ipv6(pod: Pod) -> Collection[str]:
    """Text of a pod's IPv6 addresses, for live sets."""
    return [str(address) for address in of_pod(pod, 6)]


def held(world: World, node: str, family: int) -> Mapping[str, Collection[Address]]:
    """What the pods of a node hold, by pod; of two that claim one address the likelier owner comes first.

    That is the one that runs with it (its status says so), then the older one.
    """
    pods = sorted(world.list(PODS, "node", node), key=_claim)
    return {pod.key: found for pod in pods if (found := of_pod(pod, family))}


def _claim(pod: Pod) -> tuple[bool, str, str]:
    runs_with_it = bool(pod.addresses) and any(str(found) in pod.addresses for found in _annotated(pod))
    return not runs_with_it, pod.created, pod.key


def _annotated(pod: Pod) -> tuple[Address, ...]:
    return podaddresses.annotated(pod.annotations.get(ANNOTATION, ""))
