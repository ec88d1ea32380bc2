"""Role zone: chassis that nobody's ovn-controller uses any more are removed from the southbound.

The southbound allows one tunnel address once, so an old chassis of a node keeps the node's present one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, frozen

from ovnkit.api.errors import Reject
from ovnkit.api.identity import OWNER_KEY
from ovnkit.api.items import Absent, Event, Lookup, Member, Slot
from ovnkit.api.kinds import Kind, Raw, Table
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
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
_TABLES = ((CHASSIS, "Chassis"), (CHASSIS_PRIVATE, "Chassis_Private"))


def renderers() -> Iterable[Renderer]:
    """Zone: one render for each name of a chassis. Cluster: one for each node, whether its chassis is its own."""
    yield Renderer("chassis", Role.ZONE, render, each=names, subject=CHASSIS)
    yield Renderer("node-chassis", Role.CLUSTER, check, each=NODES)


def names(world: World) -> Iterable[str]:
    """Chassis that there are, and those that were removed."""
    removed = {name for view in world.list(REMOVALS) for name in view.found}
    return {*world.keys(CHASSIS), *world.keys(CHASSIS_PRIVATE), *removed}


@derived
def annotated_chassis(world: World) -> Mapping[str, tuple[str, ...]]:
    """The nodes by the names of their chassis; more than one where system-ids are not unique."""
    found: dict[str, tuple[str, ...]] = {}
    for node in sorted(world.keys(NODES)):
        name = _annotated(world, node)
        if name:
            found[name] = (*found.get(name, ()), node)
    return found


@derived
def nodes_of(world: World, name: str) -> tuple[str, ...]:
    """The nodes whose annotations name a chassis."""
    return annotated_chassis(world).get(name, ())


def _annotated(world: World, node: str) -> str:
    """The node's chassis; empty when its annotation is missing or wrong."""
    try:
        return chassis_id(world, node) or ""
    except Reject:
        return ""


@derived
def node_of(world: World, name: str) -> str:
    """The node whose annotation names a chassis, or empty."""
    return next(iter(nodes_of(world, name)), "")


def check(world: World, node: str) -> Iterable[Event]:
    """Two ovn-controllers with one name take everything from each other, in turns."""
    name = _annotated(world, node)
    others = [other for other in nodes_of(world, name) if other != node] if name else []
    if others:
        message = (
            f"Open vSwitch has the system-id {name}, as that of {', '.join(others)} has; "
            "each node needs one of its own (external_ids:system-id), traffic is cut meanwhile"
        )
        yield Event(NODES, node, "DuplicateChassis", message)


def render(world: World, name: str) -> Iterable[Absent | Event | Member]:
    """The node's name on a chassis that is a node's; one that no longer is goes."""
    rows = {table: view for kind, table in _TABLES if (view := world.get(kind, name)) is not None}
    if any(view.remote for view in rows.values()):
        return
    said = next((view.node or view.hostname for view in rows.values() if view.node or view.hostname), "")
    # the look at all nodes is only for what isn't as it should be
    current = said if said and _annotated(world, said) == name else node_of(world, name)
    marked = current or next((view.node for view in rows.values() if view.node), "")
    if marked:
        # also on what goes: by that it is known until it is gone
        for table in rows:
            yield Member(Slot(table, Lookup(table, "name", name), "external_ids"), marked, key=NODE_MARK, db="sb")
    if current:
        return
    record = next((view.found[name] for view in world.list(REMOVALS) if name in view.found), "")
    removed, _, instead = record.partition(" ")
    if instead and node_of(world, instead):
        yield _record(name, record)
    node = marked or said
    wanted = _annotated(world, node)
    if world.get(NODES, node) is None:
        yield from _remove(rows if marked else {})
    elif wanted and instead == wanted and "Chassis" in rows and rows["Chassis"].row != removed:
        message = (
            f"chassis {name} of {node} is back in the southbound, but annotation node-chassis-id is {wanted}; "
            "its ovn-controller is running with another system-id"
        )
        yield Event(NODES, node, "UnknownChassis", message)
    elif wanted:
        if "Chassis" in rows:
            if instead != wanted:
                yield _record(name, f"{rows['Chassis'].row} {wanted}")
            message = f"removed chassis {name} from the southbound: the chassis of {node} is {wanted}"
            yield Event(NODES, node, "StaleChassis", message, warning=False)
        yield from _remove(rows)


def _record(name: str, text: str) -> Member:
    return Member(Slot("SB_Global", Lookup("SB_Global"), "external_ids"), text, key=REMOVED + name, db="sb")


def _remove(rows: Mapping[str, Chassis]) -> Iterable[Absent]:
    for table, view in rows.items():
        yield Absent(table, view.row, db="sb")
