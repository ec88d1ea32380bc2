"""Metrics of plugins: plain values that the core shows on /metrics.

A plugin tells values with the hook `ovnkit_metrics`, and declares what the core is to measure for it
(`Declaration.latencies`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Generic

from attrs import field, frozen

from ovnkit.api.kinds import Kind, V_co

__all__ = [
    "Latency",
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
    `upstream` the metric is one of OVN-Kubernetes and means the same: `name` is its name there and is shown as it
               is (`ovnkube_...`, `ovn_...` or `ovs_...`)

    Import it, `MetricKind` and `Sample` from `ovnkit.api.metrics`. A metric that breaks these rules is left out,
    with a line in the log; the others are shown.
    """

    name: str
    help: str
    kind: MetricKind
    samples: tuple[Sample, ...]
    upstream: bool = False


@frozen
class Latency(Generic[V_co]):
    """A histogram of how long objects of a kind take to get ready, in seconds. The core measures it: from the
    first view of which `waits(view)` is true to the first after it of which `done(view)` is.

    An object that is deleted, or done when it is first seen, doesn't count. Both functions must be pure and quick:
    they are called for each change of each object. `name`, `help` and `upstream` are as those of a `Metric`;
    `buckets` are their upper bounds in seconds.
    """

    name: str
    help: str
    kind: Kind[V_co]
    waits: Callable[[V_co], bool]
    done: Callable[[V_co], bool]
    buckets: tuple[float, ...]
    upstream: bool = False
