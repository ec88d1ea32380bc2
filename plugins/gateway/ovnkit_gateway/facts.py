"""Role node: the node's gateway as observed: interface, bridge, addresses, next hops."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import ConfigError, HostError, Retry
from ovnkit.api.host import ADDRESSES, LINKS, ROUTES, RouteView
from ovnkit.api.models import NODES
from ovnkit.api.text import Address, Interface, parse_address, parse_port
from ovnkit.api.world import World, derived
from ovnkit.network.bridges import ExternalBridge, bridge_of_port, external_bridge
from ovnkit.network.onlink import on_link_interface
from ovnkit_gateway.detect import ADVICE_NONE, Outside, outside, through_bridges

LOCAL_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@frozen
class NodeGateway:
    """What the node role knows of its gateway. `mac` is the bridge's, `addresses` are the node's on it."""

    node: str
    bridge: ExternalBridge
    mac: str
    addresses: tuple[Interface, ...]
    next_hops: tuple[Address, ...]

    def address(self, family: int) -> Interface | None:
        """The node's first address of a family."""
        return next((item for item in self.addresses if item.version == family), None)


def configured_next_hops(config: Config) -> tuple[Address, ...]:
    """`[gateway] next-hop`: up to one address per family; raises ConfigError."""
    texts = [text.strip() for text in config.gateway.next_hop.split(",") if text.strip()]
    try:
        found = tuple(parse_address(text) for text in texts)
    except ValueError as error:
        raise ConfigError(f"[gateway] next-hop: {error}") from None
    if len({address.version for address in found}) != len(found):
        raise ConfigError("[gateway] next-hop: more than one address of one IP family")
    return found


def translated_ports(config: Config) -> str:
    """Ports of the gateway routers' translations, `low-high`: `ephemeral-port-range`, or this host's own.

    The node's processes and what OVN translates then share one range, which NodePorts lie outside of. Empty
    (any port) without a gateway, or where the host doesn't say. Raises ConfigError.
    """
    text = config.gateway.ephemeral_port_range
    if not text and config.gateway.mode and LOCAL_PORT_RANGE.exists():
        text = "-".join(LOCAL_PORT_RANGE.read_text().split())
    if not text:
        return ""
    low, _, high = text.partition("-")
    try:
        if parse_port(low) > parse_port(high):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"[gateway] ephemeral-port-range: {text!r} is not a range of ports such as 32768-60999"
        ) from None
    return text


@derived
def default_routes(world: World) -> tuple[RouteView, ...]:
    """The default routes of both families; through a bridge's port means through the bridge."""
    routes = [route for route in world.list(ROUTES) if route.destination.prefixlen == 0]
    return tuple(through_bridges(route, partial(bridge_of_port, world)) for route in routes)


@derived
def leads_outside(world: World, config: Config, chosen: str) -> Outside:
    """The interface that leads outside: as configured, `chosen` at start, or searched where it is empty.

    Retry while the routes don't allow to tell: what was built stays.
    """
    routes = default_routes(world)
    interface = config.gateway.interface or chosen
    try:
        found = outside(
            routes,
            config.families,
            interface=bridge_of_port(world, interface) or interface,
            next_hops=configured_next_hops(config),
        )
    except HostError as error:
        raise Retry(f"{error}; {error.advice}") from None
    lacking = set(config.families) - {hop.version for hop in found.next_hops}
    if lacking and not config.gateway.interface:
        families = " and ".join(f"IPv{family}" for family in sorted(lacking))
        raise Retry(f"gateway interface {found.link} has no {families} default route; {ADVICE_NONE}")
    return found


@derived
def node_gateway(world: World, node: str, config: Config, chosen: str) -> NodeGateway:
    """The node's gateway; Retry until the bridge and its addresses are there."""
    found = leads_outside(world, config, chosen)
    name = bridge_of_port(world, found.link) or found.link
    bridge = external_bridge(world, name, node)
    if bridge is None:
        raise Retry(f"{found.link} is not on a bridge yet")
    link = world.get(LINKS, name)
    if link is None or not link.mac:
        raise Retry(f"no network interface {name} yet")
    addresses = gateway_addresses(world, node, name, config)
    missing = set(config.families) - {address.version for address in addresses}
    if missing:
        families = " and ".join(f"IPv{family}" for family in sorted(missing))
        raise Retry(f"failed to find {families} address on interface {name}")
    return NodeGateway(node, bridge, link.mac, addresses, found.next_hops)


@derived
def gateway_addresses(world: World, node: str, link: str, config: Config) -> tuple[Interface, ...]:
    """The node's own address of each family of the cluster on the bridge; its InternalIP where that is there."""
    found = world.get(NODES, node)
    internal = found.addresses if found is not None else ()
    chosen: dict[int, Interface] = {}
    for view in sorted(
        world.list(ADDRESSES, "link", link),
        key=lambda item: (item.address.version, str(item.address.ip) not in internal, item.address),
    ):
        address = view.address
        unusable = address.ip.is_link_local or view.deprecated or address.version not in config.families
        if unusable or address.ip in config.masquerade_subnet(address.version):
            continue
        chosen.setdefault(address.version, on_link_interface(world, link, address))
    return tuple(chosen.values())


def check(config: Config) -> None:
    """Raise when the section `[gateway]` contradicts itself."""
    options = config.gateway
    if options.mode not in ("", "shared", "local"):
        raise ConfigError(f"[gateway] mode: {options.mode!r} is neither shared nor local")
    if options.vlan_id and options.mode != "shared":
        raise ConfigError("[gateway] vlan-id: a VLAN can only be used in mode shared")
    if options.allow_no_uplink and options.mode != "local":
        raise ConfigError("[gateway] allow-no-uplink: only in mode local")
    configured_next_hops(config)
    translated_ports(config)
