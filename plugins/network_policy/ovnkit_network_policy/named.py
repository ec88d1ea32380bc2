"""Named ports: the numbers a name has in the pods that a rule reaches, as the specification says, per pod."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.models import NAMESPACES, PODS, Pod
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.world import World, derived
from ovnkit.network.pod_addresses import has_own_network
from ovnkit_network_policy.peers import NamedPort, PodSet


@derived
def numbers(
    world: World, namespaces: str | LabelSelector, pods: LabelSelector, name: str, protocol: str
) -> tuple[int, ...]:
    """The numbers that a port's name stands for in some pods, in order. Pods may disagree."""
    found = {
        port.port
        for pod in _pods(world, namespaces)
        if has_own_network(pod) and pods.matches(pod.labels)
        for port in pod.ports
        if port.name == name and port.protocol == protocol
    }
    return tuple(sorted(found))


def _pods(world: World, namespaces: str | LabelSelector) -> Iterable[Pod]:
    if isinstance(namespaces, str):
        return world.list(PODS, "namespace", namespaces)
    if not namespaces.requirements:
        return world.list(PODS)
    names = [view.name for view in world.list(NAMESPACES) if namespaces.matches(view.labels)]
    return [pod for name in names for pod in world.list(PODS, "namespace", name)]


def with_port(world: World, pods: PodSet, name: str, protocol: str) -> list[PodSet]:
    """The pods of a set that have a port of this name, one set for each number it stands for."""
    return [
        PodSet(pods.namespaces, pods.pods, port=NamedPort(name, protocol, number))
        for number in numbers(world, pods.namespaces, pods.pods, name, protocol)
    ]
