"""What the annotations of a node say about its network, parsed once and shared.

Each function of (world, node name) gives None when the annotation is not there (yet) and raises Reject, naming
annotation and value, when it is nonsense. Formats are those of OVN-Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
)
from typing import TypeVar

from ovnkit.api.config import ClusterSubnet, Config
from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Scope
from ovnkit.api.identity import mac_from_ip
from ovnkit.api.models import NODES
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.text import (
    Address,
    Interface,
    Network,
    check_strings,
    json_member,
    parse_address,
    parse_interface,
    parse_json_object,
    parse_json_strings,
    parse_network,
    parse_number,
    quoted,
    readable,
)
from ovnkit.api.world import World, derived

T = TypeVar("T")

NODE_SUBNETS = "k8s.ovn.org/node-subnets"
NODE_ID = "k8s.ovn.org/node-id"
CHASSIS_ID = "k8s.ovn.org/node-chassis-id"
TRANSIT_ADDRESSES = "k8s.ovn.org/node-transit-switch-port-ifaddr"
PRIMARY_ADDRESSES = "k8s.ovn.org/node-primary-ifaddr"
ENCAP_IPS = "k8s.ovn.org/node-encap-ips"
HOST_CIDRS = "k8s.ovn.org/host-cidrs"
ZONE_NAME = "k8s.ovn.org/zone-name"
GATEWAY_MTU_SUPPORT = "k8s.ovn.org/gateway-mtu-support"

DEFAULT_NETWORK = "default"
MAX_NODE_ID = 32767
"""Greatest tunnel key of a logical switch port in OVN; a node's id is the key of its transit switch port."""


def _parsed(world: World, node: str, annotation: str, parse: Callable[[str], T]) -> T | None:
    found = world.get(NODES, node)
    text = found.annotations.get(annotation) if found is not None else None
    if text is None:
        return None
    try:
        return parse(text)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Reject(f"annotation {annotation} is {quoted(text)}: {error}", reason="InvalidAnnotation") from None


def parse_node_subnets(text: str) -> tuple[Network, ...]:
    """Subnets of the default network in a `node-subnets` annotation, IPv4 first; raises ValueError.

    What other networks have in it doesn't matter.
    """
    found = json_member(text, DEFAULT_NETWORK)
    if found is None:
        raise ValueError(f"no network {DEFAULT_NETWORK!r}")
    networks = [
        parse_network(item, strict=True) for item in check_strings([found] if isinstance(found, str) else found)
    ]
    if len({network.version for network in networks}) != len(networks) or not networks:
        raise ValueError("needs one subnet of each IP family")
    return tuple(sorted(networks, key=lambda network: network.version))


def held_node_subnets(text: str) -> tuple[Network, ...]:
    """Those that can be read, for whoever must not hand them out a second time."""
    try:
        found = json_member(text, DEFAULT_NETWORK)
    except ValueError:
        return ()
    return tuple(readable(parse_network, found if isinstance(found, list) else [found]))


def _node_id(text: str) -> int:
    return parse_number(text, 1, MAX_NODE_ID)


def _interfaces(text: str) -> tuple[Interface, ...]:
    found = parse_json_object(text)
    return tuple(parse_interface(found[family]) for family in ("ipv4", "ipv6") if found.get(family))


_CHASSIS = re.compile(r"[A-Za-z0-9_.:-]{1,255}")


def _word(text: str) -> str:
    if not _CHASSIS.fullmatch(text):
        raise ValueError("not a chassis name")
    return text


@derived
def node_subnets(world: World, node: str) -> tuple[Network, ...] | None:
    """The node's slices of the cluster network, IPv4 first, as annotated; see also `host_subnets`."""
    return _parsed(world, node, NODE_SUBNETS, parse_node_subnets)


@derived
def host_subnets(world: World, node: str, cluster: tuple[ClusterSubnet, ...]) -> tuple[Network, ...] | None:
    """As `node_subnets`, but raises Reject when one of them is not a slice of the cluster network."""
    found = node_subnets(world, node)
    for network in found or ():
        if not any(is_slice(network, subnet) for subnet in cluster):
            networks = ", ".join(str(subnet) for subnet in cluster)
            raise Reject(
                f"annotation {NODE_SUBNETS}: {network} is not a slice of the cluster network {networks}",
                reason="InvalidNodeSubnet",
            )
    return found


