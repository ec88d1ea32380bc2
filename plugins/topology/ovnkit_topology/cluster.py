"""Role cluster: which node has which number and which slices of the cluster network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar, overload

from attrs import frozen

from ovnkit.api.config import ClusterSubnet, Config
from ovnkit.api.errors import Reject
from ovnkit.api.items import Annotation, Event
from ovnkit.api.models import NODES, Node
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.text import JsonMembers, Network, print_json
from ovnkit.api.world import Pool, World
from ovnkit.network.node import (
    DEFAULT_NETWORK,
    MAX_NODE_ID,
    NODE_ID,
    NODE_SUBNETS,
    TRANSIT_ADDRESSES,
    held_node_subnets,
    host_subnets,
    is_slice,
    is_unmanaged,
    node_id,
    transit_address,
)
from ovnkit_topology.chassis import chassis_of, nodes_of

T = TypeVar("T", bound=Hashable)

FIRST_NODE_ID = 2
"""0 is no number, and 1 is the cluster router's address on the join switch."""

_MOST_SLICES = 2**24
DEPRECATED = ("k8s.ovn.org/node-gateway-router-lrp-ifaddr", "k8s.ovn.org/node-gateway-router-lrp-ifaddrs")
"""Annotations of older releases, which say what the node's number says already."""


@frozen
class Slices(Sequence[Network]):
    """The slices of one family's cluster networks in order, computed when asked for."""

    subnets: tuple[ClusterSubnet, ...]

    def __len__(self) -> int:
        return sum(_slices(subnet) for subnet in self.subnets)

    @overload
    def __getitem__(self, index: int) -> Network: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Network]: ...
    def __getitem__(self, index: int | slice) -> Network | Sequence[Network]:
        """The slice at a position."""
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        for subnet in self.subnets:
            if index < _slices(subnet):
                return _slice(subnet, index)
            index -= _slices(subnet)
        raise IndexError(index)

    def __contains__(self, network: object) -> bool:
        return isinstance(network, IPv4Network | IPv6Network) and any(
            is_slice(network, subnet) for subnet in self.subnets
        )

    def __iter__(self) -> Iterator[Network]:
        return (self[position] for position in range(len(self)))


def _slices(subnet: ClusterSubnet) -> int:
    return int(min(2 ** (subnet.host_prefix - subnet.network.prefixlen), _MOST_SLICES))


def _slice(subnet: ClusterSubnet, position: int) -> Network:
    whole = subnet.network
    base = int(whole.network_address) + (position << (whole.max_prefixlen - subnet.host_prefix))
    if isinstance(whole, IPv4Network):
        return IPv4Network((base, subnet.host_prefix))
    return IPv6Network((base, subnet.host_prefix))


def _oldest_first(world: World) -> list[Node]:
    return sorted(world.list(NODES), key=lambda node: (node.created, node.uid, node.name))


