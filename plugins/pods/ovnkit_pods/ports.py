"""Role zone: the address and the logical switch port of each pod of the zone's nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ovnkit.api import podaddresses, podnetwork
from ovnkit.api.addresses import AddressRange
from ovnkit.api.config import Config
from ovnkit.api.errors import Reject
from ovnkit.api.hooks import HookCalls, Scope
from ovnkit.api.items import Annotation, Row, Slot
from ovnkit.api.models import PODS, Pod
from ovnkit.api.nodenetwork import Address, port_mac
from ovnkit.api.podnetwork import DEFAULT_NETWORK, PodNetwork
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import Pool, World
from ovnkit_pods import annotated, request
from ovnkit_pods.macs import RequestedMacs
from ovnkit_pods.nodes import Layout, NodeNetwork, contains, interface, node_network, requested_chassis
from ovnkit_pods.options import PodsOptions

RESERVED = 3
"""Addresses at the start of a node's subnet that pods don't get: its base, the gateway, the management port."""


class PodPorts:
    """The renderer of pods' addresses and ports."""

    def __init__(self, config: Config, scope: Scope, hooks: HookCalls, options: PodsOptions) -> None:
        self._scope = scope
        self._hooks = hooks
        self._layout = Layout.of(config)
        self._skip = RESERVED + options.reserve_hybrid_address
        self._request_chassis = not config.default.disable_requestedchassis
        self._pools = {family: self._pool(family) for family in config.families}
        self._macs = RequestedMacs()

    def _pool(self, family: int) -> Pool[Address]:
        def candidates(world: World, node: str) -> Sequence[Address]:
            network = node_network(world, node, self._layout)
            subnet = network.subnet(family) if network is not None else None
            return AddressRange(subnet, self._skip) if subnet is not None else ()

        def taken(world: World, node: str) -> Mapping[str, Collection[Address]]:
            return annotated.held(world, node, family)

        return Pool(f"pod-addresses-v{family}", f"IPv{family} address", candidates, taken)

    def renderers(self) -> Iterable[Renderer]:
        """One render per pod of the zone."""
        each = self._own_pods if self._scope.per_node_zones else PODS
        yield Renderer("port", Role.ZONE, self.render, each=each, subject=PODS)

    def _own_pods(self, world: World) -> Iterable[str]:
        return world.keys(PODS, "node", self._scope.zone)

    def render(self, world: World, key: str) -> Iterable[Annotation | Row]:
        """Annotation and port; nothing for pods that have no network of their own."""
        pod = world.get(PODS, key)
        if pod is None or not pod.node or not annotated.has_addresses(pod):
            return
        network = node_network(world, pod.node, self._layout)
        if network is None:
            return
        text = pod.annotations.get(podnetwork.ANNOTATION)
        existing = None
        if text is None:
            asked, mac = _requested_addresses(pod, network)
        elif _is_usual(text, network):
            asked, mac = {address.version: address for address in podaddresses.annotated(text)}, ""
        elif (existing := podnetwork.parse(text)) is None:
            asked, mac = _requested_addresses(pod, network)
        else:
            asked, mac = _annotated_addresses(pod.node, network, existing), existing.mac_address

        addresses = [
            world.allocate(self._pools[subnet.version], pod.node, key, asked.get(subnet.version))
            for subnet in network.subnets
        ]
        mac = self._macs.checked(world, pod, mac, addresses, network.subnets) if mac else port_mac(addresses)
        yield Annotation(PODS, key, podnetwork.ANNOTATION, _text(text, existing, network, mac, addresses))
        yield self._port(world, pod, network.slot, " ".join((mac, *map(str, addresses))))

    def _port(self, world: World, pod: Pod, slot: Slot, address: str) -> Row:
        options = {"iface-id-ver": pod.uid}
        if self._request_chassis:
            options["requested-chassis"] = requested_chassis(world, pod.node)
        for _plugin, more in self._hooks.each("ovnkit_port_options", world=world, pod=pod):
            options.update(more)
        return Row(
            "Logical_Switch_Port",
            "port",
            {
                "name": f"{pod.namespace}_{pod.name}",
                "addresses": frozenset((address,)),
                "port_security": frozenset((address,)),
                "external_ids": {"namespace": pod.namespace, "pod": "true"},
                "options": options,
            },
            parent=slot,
        )


def _is_usual(text: str, network: NodeNetwork) -> bool:
    """Whether an annotation is, letter for letter, what a pod that asks for nothing has on this node."""
    found = podaddresses.annotated(text)
    return network.owns(found) and text == network.annotation(port_mac(found), found)


def _text(
    text: str | None, existing: PodNetwork | None, network: NodeNetwork, mac: str, addresses: Sequence[Address]
) -> str:
    """The annotation; one that says the same already stays as it is."""
    usual = network.annotation(mac, addresses)
    if text is None or text == usual:
        return text or usual  # the pod's own object: one text in memory instead of two
    interfaces = tuple(map(interface, addresses, network.subnets))
    wanted = PodNetwork(interfaces, mac, network.gateways, network.routes)
    return text if wanted == existing else podnetwork.render(text, DEFAULT_NETWORK, wanted)


def _annotated_addresses(node: str, network: NodeNetwork, existing: PodNetwork) -> Mapping[int, Address]:
    """The addresses in the annotation; Reject when one is not of the pod's node."""
    found: dict[int, Address] = {}
    for address in existing.ip_addresses:
        subnet = network.subnet(address.version)
        if subnet is None or not contains(subnet, address):
            raise Reject(
                f"annotation {podnetwork.ANNOTATION}: {address} is not in a subnet of node {node} "
                f"({', '.join(map(str, network.subnets))})",
                reason="ForeignAddress",
            )
        found[address.version] = address.ip
    return found


def _requested_addresses(pod: Pod, network: NodeNetwork) -> tuple[Mapping[int, Address], str]:
    """Addresses and MAC the pod asks for; Reject when an address is not of the pod's node."""
    asked = request.parse(pod.annotations)
    for family, address in asked.addresses.items():
        subnet = network.subnet(family)
        if subnet is None or address not in subnet:
            raise Reject(
                f"annotation {request.ANNOTATION}: {address} is not in a subnet of node {pod.node} "
                f"({', '.join(map(str, network.subnets))})",
                reason="ForeignAddress",
            )
    return asked.addresses, asked.mac
