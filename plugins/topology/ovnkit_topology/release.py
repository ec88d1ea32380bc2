"""Which release of OVN runs a zone, as its northd writes it into the northbound."""

from __future__ import annotations

import re

from attrs import frozen

from ovnkit.api.kinds import Kind, Raw, Table
from ovnkit.api.world import World, derived

BINDS_REMOTE_PORTS = (23, 6)
"""Since this release northd sets the chassis of ports of type `remote`; before, ovn-ic does, and we have none."""


@frozen
class Northd:
    """The NB_Global row as the topology reads it; `release` is like (23, 3), empty before northd has run."""

    row: str
    release: tuple[int, ...]

    @property
    def key(self) -> str:
        """UUID of the one row."""
        return self.row


def _northd(raw: Raw) -> Northd:
    match = re.match(r"(\d+)\.(\d+)", raw["options"].get("northd_internal_version", ""))
    return Northd(raw["_uuid"], tuple(map(int, match.groups())) if match else ())


NORTHD: Kind[Northd] = Kind("ovn-northd", Table("nb", "NB_Global", ("options",)), _northd)


@derived
def leaves_remote_ports_unbound(world: World) -> bool:
    """Whether the zone's northd doesn't set the chassis of remote ports."""
    releases = [northd.release for northd in world.list(NORTHD) if northd.release]
    return bool(releases) and releases[0] < BINDS_REMOTE_PORTS
