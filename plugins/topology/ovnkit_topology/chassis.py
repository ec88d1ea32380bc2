"""The chassis of the southbound, and which node's annotation names one."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from ovnkit.api.errors import Reject
from ovnkit.api.identity import OWNER_KEY
from ovnkit.api.kinds import Kind, Raw, Table
from ovnkit.api.models import NODES
from ovnkit.api.world import World, derived
from ovnkit.network.node import chassis_id

NODE_MARK = "k8s.ovn.org/node"
"""external_ids key of a chassis: the node whose annotation names it. It outlives the Node."""

REMOVED = "k8s.ovn.org/removed-chassis/"
"""external_ids of SB_Global, with the chassis' name behind it: the UUID of the row that was removed, and the
annotated chassis then. A chassis that comes back has an ovn-controller that is alive, so it is left alone."""


@frozen
class Chassis:
    """A row of Chassis or Chassis_Private. `node` is the node it is marked with, `remote`: we wrote it."""

    row: str
    name: str
    hostname: str
    node: str
    remote: bool

    @property
    def key(self) -> str:
        """Its name, which is unique."""
        return self.name


def _chassis(raw: Raw) -> Chassis:
    ids = raw["external_ids"]
    return Chassis(raw["_uuid"], raw["name"], raw.get("hostname", ""), ids.get(NODE_MARK, ""), OWNER_KEY in ids)


CHASSIS: Kind[Chassis] = Kind("chassis", Table("sb", "Chassis", ("name", "hostname", "external_ids")), _chassis)
CHASSIS_PRIVATE: Kind[Chassis] = Kind(
    "chassis-private", Table("sb", "Chassis_Private", ("name", "external_ids")), _chassis
)


@frozen
class Removals:
    """What SB_Global tells of chassis that were removed, by name."""

    row: str
    found: Mapping[str, str] = field(hash=False)

    @property
    def key(self) -> str:
        """UUID of the one row."""
        return self.row


def _removals(raw: Raw) -> Removals:
    ids = raw["external_ids"].items()
    return Removals(raw["_uuid"], {key[len(REMOVED) :]: text for key, text in ids if key.startswith(REMOVED)})


REMOVALS: Kind[Removals] = Kind("removed-chassis", Table("sb", "SB_Global", ("external_ids",)), _removals)
KINDS = (CHASSIS, CHASSIS_PRIVATE, REMOVALS)
TABLES = ((CHASSIS, "Chassis"), (CHASSIS_PRIVATE, "Chassis_Private"))


@derived
def annotated_chassis(world: World) -> Mapping[str, tuple[str, ...]]:
    """The nodes by the names of their chassis; more than one where system-ids are not unique."""
    found: dict[str, tuple[str, ...]] = {}
    for node in sorted(world.keys(NODES)):
        name = chassis_of(world, node)
        if name:
            found[name] = (*found.get(name, ()), node)
    return found


@derived
def nodes_of(world: World, name: str) -> tuple[str, ...]:
    """The nodes whose annotations name a chassis."""
    return annotated_chassis(world).get(name, ())


def chassis_of(world: World, node: str) -> str:
    """The chassis that a node's annotation names; empty when it is missing or wrong."""
    try:
        return chassis_id(world, node) or ""
    except Reject:
        return ""


@derived
def node_of(world: World, name: str) -> str:
    """The node whose annotation names a chassis, or empty."""
    return next(iter(nodes_of(world, name)), "")
