"""Prometheus metrics, read from counters and snapshots when scraped; nothing is counted twice.

Names of OVN-Kubernetes where they mean the same. Those of plugins come from their hook `ovnkit_metrics`, and from
the latencies that they declare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ovnkit import __version__
from ovnkit.api.http_server import Answer
from ovnkit.api.kinds import View
from ovnkit.api.metrics import Latency
from ovnkit.status.latencies import Latencies
from ovnkit.status.plugin_metrics import PluginMetrics
from ovnkit.status.state import reasons_degraded

_READY_METRICS = {
    "cluster": "ovnkube_clustermanager_ready_duration_seconds",
    "zone": "ovnkube_controller_ready_duration_seconds",
    "node": "ovnkube_node_ready_duration_seconds",
}
_SINK_COUNTERS = {
    "transactions": "ovnkit_transactions",
    "rows_written": "ovnkit_rows_written",
    "failed_transactions": "ovnkit_transaction_errors",
    "patches": "ovnkit_kube_patches",
    "status_patches": "ovnkit_kube_status_patches",
    "conflicts": "ovnkit_kube_conflicts",
    "throttles": "ovnkit_kube_throttles",
}
"""Counters of a sink's status and their metrics."""
_SINK_GAUGES = ("owned", "pending", "in_flight", "held_back", "waiting")


MetricAnswers = Callable[[], Iterable[tuple[str, object]]]
"""Asks plugins for their metrics: (plugin, answer)."""


class StateCollector(Collector):
    """Metrics made from the /status content, and those that plugins tell."""

    def __init__(
        self, state: Callable[[], Mapping[str, Any]], told: MetricAnswers, taken: Callable[[], Collection[str]]
    ) -> None:
        self._state = state
        self._told = told
        self._taken = taken
        self._plugins = PluginMetrics()

    def collect(self) -> Iterator[Metric]:
        """All families; called for each scrape."""
        told = self._told()  # first: who fails is counted in the state
        own = list(self._own(self._state()))
        yield from own
        yield from self._plugins.families(told, {family.name for family in own}.union(self._taken()))

    def _own(self, state: Mapping[str, Any]) -> Iterator[Metric]:
        yield _family(GaugeMetricFamily, "ovnkit_build_info", "Version.", ["version"], [((__version__,), 1)])
        degraded = bool(reasons_degraded(state, time.time()))
        yield GaugeMetricFamily("ovnkit_degraded", "1 while something wanted is not in effect.", degraded)
        yield from _roles(state)
        yield from _renders(state)
        yield from _sinks(state.get("sinks", {}))
        yield from _watches(state.get("watches", {}))
        yield _family(
            CounterMetricFamily,
            "ovnkit_match_complaints",
            "Matches that a daemon of OVN said it can't parse.",
            ["daemon"],
            [((daemon,), count) for daemon, count in state.get("match_complaints", {}).items()],
        )
        yield _family(
            GaugeMetricFamily,
            "ovnkit_objects",
            "Objects known, by kind.",
            ["kind"],
            [((kind,), count) for kind, count in state.get("kinds", {}).items()],
        )
        yield _family(
            GaugeMetricFamily,
            "ovnkit_pool_allocated",
            "Values handed out of a pool.",
            ["pool", "scope"],
            [
                ((pool, scope), count)
                for pool, scopes in state.get("pools", {}).items()
                for scope, count in scopes.items()
            ],
        )


Samples = Iterable[tuple[tuple[str, ...], float]]


def _family(cls: Any, name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    family: Metric = cls(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))  # type: ignore[attr-defined]
    return family


def _roles(state: Mapping[str, Any]) -> Iterator[Metric]:
    ready = state.get("ready_duration_seconds")
    roles = state.get("roles", ())
    if ready is not None:
        for role in roles:
            yield GaugeMetricFamily(_READY_METRICS[role], "Seconds from start to being ready.", ready)
    leader = state.get("leases", {}).get("cluster")
    if leader is not None:
        yield GaugeMetricFamily("ovnkube_clustermanager_leader", "1 if it holds the lease.", leader["leading"])


def _renders(state: Mapping[str, Any]) -> Iterator[Metric]:
    yield _family(
        CounterMetricFamily,
        "ovnkit_renders",
        "Renders run.",
        ["plugin", "renderer"],
        state.get("renders", {}).items(),
    )
    yield _family(
        CounterMetricFamily,
        "ovnkit_render_failures",
        "Renders that ended in an error, by what it was.",
        ["plugin", "renderer", "what"],
        state.get("render_failures", {}).items(),
    )
    yield _family(
        CounterMetricFamily,
        "ovnkit_hook_failures",
        "Hooks in which a plugin raised.",
        ["plugin", "hook"],
        state.get("hook_failures", {}).items(),
    )
    yield _family(
        GaugeMetricFamily,
        "ovnkit_plugin_quarantined",
        "Plugins in quarantine.",
        ["plugin"],
        [((plugin,), 1) for plugin in state.get("quarantined", {})],
    )


def _sinks(sinks: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    for key, name in _SINK_COUNTERS.items():
        samples = [((sink,), status[key]) for sink, status in sinks.items() if _is_number(status.get(key))]
        yield _family(CounterMetricFamily, name, f"{key} of a sink.", ["db"], samples)
    for key in _SINK_GAUGES:
        samples = [((sink,), status[key]) for sink, status in sinks.items() if _is_number(status.get(key))]
        yield _family(GaugeMetricFamily, f"ovnkit_sink_{key}", f"Items of a sink: {key}.", ["sink"], samples)
    connected = [((sink,), bool(status.get("connected"))) for sink, status in sinks.items()]
    yield _family(GaugeMetricFamily, "ovnkit_sink_connected", "1 while connected.", ["sink"], connected)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _watches(watches: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    for key in ("lists", "events", "expired", "errors", "view_errors"):
        samples = [((kind,), status[key]) for kind, status in watches.items() if key in status]
        yield _family(CounterMetricFamily, f"ovnkit_watch_{key}", f"{key} of a watch.", ["kind"], samples)


class Metrics:
    """The metrics of one process: ours, those of plugins, and what libraries registered by default."""

    def __init__(
        self,
        state: Callable[[], Mapping[str, Any]],
        told: MetricAnswers,
        latencies: Iterable[tuple[str, Sequence[Latency[View]]]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = CollectorRegistry()
        self.latencies = Latencies(latencies, self._own, clock)
        self._own.register(StateCollector(state, told, lambda: self.latencies.names))

    def answer(self) -> Answer:
        """The answer to /metrics."""
        return Answer(200, CONTENT_TYPE_LATEST, generate_latest(self._own) + generate_latest(REGISTRY))
