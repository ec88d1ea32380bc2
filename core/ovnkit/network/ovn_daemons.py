"""Whether OVN's daemons work: what one plugin finds out and several tell."""

from __future__ import annotations

from attrs import frozen

from ovnkit.api.kinds import Answers, Kind

NORTHD = "ovn-northd"
"""Key of the zone's northd."""

NORTHBOUND_SERVER, SOUTHBOUND_SERVER = "ovnnb_db", "ovnsb_db"
"""Keys of the servers of the zone's databases."""


def controller(node: str) -> str:
    """Key of a node's ovn-controller."""
    return f"ovn-controller/{node}"


@frozen
class OvnDaemon:
    """A daemon of OVN, by its key; `problem` is a sentence, empty while it works as far as is known."""

    daemon: str
    problem: str = ""

    @property
    def key(self) -> str:
        """`NORTHD`, that of a database's server, or that of `controller`."""
        return self.daemon


OVN_DAEMONS: Kind[OvnDaemon] = Kind("ovn-daemons", Answers(), lambda raw: OvnDaemon(**raw))
