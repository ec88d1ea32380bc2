"""Chassis that nobody's ovn-controller uses any more are removed from the southbound.

The southbound allows one tunnel address once, so an old chassis of a node keeps the node's present one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovnkit.api.items import Absent, Event, Lookup, Member, Slot
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit_topology.chassis import (
    CHASSIS,
    CHASSIS_PRIVATE,
    NODE_MARK,
    REMOVALS,
    REMOVED,
    TABLES,
    Chassis,
    chassis_of,
    node_of,
)


def renderers() -> Iterable[Renderer]:
    """One render for each name of a chassis."""
    yield Renderer("chassis", Role.ZONE, render, each=names, subject=CHASSIS)


def names(world: World) -> Iterable[str]:
    """Chassis that there are, and those that were removed."""
    removed = {name for view in world.list(REMOVALS) for name in view.found}
    return {*world.keys(CHASSIS), *world.keys(CHASSIS_PRIVATE), *removed}


def render(world: World, name: str) -> Iterable[Absent | Event | Member]:
    """The node's name on a chassis that is a node's; one that no longer is goes."""
    rows = {table: view for kind, table in TABLES if (view := world.get(kind, name)) is not None}
    if any(view.remote for view in rows.values()):
        return
    said = next((view.node or view.hostname for view in rows.values() if view.node or view.hostname), "")
    # the look at all nodes is only for what isn't as it should be
    current = said if said and chassis_of(world, said) == name else node_of(world, name)
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
    wanted = chassis_of(world, node)
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
