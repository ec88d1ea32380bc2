"""The management port on a real Open vSwitch, in a network namespace."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.sinks.host.nftsink import NftSink
from ovnkit.sinks.host.sink import HostSink
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.daemons import Daemon, locate, ovsdb_server, vswitchd
from ovnkit.testing.objects import node
from ovnkit_management_port.plugin import ManagementPortPlugin

pytestmark = pytest.mark.ovn

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
PORT = "ovn-k8s-mp0"
ANNOTATIONS = {"k8s.ovn.org/node-subnets": '{"default":["10.244.1.0/24","fd00:10:244:2::/64"]}'}


@pytest.fixture
def netns() -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if LIBC.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        yield
    finally:
        assert LIBC.setns(before, CLONE_NEWNET) == 0
        os.close(before)


@pytest.fixture
def daemons(netns: None, tmp_path: Path) -> Iterator[list[Daemon]]:
    install = locate("host")
    server = ovsdb_server(
        install, tmp_path, {"ovs": tmp_path / "conf.db"},
        name="ovsdb-server", remotes=[f"punix:{tmp_path}/db.sock"], log_dir=tmp_path,
    )  # fmt: skip
    made = [server, vswitchd(install, tmp_path, log_dir=tmp_path)]
    try:
        server.start()
        vsctl(tmp_path, "--no-wait", "init")
        made[1].start()
        yield made
    finally:
        for daemon in reversed(made):
            daemon.stop()


def vsctl(directory: Path, *arguments: str) -> str:
    command = ("ovs-vsctl", f"--db=unix:{directory}/db.sock", "--timeout=10", *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def ip(*arguments: str) -> Any:
    done = subprocess.run(("ip", "-j", *arguments), check=False, capture_output=True, text=True)
    return json.loads(done.stdout or "[]") if done.returncode == 0 else []


def make_bench(directory: Path) -> Bench:
    base = Config()
    subnets = (ClusterSubnet.parse("10.244.0.0/16/24"), ClusterSubnet.parse("fd00:10:244::/48/64"))
    config = evolve(base, default=evolve(base.default, cluster_subnets=subnets))
    return Bench(
        ManagementPortPlugin(),
        scope=scope(Role.NODE, node="n1"),
        config=config,
        connect={"ovs": f"unix:{directory}/db.sock"},
    )


def complete() -> bool:
    link = next(iter(ip("addr", "show", "dev", PORT)), None)
    if link is None or "UP" not in link["flags"] or (link["address"], link["mtu"]) != ("0a:58:0a:f4:01:02", 1400):
        return False
    addresses = {item["local"] for item in link["addr_info"] if item["scope"] == "global"}
    routes = {(item["dst"], item.get("gateway")) for family in ("-4", "-6") for item in ip(family, "route")}
    neighbours = {item["dst"] for item in ip("neigh", "show", "dev", PORT, "nud", "permanent")}
    return (
        addresses == {"10.244.1.2", "fd00:10:244:2::2"}
        and routes
        >= {
            ("10.244.0.0/16", "10.244.1.1"),
            ("169.254.169.3", "10.244.1.1"),
            ("fd00:10:244::/48", "fd00:10:244:2::1"),
            ("fd69::3", "fd00:10:244:2::1"),
        }
        and neighbours >= {"10.244.1.1", "fd00:10:244:2::1"}
        and snat() == ["snat ip to 10.244.1.2", "snat ip6 to fd00:10:244:2::2"]
    )


def snat() -> list[str]:
    command = ("nft", "list", "chain", "inet", "ovn-kubernetes", "mgmtport-snat")
    out = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    return [line.split(" comment ")[0].strip() for line in out.splitlines() if line.strip().startswith("snat")]


def work(bench: Bench, condition: Callable[[], bool], what: str, deadline: float = 20.0) -> None:
    """Run the reconciler until the condition holds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline} s: {what}")
        bench.inbox.run_until(lambda: False, 0.1)
        while bench.reconciler._work():
            pass


def test_the_port_comes_with_the_bridge_and_survives_a_restart_of_the_switch(
    daemons: list[Daemon], tmp_path: Path
) -> None:
    bench = make_bench(tmp_path)
    host = HostSink(bench.inbox.post, bench.reconciler.report)
    nft = NftSink(bench.inbox.post, bench.reconciler.report)
    try:
        host.start()
        nft.start()
        for sink in (host, nft):
            sink.settle()
        bench.reconciler.observe(NODES, [("n1", node("n1", ANNOTATIONS))])
        work(bench, lambda: bool(bench.node["host"].wanted), "rendered")
        for owner, items in bench.node["host"].wanted.items():
            host.want(owner, items)
        for owner, items in bench.node["nft"].wanted.items():
            nft.want(owner, items)
        host.flush()
        nft.flush()
        assert ip("link", "show", "dev", PORT) == [], "no bridge yet: ovn-controller makes it"
        vsctl(tmp_path, "add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=netdev")
        work(bench, complete, "port, addresses, routes, neighbours and nftables")
        assert vsctl(tmp_path, "get", "Interface", PORT, "external_ids:iface-id") == "k8s-n1"
        daemons[1].restart()
        work(bench, complete, "everything back after a restart of ovs-vswitchd")
        vsctl(tmp_path, "del-port", "br-int", PORT)
        work(bench, complete, "everything back after somebody removed the port")
    finally:
        bench.stop()
        host.stop()
        nft.stop()
