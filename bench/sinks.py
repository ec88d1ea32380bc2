"""The node's sinks under load: flows of a real bridge and nftables elements, for services with a NodePort."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from bench.latencies import p50, p99
from bench.report import Row
from ovnkit.api.flows import Flow, Match, Output, Port, Protocol
from ovnkit.api.nft import NftElement, NftSet, NftType
from ovnkit.api.nft import Protocol as NftProtocol
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host.flowsink import FlowSink
from ovnkit.sinks.host.nftsink import NftSink
from ovnkit.testing.daemons import Daemon, ovsdb_server, vswitchd
from ovnkit.testing.installs import locate

SERVICES, SINGLE = 1000, 50
PATIENCE = 60.0
BRIDGE = "br-ex"
NETNS = f"ovnkit-bench-{os.getpid()}"
_CLONE_NEWNET = 0x40000000
Items = Callable[[int, int], Sequence[Any]]
"""The items of a service; its number, and a turn in which they differ."""


def _owner(index: int) -> Owner:
    return Owner("services", "node", f"bench/service-{index}")


def _flows(index: int, turn: int) -> Sequence[Flow]:
    """What a NodePort and the cluster IP take on the external bridge: there, and back."""
    port = 20000 + index
    back = Match(in_port=Port.LOCAL, protocol=Protocol.TCP, source_port=port)
    cluster_ip = IPv4Network((int(IPv4Address("172.16.0.1")) + index, 32))
    return (
        Flow(BRIDGE, 0, 110 + turn, Match(protocol=Protocol.TCP, target_port=port), (Output(Port.LOCAL),)),
        Flow(BRIDGE, 0, 110 + turn, back, (Output(Port.LOCAL),)),
        Flow(BRIDGE, 0, 120 + turn, Match(protocol=Protocol.IP, target=cluster_ip), (Output(Port.LOCAL),)),
    )


def _elements(index: int, turn: int) -> Sequence[NftElement]:
    to = IPv4Address("172.16.0.1") + index
    return (NftElement("nodeports", (NftProtocol.TCP, 20000 + index), (to, 80 + turn)),)


def sinks() -> Iterator[Row]:
    """Rates of a thousand services at once, and the times of one."""
    with tempfile.TemporaryDirectory(prefix="ovnkit-bench-") as folder:
        yield from _flow_rows(Path(folder))
    yield from _nft_rows()


def _flow_rows(folder: Path) -> Iterator[Row]:
    install = locate("host")
    files = {"ovs": folder / "conf.db"}
    remotes = [f"punix:{folder}/db.sock"]
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    daemons: list[Daemon] = [
        ovsdb_server(
            install, folder, files, name="ovsdb-server", remotes=remotes, log_dir=folder, netns=NETNS
        ),
        vswitchd(install, folder, log_dir=folder, netns=NETNS),
    ]  # fmt: skip
    started: list[Daemon] = []
    try:
        for daemon in daemons:
            daemon.start()
            started.append(daemon)
        vsctl = ["ovs-vsctl", f"--db=unix:{folder}/db.sock", "--timeout=20"]
        subprocess.run(
            [*vsctl, "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"], check=True
        )
        inbox = Inbox()
        sink = FlowSink(inbox.post, _fail, str(folder))
        try:
            yield from _rows("flows", sink, inbox, _flows)
        finally:
            sink.stop()
    finally:
        for daemon in reversed(started):
            daemon.stop()
        subprocess.run(["ip", "netns", "del", NETNS], check=True)


def _nft_rows() -> Iterator[Row]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        inbox = Inbox()
        sink = NftSink(inbox.post, _fail)
        sink.start()
        try:
            key, value = (NftType.PROTOCOL, NftType.PORT), (NftType.IPV4, NftType.PORT)
            sink.want(Owner("services", "node", ""), (NftSet("nodeports", key, value),))
            yield from _rows("nft elements", sink, inbox, _elements)
        finally:
            sink.stop()
    finally:
        libc.setns(home, _CLONE_NEWNET)
        os.close(home)


def _rows(what: str, sink: FlowSink | NftSink, inbox: Inbox, items: Items) -> Iterator[Row]:
    def apply() -> float:
        start = time.monotonic()
        inbox.run_until(lambda: sink.ready, PATIENCE)
        sink.flush()
        if not inbox.run_until(lambda: sink.ready and sink.idle, PATIENCE):
            raise TimeoutError(f"{what} not applied: {sink.status()}")
        return time.monotonic() - start

    sink.settle()
    apply()
    count = sum(len(items(index, 0)) for index in range(SERVICES))
    for index in range(SERVICES):
        sink.want(_owner(index), items(index, 0))
    seconds = apply()
    yield Row("node", f"{what} of {SERVICES} services", count / seconds, "/s", note=f"{count} in {seconds:.2f} s")
    took = []
    for index in range(SINGLE):
        sink.want(_owner(index), items(index, 1))
        took.append(apply())
    yield Row("node", f"{what} of one service, p50", p50(took) * 1e3, "ms", note=f"beside {SERVICES - 1} others")
    yield Row("node", f"{what} of one service, p99", p99(took) * 1e3, "ms")


def _fail(owner: Owner, error: Exception | None) -> None:
    raise RuntimeError(f"{owner}: {error}")
