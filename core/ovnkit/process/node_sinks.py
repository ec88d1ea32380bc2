"""The sinks of a node: its kernel, its flows, its uplinks.

A process without the node role doesn't import this module: the netlink library alone takes 0.13 s of a start.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from ovnkit.api.config import Config
from ovnkit.api.flows import INTEGRATION_BRIDGE
from ovnkit.engine.reconciler import Reconciler
from ovnkit.engine.sink import Sink
from ovnkit.sinks.host.flowsink import FlowSink
from ovnkit.sinks.host.httpsink import HttpSink
from ovnkit.sinks.host.nftsink import NftSink
from ovnkit.sinks.host.ofctl import Bridge
from ovnkit.sinks.host.sink import HostSink
from ovnkit.sinks.host.tracksink import TrackSink
from ovnkit.sinks.host.uplinksink import UplinkSink


class NodeSink(Sink, Protocol):
    """A sink with threads of its own."""

    def stop(self) -> None:
        """End the threads; what was applied stays."""


class NodeSinks:
    """All of them; `all` in the order in which they are flushed."""

    def __init__(self, config: Config, reconciler: Reconciler) -> None:
        post, later, report = reconciler.inbox.post, reconciler.inbox.post_later, reconciler.report
        run_dir = config.ovspaths.ovs_run_dir
        self._flows = FlowSink(post, report, run_dir)
        self._listening = (HostSink(post, report), NftSink(post, report), UplinkSink(post, report, run_dir))
        host, nft, uplinks = self._listening
        http = HttpSink(report, later)
        first = config.default.conntrack_zone
        tracks = TrackSink(later, Bridge(INTEGRATION_BRIDGE, run_dir), host_zones=range(first, first + 5))
        self.all: Sequence[NodeSink]
        self.all = (host, self._flows, nft, uplinks, http, tracks)

    def start(self) -> None:
        """Start the threads that look at what is there."""
        for sink in self._listening:
            sink.start()

    def plugins_active(self, plugins: Collection[str]) -> None:
        """These plugins may have flows of their own on OVN's bridge; those of all others go."""
        self._flows.plugins_active(plugins)