class Assigner:
    """The renderers of the cluster role."""

    def __init__(self, config: Config, *, per_node_zones: bool) -> None:
        self._config = config
        self._per_node_zones = per_node_zones
        self._unmanaged = config.kubernetes.no_hostsubnet_selector
        self._cluster = config.default.cluster_subnets
        self._ids: Pool[int] = Pool("node-ids", "node id", self._id_candidates, _held_ids)
        self._subnets = {
            family: Pool(
                f"node-subnets-v{family}", f"IPv{family} node subnet", self._slices(family), self._held(family)
            )
            for family in config.families
        }

    def renderers(self) -> Iterable[Renderer]:
        """A node's number and subnets are rendered apart: one that fails leaves the other alone."""
        yield Renderer("node-id", Role.CLUSTER, self.render_id, each=NODES)
        yield Renderer("node-subnets", Role.CLUSTER, self.render_subnets, each=NODES)
        yield Renderer("node-chassis", Role.CLUSTER, check_chassis, each=NODES)

    # -- numbers ------------------------------------------------------------------------------------------

    def _id_candidates(self, _world: World, _scope: str) -> range:
        networks = [self._config.join_subnet(family) for family in self._config.families]
        if self._per_node_zones:
            networks += [self._config.transit_subnet(family) for family in self._config.families]
        # The last address of an IPv4 subnet is its broadcast address.
        last = min(MAX_NODE_ID, *(network.num_addresses - 2 for network in networks))
        return range(FIRST_NODE_ID, last + 1)

    def render_id(self, world: World, node: str) -> Iterable[Annotation | Event]:
        """The node's number, and its addresses on the transit switch where there is one."""
        number, complaint = _allocate(world, self._ids, node, node_id(world, node))
        yield from complaint
        yield Annotation(NODES, node, NODE_ID, str(number))
        transit = None
        if self._per_node_zones:
            addresses = {
                f"ipv{family}": str(transit_address(self._config.transit_subnet(family), number))
                for family in self._config.families
            }
            transit = print_json(addresses)
        yield Annotation(NODES, node, TRANSIT_ADDRESSES, transit)
        for name in DEPRECATED:
            yield Annotation(NODES, node, name, None)

    # -- subnets ------------------------------------------------------------------------------------------

    def _slices(self, family: int) -> Callable[[World, str], Slices]:
        slices = Slices(tuple(subnet for subnet in self._cluster if subnet.network.version == family))
        return lambda _world, _scope: slices

    def _held(self, family: int) -> Callable[[World, str], Mapping[str, Collection[Network]]]:
        def held(world: World, _scope: str) -> Mapping[str, Collection[Network]]:
            return {
                node.name: tuple(network for network in self._annotated(node) if network.version == family)
                for node in _oldest_first(world)
                if not is_unmanaged(world, node.name, self._unmanaged)
            }

        return held

    def _annotated(self, node: Node) -> Iterable[Network]:
        """The slices a node has, also where the rest of the annotation is wrong: its pods may be in them."""
        for network in held_node_subnets(node.annotations.get(NODE_SUBNETS, "")):
            if any(is_slice(network, subnet) for subnet in self._cluster):
                yield network

    def render_subnets(self, world: World, node: str) -> Iterable[Annotation | Event]:
        """The node's slice of the cluster network in each family; none for unmanaged nodes."""
        if is_unmanaged(world, node, self._unmanaged):
            yield Annotation(NODES, node, NODE_SUBNETS, None)
            return
        annotated = host_subnets(world, node, self._cluster) or ()
        chosen = []
        for family, pool in self._subnets.items():
            wanted = next((network for network in annotated if network.version == family), None)
            subnet, complaint = _allocate(world, pool, node, wanted)
            yield from complaint
            chosen.append(str(subnet))
        found = world.get(NODES, node)
        text = found.annotations.get(NODE_SUBNETS) if found is not None else None
        members = JsonMembers.parse(text or "{}").having(DEFAULT_NETWORK, chosen)
        yield Annotation(NODES, node, NODE_SUBNETS, str(members))


def _held_ids(world: World, _scope: str) -> Mapping[str, Collection[int]]:
    held = {}
    for node in _oldest_first(world):
        try:
            number = node_id(world, node.name)
        except Reject:
            continue
        if number is not None:
            held[node.name] = (number,)
    return held


def _allocate(world: World, pool: Pool[T], node: str, annotated: T | None) -> tuple[T, list[Event]]:
    """What the annotation says, or another value and an Event when it is taken by another node.

    At start the older node of two keeps what both claim; later it's the one that has it.
    """
    if annotated is None:
        return world.allocate(pool, "", node), []
    try:
        return world.allocate(pool, "", node, annotated), []
    except Reject as error:
        value = world.allocate(pool, "", node)
        message = f"{error.message}; {node} has {value} now"
        return value, [Event(NODES, node, error.reason, message)]


def check_chassis(world: World, node: str) -> Iterable[Event]:
    """Two ovn-controllers with one name take everything from each other, in turns."""
    name = chassis_of(world, node)
    others = [other for other in nodes_of(world, name) if other != node] if name else []
    if others:
        message = (
            f"Open vSwitch has the system-id {name}, as that of {', '.join(others)} has; "
            "each node needs one of its own (external_ids:system-id), traffic is cut meanwhile"
        )
        yield Event(NODES, node, "DuplicateChassis", message)
