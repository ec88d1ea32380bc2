"""Section `[topology]` of the configuration."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge


@frozen
class TopologyOptions:
    """Options of the logical topology.

    `northd_backoff_interval` milliseconds northd rests between two runs (0: as northd decides; upstream's scripts
    say 300, which every new pod then waits for); `northd_probe_interval` milliseconds.
    """

    northd_backoff_interval: int = field(default=0, validator=ge(0))
    northd_probe_interval: int = field(default=5000, validator=ge(0))
