"""Which release of OVN runs a zone, as its northd writes it into the northbound."""

from __future__ import annotations

import re

from attrs import frozen

from ovnkit.api.kinds import Kind, Raw, Table
from ovnkit.api.world import World, derived


@frozen
class Northd:
    """The NB_Global row; `release` is like (23, 3), empty before northd has run."""

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
"""A plugin whose renderers ask for the release declares this kind."""


@derived
def northd_release(world: World) -> tuple[int, ...]:
    """The release of the zone's northd, like (25, 3); empty before it has run."""
    return next((northd.release for northd in world.list(NORTHD) if northd.release), ())
