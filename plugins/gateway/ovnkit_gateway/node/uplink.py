"""Role node: the bridge over the interface that leads outside, made where there is none yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import HostError, Retry
from ovnkit.api.flows import INTEGRATION_BRIDGE
from ovnkit.api.hooks import HostFactsReader
from ovnkit.api.host import ADDRESSES, LINKS, ROUTES, UplinkBridge
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.bridges import OVS_BRIDGES, OVS_PORTS, OvsBridge, OvsPort, bridge_of_port
from ovnkit_gateway.detect import found_routes, outside, through_bridges
from ovnkit_gateway.facts import configured_next_hops, leads_outside
from ovnkit_gateway.node.gateway import MAPPINGS
from ovnkit_gateway.zone.routers import LOCAL_PHYSICAL_NETWORK

LONGEST_NAME = 15
"""Characters of the name of a network interface (IFNAMSIZ without its end)."""

OVS_MASTER = "ovs-system"
"""Master of the interfaces that are ports of Open vSwitch's kernel datapath."""


def bridge_name(config: Config, interface: str) -> str:
    """What the bridge over an interface is called: `[gateway] bridge`, or upstream's `br` and its name."""
    return config.gateway.bridge or f"br{interface}"


@frozen
class Uplinks:
    """The renderer of the bridge. `chosen` is the interface that was found at start, where none is configured."""

    config: Config
    chosen: str = ""

    def renderers(self) -> Iterable[Renderer]:
        """One; it needs nothing of the API server, which may only be reached over the bridge."""
        yield Renderer("uplink", Role.NODE, self.render)

    def render(self, world: World, _key: str) -> Iterable[UplinkBridge]:
        """The bridge, unless somebody else has made it."""
        interface = self.config.gateway.interface or leads_outside(world, self.config, self.chosen).link
        bridge = bridge_of_port(world, interface)
        if bridge is None:
            if world.get(LINKS, interface) is None:
                raise Retry(f"no network interface {interface} yet")
            yield UplinkBridge(bridge_name(self.config, interface), interface)
            return
        found = world.get(OVS_BRIDGES, bridge)
        if found is not None and found.made_for:
            yield UplinkBridge(bridge, found.made_for)


# -- before anything starts -----------------------------------------------------------------------------------


def check_host(config: Config, facts: HostFactsReader) -> str:
    """The interface that leads outside: as configured, else the former one, else that of the default routes. Of a
    bridge that was made for an interface it is that one.

    The former one is the bridge that the node's Open vSwitch maps to the outside: it stays as long as it has
    default routes, even if others are better. Raises HostError when the node can't have a gateway as configured.
    """
    bridges: tuple[OvsBridge, ...] = tuple(facts(OVS_BRIDGES))
    on = _bridges_by_port(bridges, facts(OVS_PORTS))
    options = config.gateway
    made_for = {bridge.name: bridge.made_for for bridge in bridges if bridge.made_for}
    former = _mapped(facts) & {bridge.name for bridge in bridges}
    bare = _bare(options.interface, bridges, facts)
    if bare:
        return options.interface or made_for[min(bare, key=lambda name: (name not in former, name))]
    seen = [through_bridges(route, on.get) for route in facts(ROUTES)]
    for bridge in sorted(former) if not options.interface else ():
        if len(found_routes(seen, config.families, bridge)) == len(config.families):
            return made_for.get(bridge, bridge)
    next_hops = configured_next_hops(config)
    named = on.get(options.interface, options.interface)
    link = outside(seen, config.families, interface=named, next_hops=next_hops).link
    _check_interface(config, options.interface or link, on, {view.name: view for view in facts(LINKS)})
    return options.interface or made_for.get(link, link)


def _mapped(facts: HostFactsReader) -> set[str]:
    """The bridge to the outside by `ovn-bridge-mappings`, which a former run wrote."""
    pairs = (pair for row in facts(MAPPINGS) for pair in row.mappings)
    return {bridge for network, bridge in pairs if network == LOCAL_PHYSICAL_NETWORK}


def _bridges_by_port(bridges: Iterable[OvsBridge], ports: Iterable[OvsPort]) -> dict[str, str]:
    names = {port.uuid: port.name for port in ports}
    return {names[uuid]: bridge.name for bridge in bridges for uuid in bridge.ports if uuid in names}


def _bare(interface: str, bridges: Iterable[OvsBridge], facts: HostFactsReader) -> set[str]:
    """Bridges of ours without addresses: the core gives them back to them, and routes with them."""
    made = {
        bridge.name for bridge in bridges if bridge.made_for and interface in ("", bridge.name, bridge.made_for)
    }
    links = {view.link for view in facts(ADDRESSES) if not view.address.ip.is_link_local}
    return set() if made & links else made


def _check_interface(config: Config, name: str, on: Mapping[str, str], links: Mapping[str, Any]) -> None:
    wanted, bridge = config.gateway.bridge, on.get(name)
    advice = "name an interface that leads outside, or the bridge it is a port of, with [gateway] interface"
    if bridge is not None:
        if bridge == INTEGRATION_BRIDGE or (wanted and bridge != wanted):
            other = f", not {wanted}" if wanted else ""
            raise HostError(f"gateway interface {name} is a port of bridge {bridge}{other}", advice)
        return
    if name not in links:
        raise HostError(f"there is no gateway interface {name}", advice)
    master = links[name].master
    if master not in ("", OVS_MASTER):
        raise HostError(f"gateway interface {name} belongs to {master}, it can't be a port of a bridge", advice)
    if len(bridge_name(config, name)) > LONGEST_NAME:
        long = bridge_name(config, name)
        raise HostError(f"{long} is too long for the name of a bridge", "give one with [gateway] bridge")
