"""Pods as elements of sets: projections of live sets to addresses and ports, and the filter of a zone.

Plugins that use these same functions share the content of equal live sets.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from attrs import frozen

from ovnkit.api.hooks import Scope
from ovnkit.api.items import Ref
from ovnkit.api.models import Pod
from ovnkit.api.text import Address, parse_address, readable
from ovnkit.network import rows
from ovnkit.network.pod import ANNOTATION, held


@lru_cache(maxsize=65536)
def annotated(text: str) -> tuple[Address, ...]:
    """Addresses on the default network in an annotation's text, those that can be read."""
    return held(text)[0]


@lru_cache(maxsize=65536)
def _reported(texts: tuple[str, ...]) -> tuple[Address, ...]:
    return tuple(readable(parse_address, texts))


@lru_cache(maxsize=2 * 65536)
def _annotated_texts(text: str, family: int) -> tuple[str, ...]:
    return tuple(str(address) for address in annotated(text) if address.version == family)


def has_own_network(pod: Pod) -> bool:
    """Whether a pod is on the cluster network now: scheduled, not with the host's network, not completed."""
    return bool(pod.node) and not pod.host_network and not pod.completed


def pod_addresses(pod: Pod, family: int) -> Collection[Address]:
    """A pod's addresses of an IP version: annotated, else as its status says; none once they are given back.

    An annotation that is gone or that nobody can read frees nothing: the pod runs with what its status says.
    """
    if not has_own_network(pod):
        return ()
    text = pod.annotations.get(ANNOTATION)
    found = (annotated(text) if text is not None else ()) or _reported(pod.addresses)
    return [address for address in found if address.version == family]


def _texts(pod: Pod, family: int) -> Collection[str]:
    annotation = pod.annotations.get(ANNOTATION)
    if annotation is not None and has_own_network(pod) and (found := _annotated_texts(annotation, family)):
        return found
    return [str(address) for address in pod_addresses(pod, family)]


def ipv4(pod: Pod) -> Collection[str]:
    """Text of a pod's IPv4 addresses."""
    return _texts(pod, 4)


def ipv6(pod: Pod) -> Collection[str]:
    """Text of a pod's IPv6 addresses."""
    return _texts(pod, 6)


PROJECTIONS = {4: ipv4, 6: ipv6}
"""The projection of each IP version."""


def port_references(pod: Pod) -> Collection[Ref]:
    """A pod's logical switch port; a reference to a row that doesn't exist yet waits for it."""
    return (Ref.to(rows.pod_port(pod.key)),) if has_own_network(pod) else ()


@frozen(cache_hash=True)
class InZone:
    """Whether a pod's port is in this zone's northbound (`where` of a live set)."""

    scope: Scope

    def __call__(self, pod: Pod) -> bool:
        """True for pods on nodes of the zone."""
        return self.scope.is_local(pod.node)
