"""What the node's Open vSwitch has: bridges, their ports, and the external bridge as one fact."""

from __future__ import annotations

from attrs import frozen

from ovnkit.api.flows import INTEGRATION_BRIDGE
from ovnkit.api.host import MADE_FOR
from ovnkit.api.kinds import Kind, Raw, Table
from ovnkit.api.world import World, derived


@frozen
class OvsBridge:
    """A bridge. `ports` are UUIDs of Port rows; `datapath` is `netdev` or `system` (empty: system).

    `made_for` is the interface for which ovnkit has made it; empty for a bridge of somebody else.
    """

    name: str
    ports: frozenset[str]
    datapath: str
    made_for: str = ""

    @property
    def key(self) -> str:
        """The bridge's name."""
        return self.name


@frozen
class OvsPort:
    """A port. `interfaces` are UUIDs of rows of the Interface table."""

    uuid: str
    name: str
    interfaces: frozenset[str]

    @property
    def key(self) -> str:
        """The row's UUID: bridges refer to ports by it."""
        return self.uuid


@frozen
class OvsInterface:
    """An interface. `ofport` is its OpenFlow port number, 0 while it has none; `mac` is the one in use."""

    uuid: str
    name: str
    type: str
    ofport: int
    mac: str

    @property
    def key(self) -> str:
        """The row's UUID: ports refer to interfaces by it."""
        return self.uuid


def _one(value: object) -> object:
    """The element of an optional column, which arrives as a tuple of at most one; None when empty."""
    if isinstance(value, tuple | frozenset | list):
        return next(iter(value), None)
    return value


def _bridge(raw: Raw) -> OvsBridge:
    made_for = str(raw["external_ids"].get(MADE_FOR, ""))
    return OvsBridge(raw["name"], frozenset(_all(raw["ports"])), str(raw.get("datapath_type") or ""), made_for)


def _all(value: object) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, tuple | frozenset | list) else (str(value),)


def _port(raw: Raw) -> OvsPort:
    return OvsPort(raw["_uuid"], raw["name"], frozenset(_all(raw["interfaces"])))


def _interface(raw: Raw) -> OvsInterface:
    number = _one(raw.get("ofport"))
    return OvsInterface(
        raw["_uuid"],
        raw["name"],
        str(raw.get("type") or ""),
        number if isinstance(number, int) and number > 0 else 0,
        str(_one(raw.get("mac_in_use")) or ""),
    )


OVS_BRIDGES: Kind[OvsBridge] = Kind(
    "ovs-bridges", Table("ovs", "Bridge", ("name", "ports", "datapath_type", "external_ids")), _bridge
)
OVS_PORTS: Kind[OvsPort] = Kind(
    "ovs-ports", Table("ovs", "Port", ("name", "interfaces")), _port, indexes={"name": lambda port: (port.name,)}
)
OVS_INTERFACES: Kind[OvsInterface] = Kind(
    "ovs-interfaces",
    Table("ovs", "Interface", ("name", "type", "ofport", "mac_in_use")),
    _interface,
    indexes={"name": lambda interface: (interface.name,)},
)
OVS_KINDS = (OVS_BRIDGES, OVS_PORTS, OVS_INTERFACES)


@frozen
class ExternalBridge:
    """The bridge that leads outside. Port numbers are 0 while the port isn't there.

    `uplink` is the network interface below it, `patch` the port towards the integration bridge that
    ovn-controller makes for the localnet port of this node.
    """

    name: str
    uplink: str
    uplink_port: int
    patch_port: int
    datapath: str


def patch_name(bridge: str, node: str) -> str:
    """Name of the patch port that ovn-controller makes on an external bridge."""
    return f"patch-{bridge}_{node}-to-{INTEGRATION_BRIDGE}"


@derived
def bridge_interfaces(world: World, bridge: str) -> tuple[OvsInterface, ...]:
    """Interfaces of a bridge, by name; empty when there is no such bridge."""
    found = world.get(OVS_BRIDGES, bridge)
    ports = [world.get(OVS_PORTS, uuid) for uuid in found.ports] if found is not None else []
    uuids = {uuid for port in ports if port is not None for uuid in port.interfaces}
    interfaces = [world.get(OVS_INTERFACES, uuid) for uuid in uuids]
    return tuple(sorted((item for item in interfaces if item is not None), key=lambda item: item.name))


@derived
def bridge_of_port(world: World, port: str) -> str | None:
    """The bridge that a port belongs to; a bridge's own internal port counts. None when it is on none."""
    uuids = {found.uuid for found in world.list(OVS_PORTS, "name", port)}
    return next((bridge.name for bridge in world.list(OVS_BRIDGES) if uuids & bridge.ports), None)


@derived
def external_bridge(world: World, bridge: str, node: str) -> ExternalBridge | None:
    """An external bridge with the ports that flows need; None when there is no such bridge."""
    found = world.get(OVS_BRIDGES, bridge)
    if found is None:
        return None
    interfaces = bridge_interfaces(world, bridge)
    patch = patch_name(bridge, node)
    uplinks = [item for item in interfaces if item.type not in ("internal", "patch") and item.name != bridge]
    return ExternalBridge(
        name=bridge,
        uplink=uplinks[0].name if uplinks else "",
        uplink_port=uplinks[0].ofport if uplinks else 0,
        patch_port=next((item.ofport for item in interfaces if item.name == patch), 0),
        datapath=found.datapath,
    )
