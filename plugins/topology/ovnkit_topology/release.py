"""What the release of OVN that runs a zone leaves for us to do."""

from __future__ import annotations

from ovnkit.api.world import World, derived
from ovnkit.network.northd import northd_release

BINDS_REMOTE_PORTS = (23, 6)
"""Since this release northd sets the chassis of ports of type `remote`; before, ovn-ic does, and we have none."""


@derived
def leaves_remote_ports_unbound(world: World) -> bool:
    """Whether the zone's northd doesn't set the chassis of remote ports."""
    release = northd_release(world)
    return bool(release) and release < BINDS_REMOTE_PORTS
