"""Latencies that plugins declare (`Declaration.latencies`), measured while objects are observed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog
from prometheus_client import CollectorRegistry, Histogram

from ovnkit.api.kinds import Changes, Kind, View
from ovnkit.api.metrics import Latency
from ovnkit.status.plugin_metrics import BadMetric, shown_name

log = structlog.get_logger()


class Latencies:
    """One histogram for each latency of each plugin. `observe` is called in the reconciler's thread."""

    def __init__(
        self,
        declared: Iterable[tuple[str, Sequence[Latency[View]]]],
        registry: CollectorRegistry,
        clock: Callable[[], float],
    ) -> None:
        self._by_kind: dict[Kind[View], list[_Measured]] = {}
        self.names: set[str] = set()
        for plugin, latencies in declared:
            for latency in latencies:
                try:
                    name = shown_name(plugin, latency)
                    if name in self.names:
                        raise BadMetric(f"there is a metric {name} already")
                    histogram = Histogram(name, latency.help, buckets=latency.buckets, registry=registry)
                except Exception as error:  # whatever it is, the others are shown
                    log.error("metric is left out", plugin=plugin, metric=latency.name, error=str(error))
                    continue
                self.names.add(name)
                self._by_kind.setdefault(latency.kind, []).append(_Measured(plugin, latency, histogram, clock))

    def observe(self, kind: Kind[View], changes: Changes) -> None:
        """Objects came, changed or went."""
        for measured in self._by_kind.get(kind, ()):
            for key, view in changes:
                measured.observe(key, view)


class _Measured:
    def __init__(
        self, plugin: str, latency: Latency[View], histogram: Histogram, clock: Callable[[], float]
    ) -> None:
        self._plugin = plugin
        self._latency = latency
        self._histogram = histogram
        self._clock = clock
        self._since: dict[str, float] = {}
        self._failed = False

    def observe(self, key: str, view: View | None) -> None:
        try:
            self._look(key, view)
        except Exception:  # a plugin's code; one line, then its objects just don't count
            self._since.pop(key, None)
            if not self._failed:
                self._failed = True
                log.exception("latency can't be measured", plugin=self._plugin, metric=self._latency.name)

    def _look(self, key: str, view: View | None) -> None:
        if view is None:
            self._since.pop(key, None)
        elif self._latency.done(view):
            since = self._since.pop(key, None)
            if since is not None:
                self._histogram.observe(self._clock() - since)
        elif self._latency.waits(view):
            self._since.setdefault(key, self._clock())
