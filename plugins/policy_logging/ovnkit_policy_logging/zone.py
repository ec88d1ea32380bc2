"""Role zone: the meter that limits log lines."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.identity import RowId
from ovnkit.api.items import Row
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.acl_logging import METER
from ovnkit.network.meters import meter_rows
from ovnkit_policy_logging.options import PolicyLoggingOptions

METER_ROW = RowId("policy_logging", "meter", "", "meter")


@frozen
class LoggingMeter:
    """The renderer of the meter that all logged ACLs name."""

    options: PolicyLoggingOptions

    def renderers(self) -> Iterable[Renderer]:
        """One render."""
        yield Renderer("meter", Role.ZONE, self.meter)

    def meter(self, _world: World, _key: str) -> Iterable[Row]:
        """The rate is per ACL where the meter is fair."""
        options = self.options
        yield from meter_rows(
            METER_ROW, METER, options.acl_logging_rate_limit, fair=options.rate_limit_per == "acl"
        )
