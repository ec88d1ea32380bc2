"""How far OVN's daemons have come, as they count in the databases: nb_cfg, sb_cfg, hv_cfg (ovn-nb(5))."""

from __future__ import annotations

from attrs import frozen

from ovnkit.api.kinds import Kind, Raw, Table

NORTHBOUND, SOUTHBOUND = "northbound", "southbound"


@frozen
class NorthboundProgress:
    """NB_Global: what is asked for, what northd has written, what all ovn-controllers have installed."""

    nb_cfg: int
    sb_cfg: int
    hv_cfg: int

    @property
    def key(self) -> str:
        """There is one."""
        return NORTHBOUND


@frozen
class SouthboundProgress:
    """SB_Global: what ovn-controllers are asked for."""

    nb_cfg: int

    @property
    def key(self) -> str:
        """There is one."""
        return SOUTHBOUND


@frozen
class ChassisProgress:
    """Chassis_Private: what one ovn-controller has installed."""

    name: str
    nb_cfg: int

    @property
    def key(self) -> str:
        """The chassis."""
        return self.name


def _northbound(raw: Raw) -> NorthboundProgress:
    return NorthboundProgress(raw["nb_cfg"], raw["sb_cfg"], raw["hv_cfg"])


NB_PROGRESS: Kind[NorthboundProgress] = Kind(
    "northbound-progress", Table("nb", "NB_Global", ("nb_cfg", "sb_cfg", "hv_cfg")), _northbound
)
SB_PROGRESS: Kind[SouthboundProgress] = Kind(
    "southbound-progress", Table("sb", "SB_Global", ("nb_cfg",)), lambda raw: SouthboundProgress(raw["nb_cfg"])
)
CHASSIS_PROGRESS: Kind[ChassisProgress] = Kind(
    "chassis-progress",
    Table("sb", "Chassis_Private", ("name", "nb_cfg")),
    lambda raw: ChassisProgress(raw["name"], raw["nb_cfg"]),
)
KINDS = (NB_PROGRESS, SB_PROGRESS, CHASSIS_PROGRESS)
