"""The sinks of a node: its kernel, its flows, its uplinks. A new one is named here and nowhere else.

A process without the node role doesn't import this module: the netlink library alone takes 0.13 s of a start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ovnkit.api.config import Config
from ovnkit.api.flows import INTEGRATION_BRIDGE
from ovnkit.engine.reconciler import Reconciler
from ovnkit.engine.sink import AnySink
from ovnkit.sinks.host.flowsink import FlowSink
from ovnkit.sinks.host.httpsink import HttpSink
from ovnkit.sinks.host.nftsink import NftSink
from ovnkit.sinks.host.ofctl import Bridge
from ovnkit.sinks.host.sink import HostSink
from ovnkit.sinks.host.tracksink import TrackSink
from ovnkit.sinks.host.uplinksink import UplinkSink


def _tracks(config: Config, reconciler: Reconciler) -> TrackSink:
    first = config.default.conntrack_zone
    bridge = Bridge(INTEGRATION_BRIDGE, config.ovspaths.ovs_run_dir)
    return TrackSink(reconciler.inbox.post_later, bridge, host_zones=range(first, first + 5))


NODE_SINKS: Mapping[type[AnySink], Callable[[Config, Reconciler], AnySink]] = {
    HostSink: lambda _config, to: HostSink(to.inbox.post, to.report),
    FlowSink: lambda config, to: FlowSink(to.inbox.post, to.report, config.ovspaths.ovs_run_dir),
    NftSink: lambda _config, to: NftSink(to.inbox.post, to.report),
    UplinkSink: lambda config, to: UplinkSink(to.inbox.post, to.report, config.ovspaths.ovs_run_dir),
    HttpSink: lambda _config, to: HttpSink(to.report, to.inbox.post_later),
    TrackSink: _tracks,
}
"""How each is made, in the order in which they are flushed."""
