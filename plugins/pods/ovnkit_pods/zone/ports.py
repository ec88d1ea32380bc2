"""Role zone: the address and the logical switch port of each pod of the zone's nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ovnkit.api.config import Config
from ovnkit.api.hooks import HookCalls, Hooks, Scope
from ovnkit.api.items import Annotation, Row, Slot
from ovnkit.api.models import PODS, Pod
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import Address
from ovnkit.api.world import Pool, World
from ovnkit.network import pod as podnetwork
from ovnkit.network import pod_addresses as podaddresses
from ovnkit.network.addresses import AddressRange
from ovnkit.network.node import port_mac
from ovnkit.network.pod import DEFAULT_NETWORK, PodNetwork
from ovnkit_pods import annotated
from ovnkit_pods.asked import Asked, ask
from ovnkit_pods.macs import RequestedMacs
from ovnkit_pods.nodes import Layout, NodeNetwork, interface, node_network, requested_chassis
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
        if pod is None or not podaddresses.has_own_network(pod):
            return
        network = node_network(world, pod.node, self._layout)
        if network is None:
            return
        text = pod.annotations.get(podnetwork.ANNOTATION)
        if text is not None and _is_usual(text, pod, network):
            asked = Asked.of(podaddresses.annotated(text))
        else:
            asked = ask(pod, network, podnetwork.parse(text))

        kept = asked.kept
        allocated = [
            world.allocate(self._pools[subnet.version], pod.node, key, asked.addresses.get(subnet.version))
            for subnet in network.subnets
            if kept is None or subnet.version in asked.addresses
        ]
        addresses = allocated if kept is None else [address.ip for address in kept.ip_addresses]
        mac = port_mac(addresses)
        if asked.mac:
            mac = self._macs.checked(world, pod, asked.mac, addresses, asked.reason)
        yield Annotation(PODS, key, podnetwork.ANNOTATION, _text(text, asked, network, mac, addresses))
        yield self._port(world, pod, network.slot, " ".join((mac, *map(str, addresses))))

    def _port(self, world: World, pod: Pod, slot: Slot, address: str) -> Row:
        options = {"iface-id-ver": pod.uid}
        if self._request_chassis:
            options["requested-chassis"] = requested_chassis(world, pod.node)
        for _plugin, more in self._hooks.each(Hooks.ovnkit_port_options, world=world, pod=pod):
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


def _is_usual(text: str, pod: Pod, network: NodeNetwork) -> bool:
    """Whether an annotation is, letter for letter, what a pod that asks for nothing has on this node."""
    found = podaddresses.annotated(text)
    if not network.owns(found) or text != network.annotation(port_mac(found), found):
        return False
    return not annotated.is_plugged(pod) or all(str(address) in pod.addresses for address in found)


def _text(text: str | None, asked: Asked, network: NodeNetwork, mac: str, addresses: Sequence[Address]) -> str:
    """The annotation; one that says the same already stays as it is."""
    wanted = asked.kept
    if wanted is None:
        usual = network.annotation(mac, addresses)
        if text is None or text == usual:
            return text or usual  # the pod's own object: one text in memory instead of two
        interfaces = tuple(map(interface, addresses, network.subnets))
        wanted = PodNetwork(interfaces, mac, network.gateways, network.routes)
    return text if text and wanted == asked.existing else podnetwork.render(text, DEFAULT_NETWORK, wanted)
