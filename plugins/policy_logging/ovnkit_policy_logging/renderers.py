"""Role zone: the meter of log lines. Role cluster: Events on namespaces whose annotation is wrong."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.identity import RowId
from ovnkit.api.items import Event, Row
from ovnkit.api.models import NAMESPACES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network.acl_logging import METER
from ovnkit.network.meters import meter_rows
from ovnkit_policy_logging.annotation import ANNOTATION, levels
from ovnkit_policy_logging.options import PolicyLoggingOptions

METER_ROW = RowId("policy_logging", "meter", "", "meter")


@frozen
class LoggingRows:
    """The renderers."""

    options: PolicyLoggingOptions

    def renderers(self) -> Iterable[Renderer]:
        """One render for the meter, one per namespace."""
        yield Renderer("meter", Role.ZONE, self.meter)
        yield Renderer("namespace", Role.CLUSTER, self.namespace, each=NAMESPACES)

    def meter(self, _world: World, _key: str) -> Iterable[Row]:
        """The meter that all logged ACLs name."""
        options = self.options
        yield from meter_rows(
            METER_ROW, METER, options.acl_logging_rate_limit, fair=options.rate_limit_per == "acl"
        )

    def namespace(self, world: World, key: str) -> Iterable[Event]:
        """What is wrong with a namespace's annotation."""
        found = levels(world, key)
        if found is not None and found.faults:
            message = f"annotation {ANNOTATION}: {'; '.join(found.faults)}"
            yield Event(NAMESPACES, key, "InvalidAnnotation", message)
