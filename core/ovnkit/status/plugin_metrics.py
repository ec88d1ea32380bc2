"""What plugins tell in `ovnkit_metrics`, checked: what one gets wrong must not break /metrics for all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

from ovnkit.api.kinds import View
from ovnkit.api.metrics import Latency, Metric, MetricKind, Sample

log = structlog.get_logger()

_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
"""Names of labels that begin with two underscores are Prometheus' own."""
_TEXT = re.compile(r"[^\ud800-\udfff]*")
"""What can be sent: lone surrogates can't."""
_UPSTREAM = ("ovnkube_", "ovn_", "ovs_")
_FOREIGN = re.compile(r"[^a-zA-Z0-9_]")
_FAMILIES = {MetricKind.COUNTER: CounterMetricFamily, MetricKind.GAUGE: GaugeMetricFamily}


class BadMetric(ValueError):
    """What a plugin gave is no metric; the text says why."""


class PluginMetrics:
    """Makes metrics of what plugins answer. What is wrong with one is logged once, until it is wrong otherwise."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, str], str] = {}

    def families(self, answers: Iterable[tuple[str, object]], taken: Iterable[str]) -> Iterator[Family]:
        """The metrics among (plugin, answer), without those that are wrong or whose names are `taken`."""
        names = set(taken)
        for plugin, metrics in answers:
            if not isinstance(metrics, list | tuple):
                self._tell(plugin, "", f"ovnkit_metrics gave no list of metrics but {type(metrics).__name__}")
                continue
            for metric in metrics:
                name = str(getattr(metric, "name", ""))
                try:
                    family = _family(plugin, metric)
                    if family.name in names:
                        raise BadMetric(f"there is a metric {family.name} already")
                except Exception as error:  # whatever it is, the others are shown
                    self._tell(plugin, name, str(error))
                    continue
                names.add(family.name)
                yield family

    def _tell(self, plugin: str, metric: str, why: str) -> None:
        if self._logged.get((plugin, metric)) != why:
            self._logged[plugin, metric] = why
            log.error("metric is left out", plugin=plugin, metric=metric, error=why)


def _family(plugin: str, metric: object) -> Family:
    """The metric as Prometheus has it; raises BadMetric."""
    if not isinstance(metric, Metric):
        raise BadMetric("it is no Metric of ovnkit.api.metrics")
    name = shown_name(plugin, metric)
    _demand(metric.kind in _FAMILIES, "its kind is no MetricKind")
    samples = [_sample(sample) for sample in metric.samples]
    labels = sorted(samples[0][0]) if samples else []
    family: Any = _FAMILIES[metric.kind](name, metric.help, labels=labels)
    seen = set()
    for found, value in samples:
        _demand(sorted(found) == labels, f"its samples have different labels: {labels} and {sorted(found)}")
        values = tuple(found[label] for label in labels)
        _demand(values not in seen, f"two of its samples have the same labels: {dict(found)}")
        seen.add(values)
        family.add_metric(values, value)
    return family  # type: ignore[no-any-return]


def shown_name(plugin: str, metric: Metric | Latency[View]) -> str:
    """The name under which /metrics shows what a plugin tells; raises BadMetric if its name or help is wrong."""
    _demand(_is_text(metric.name, _NAME), "its name is not made of lower-case letters, digits and _")
    _demand(not metric.name.endswith("_total"), "its name ends with _total, which the core adds to counters")
    _demand(_is_text(metric.help) and bool(metric.help.strip()), "it has no help")
    if not metric.upstream:
        return f"ovnkit_{_FOREIGN.sub('_', plugin)}_{metric.name}"
    _demand(metric.name.startswith(_UPSTREAM), f"OVN-Kubernetes' names begin with {', '.join(_UPSTREAM)}")
    return metric.name


def _sample(sample: object) -> tuple[Mapping[str, str], float]:
    if not isinstance(sample, Sample):
        raise BadMetric("one of its samples is no Sample of ovnkit.api.metrics")
    for name, value in sample.labels.items():
        _demand(_is_text(name, _LABEL), f"label {name!r} is not made of letters, digits and _")
        _demand(_is_text(value), f"the value of label {name} is no text: {value!r}")
    _demand(isinstance(sample.value, int | float), f"one of its values is no number: {sample.value!r}")
    return sample.labels, float(sample.value)


def _demand(condition: bool, otherwise: str) -> None:
    if not condition:
        raise BadMetric(otherwise)


def _is_text(value: object, pattern: re.Pattern[str] = _TEXT) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
