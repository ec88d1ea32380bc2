"""Metrics of plugins: plain values that the core shows on /metrics (hook `ovnkit_metrics`)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen

__all__ = [
    "Metric",
    "MetricKind",
    "Sample",
]


class MetricKind(Enum):
    """What a metric's value does: a COUNTER's only grows while the process runs, a GAUGE's goes up and down."""

    COUNTER = "counter"
    GAUGE = "gauge"


@frozen
class Sample:
    """One value of a metric; `labels` by name tell it from the metric's others."""

    value: float
    labels: Mapping[str, str] = field(factory=dict, hash=False)


@frozen
class Metric:
    """A metric of a plugin; /metrics shows it as `ovnkit_<plugin>_<name>` (with `_` for other characters in the
    plugin's name), a counter with `_total` at the end.

    `name`     lower-case letters, digits and `_`, without what the core adds: `dns_names`
    `help`     what it counts, in a line, with the unit
    `samples`  a value each; all have labels of the same names (letters, digits and `_`), no two the same values

    Import it, `MetricKind` and `Sample` from `ovnkit.api.metrics`. A metric that is none by these rules is left
    out, with a line in the log; the others are shown.
    """

    name: str
    help: str
    kind: MetricKind
    samples: tuple[Sample, ...]
