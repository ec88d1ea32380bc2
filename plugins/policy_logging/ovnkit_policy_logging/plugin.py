"""The policy_logging plugin: hooks only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import evolve

from ovnkit.api.config import Config
from ovnkit.api.hooks import AclLogging, Columns, Declaration, Runtime, hookimpl
from ovnkit.api.metrics import Metric
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit_policy_logging import cluster
from ovnkit_policy_logging.annotation import levels
from ovnkit_policy_logging.audit import AuditLog
from ovnkit_policy_logging.options import PolicyLoggingOptions
from ovnkit_policy_logging.zone import METER_ROW, LoggingMeter

COLUMNS = (
    Columns("nb", "Meter", ("name", "unit", "fair", "bands", "external_ids")),
    Columns("nb", "Meter_Band", ("action", "rate", "external_ids")),
)


class PolicyLoggingPlugin:
    """Logs of what policies allow and deny."""

    def __init__(self) -> None:
        self._audit: AuditLog | None = None

    @hookimpl
    def ovnkit_options(self) -> type:
        """See `PolicyLoggingOptions`."""
        return PolicyLoggingOptions

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """On by default; without an annotation nothing is logged."""
        return Declaration(
            columns=COLUMNS,
            default=True,
            summary="logs of what policies and egress firewalls allow and deny",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config) -> Iterable[Renderer]:
        """Zone: the meter. Cluster: Events."""
        yield from LoggingMeter(config.options("policy_logging", PolicyLoggingOptions)).renderers()
        yield from cluster.renderers()

    @hookimpl
    def ovnkit_acl_logging(self, world: World, namespace: str) -> AclLogging | None:
        """What the namespace's annotation says."""
        found = levels(world, namespace)
        return evolve(found.logging, meter=METER_ROW) if found is not None else None

    @hookimpl
    def ovnkit_health(self) -> Mapping[str, str]:
        """Whether lines can be delivered."""
        return {"audit log": self._audit.problem} if self._audit is not None and self._audit.problem else {}

    @hookimpl
    def ovnkit_metrics(self) -> Iterable[Metric]:
        """Lines passed on, on nodes."""
        return self._audit.metrics() if self._audit is not None else ()

    @hookimpl
    def ovnkit_explain(self) -> str | None:
        """What a row is for."""
        return "limits the log lines of ACLs, on each node"

    @hookimpl
    def ovnkit_started(self, runtime: Runtime) -> None:
        """Role node: pass on what ovn-controller logs."""
        if Role.NODE in runtime.scope.roles:
            self._audit = AuditLog(runtime.config, runtime.scope.node)
            self._audit.start()

    @hookimpl
    def ovnkit_stopping(self) -> None:
        """End what runs beside the renderers."""
        if self._audit is not None:
            self._audit.stop()
            self._audit = None