def is_slice(network: Network, subnet: ClusterSubnet) -> bool:
    """Whether a network is one of those a cluster subnet is divided into for nodes."""
    whole = subnet.network
    if isinstance(network, IPv4Network) and isinstance(whole, IPv4Network):
        return network.prefixlen == subnet.host_prefix and network.subnet_of(whole)
    if isinstance(network, IPv6Network) and isinstance(whole, IPv6Network):
        return network.prefixlen == subnet.host_prefix and network.subnet_of(whole)
    return False


@derived
def is_unmanaged(world: World, node: str, unmanaged: LabelSelector | None) -> bool:
    """Whether a node is one of those that get no subnet (`no-hostsubnet-nodes`)."""
    if unmanaged is None:
        return False
    found = world.get(NODES, node)
    return found is not None and unmanaged.matches(found.labels)


def zone_nodes(world: World, scope: Scope, config: Config) -> list[str]:
    """The nodes of this zone that get a subnet (`no-hostsubnet-nodes` don't)."""
    unmanaged = config.kubernetes.no_hostsubnet_selector
    nodes: Iterable[str] = world.keys(NODES)
    if scope.per_node_zones:
        nodes = (scope.zone,) if world.get(NODES, scope.zone) is not None else ()
    return [node for node in nodes if not is_unmanaged(world, node, unmanaged)]


@derived
def node_id(world: World, node: str) -> int | None:
    """The node's number, from which its addresses on the join and transit switches are computed."""
    return _parsed(world, node, NODE_ID, _node_id)


@derived
def chassis_id(world: World, node: str) -> str | None:
    """Name of the node's OVN chassis (its Open vSwitch's system-id)."""
    return _parsed(world, node, CHASSIS_ID, _word)


@derived
def transit_addresses(world: World, node: str) -> tuple[Interface, ...] | None:
    """Addresses of the node on the transit switch, IPv4 first; only in zones per node."""
    return _parsed(world, node, TRANSIT_ADDRESSES, _interfaces)


@derived
def primary_addresses(world: World, node: str) -> tuple[Interface, ...] | None:
    """The node's addresses on its primary interface, IPv4 first."""
    return _parsed(world, node, PRIMARY_ADDRESSES, _interfaces)


@derived
def encap_ips(world: World, node: str) -> tuple[Address, ...] | None:
    """Tunnel endpoint addresses of the node."""
    return _parsed(world, node, ENCAP_IPS, lambda text: tuple(map(parse_address, parse_json_strings(text))))


@derived
def host_cidrs(world: World, node: str) -> tuple[Interface, ...] | None:
    """All addresses of the node's kernel, with prefix lengths, sorted as annotated."""
    return _parsed(world, node, HOST_CIDRS, lambda text: tuple(map(parse_interface, parse_json_strings(text))))


@derived
def gateway_mtu_supported(world: World, node: str) -> bool:
    """Whether routers may check packet sizes on this node (`gateway-mtu-support` isn't "false")."""
    found = world.get(NODES, node)
    return found is None or found.annotations.get(GATEWAY_MTU_SUPPORT) != "false"


# -- addresses computed from a subnet or a node's number ------------------------------------------------------


def nth_interface(network: Network, number: int) -> Interface:
    """Address number `number` of a network (0 is its base), with its prefix length."""
    if isinstance(network, IPv4Network):
        return IPv4Interface((network.network_address + number, network.prefixlen))
    return IPv6Interface((network.network_address + number, network.prefixlen))


def gateway_address(network: Network) -> Interface:
    """Address of the cluster router on a node's subnet: the first."""
    return nth_interface(network, 1)


def management_address(network: Network) -> Interface:
    """Address of the node's management port on its subnet: the second."""
    return nth_interface(network, 2)


def cluster_router_join_address(join_subnet: Network) -> Interface:
    """Address of the cluster router on the join switch: the first."""
    return nth_interface(join_subnet, 1)


def gateway_router_join_address(join_subnet: Network, number: int) -> Interface:
    """Address of a node's gateway router on the join switch: base + node id."""
    return nth_interface(join_subnet, number)


def transit_address(transit_subnet: Network, number: int) -> Interface:
    """Address of a node on the transit switch: base + node id."""
    return nth_interface(transit_subnet, number)


def port_mac(addresses: Iterable[Address | Interface]) -> str:
    """MAC address of a port with these addresses: from its IPv4 address when it has one, else from IPv6."""
    first = min(addresses, key=lambda address: address.version)
    return mac_from_ip(first.ip if isinstance(first, IPv4Interface | IPv6Interface) else first)
