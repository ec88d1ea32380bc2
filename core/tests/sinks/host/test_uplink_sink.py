"""Bridges over an interface of a namespace, with a real Open vSwitch and a peer that talks meanwhile."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from pyroute2 import IPRoute

from ovnkit.api.host import ADDRESSES as ADDRESS_VIEWS
from ovnkit.api.host import LinkAddress, UplinkBridge
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.sink import Owner
from ovnkit.network.bridges import OVS_BRIDGES
from ovnkit.sinks.host import apply, link_config, uplinks
from ovnkit.sinks.host.link_config import link_index, read_config
from ovnkit.sinks.host.uplinks import Uplinks
from ovnkit.sinks.host.uplinksink import UplinkSink
from ovnkit.sinks.host.vsctl import Vsctl
from ovnkit.testing import ovsdb
from ovnkit.testing.daemons import Daemon, OvnInstall, ovsdb_server, vswitchd

pytestmark = pytest.mark.skipif(not ovsdb.available() or os.getuid() != 0, reason="needs Open vSwitch and root")

OWNER = Owner("gateway", "uplink", "")
ITEM = UplinkBridge("brens4", "ens4")
MAC = "02:00:00:00:00:04"
ADDRESSES = {"192.0.2.10/24", "192.0.2.11/24", "198.51.100.5/32", "2001:db8::10/64"}
"""The host's own, two of them in one network."""

PEERS = ("192.0.2.1", "2001:db8::1")
ECHO = """
import socket
server = socket.create_server(("::", 7), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
import threading
def serve(client):
    while data := client.recv(100):
        client.sendall(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
# The kernel sees what comes in on a port of the userspace datapath, too: it may answer only for addresses there.
KERNEL_ONLY_WHILE_LOCAL = """
table netdev test { chain uplink {
  type filter hook ingress device "ens4" priority 0; policy drop;
  meta protocol arp accept
  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  fib daddr . iif type local accept
}
}
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@frozen
class Host:
    """This thread's namespace: `ens4` with addresses and routes, Open vSwitch, and a peer that echoes."""

    folder: Path
    daemons: dict[str, Daemon]
    peer: str
    sinks: list[UplinkSink] = field(factory=list)
    inbox: Inbox = field(factory=Inbox)
    reports: list[str] = field(factory=list)

    def vsctl(self, *arguments: str) -> str:
        return run("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", *arguments)

    def addresses(self, link: str) -> set[str]:
        """Global ones; empty also where there is no such link."""
        links = {item["ifname"]: item["addr_info"] for item in json.loads(run("ip", "-j", "address", "show"))}
        return {
            f"{item['local']}/{item['prefixlen']}" for item in links.get(link, ()) if item["scope"] == "global"
        }

    def routes(self) -> dict[str, str]:
        """The interface of each route of the main table and of table 100."""
        found = {}
        for options in (("-4",), ("-6",), ("-4", "100"), ("-6", "100")):
            table = ("table", options[1]) if options[1:] else ()  # type: ignore[misc]
            for item in json.loads(run("ip", options[0], "-j", "route", "show", *table) or "[]"):
                if not item["dst"].startswith("fe80"):
                    key = f"{options[0]} {' '.join(table)} {item['dst']} {item.get('gateway', '')}"
                    found[" ".join(key.split())] = item["dev"]
        return found

    def sink(self) -> UplinkSink:
        """A new process, as it were."""
        folder = str(self.folder)
        found = UplinkSink(self.inbox.post, lambda _owner, error: self.reports.append(str(error)), folder)
        self.sinks.append(found)
        found.start()
        return found

    def until(self, condition: Callable[[], object], what: object = "") -> None:
        assert self.inbox.run_until(lambda: bool(condition()), 30), what or [sink.status() for sink in self.sinks]

    def made(self) -> UplinkSink:
        """The bridge is there, and everything on it."""
        sink = self.sink()
        sink.want(OWNER, [ITEM])
        sink.flush()
        self.until(lambda: sink.ready and sink.idle)
        assert sink.status()["failed"] == {}
        return sink


@pytest.fixture
def host(netns: None, tmp_path: Path) -> Iterator[Host]:
    peer = f"ovnkit-up-{os.getpid()}"
    install = OvnInstall(Path("/"))
    remotes = [f"punix:{tmp_path / 'db.sock'}"]
    daemons = {
        "ovsdb": ovsdb_server(
            install, tmp_path, {"ovs": tmp_path / "ovs.db"}, name="ovs", remotes=remotes, log_dir=tmp_path
        ),
        "vswitchd": vswitchd(install, tmp_path, log_dir=tmp_path),
    }
    found = Host(tmp_path, daemons, peer)
    server = None
    run("ip", "netns", "add", peer)
    try:
        run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.disable_ipv6=0",
            "net.ipv6.conf.default.disable_ipv6=0", "net.ipv4.conf.all.arp_ignore=1")  # fmt: skip
        run("ip", "link", "add", "ens4", "address", MAC, "type", "veth", "peer", "name", "wire", "netns", peer)
        run("ethtool", "-K", "ens4", "tx", "off")
        run("ip", "netns", "exec", peer, "ethtool", "-K", "wire", "tx", "off")
        for address in PEERS:
            length = "64" if ":" in address else "24"
            run("ip", "-n", peer, "address", "add", f"{address}/{length}", "dev", "wire", "nodad")
        run("ip", "-n", peer, "link", "set", "wire", "up")
        run("ip", "link", "set", "ens4", "up")
        for address in sorted(ADDRESSES):
            run("ip", "address", "add", address, "dev", "ens4", *(["nodad"] if ":" in address else []))
        run("ip", "route", "add", "default", "via", PEERS[0], "dev", "ens4", "proto", "dhcp", "src", "192.0.2.10",
            "metric", "100", "mtu", "1400")  # fmt: skip
        run("ip", "-6", "route", "add", "default", "via", PEERS[1], "dev", "ens4")
        run("ip", "route", "add", "203.0.113.0/24", "via", "198.18.0.1", "dev", "ens4", "onlink", "table", "100")
        run("ip", "-6", "route", "add", "2001:db8:1::/48", "via", "fe80::1", "dev", "ens4", "table", "100")
        subprocess.run(["nft", "-f", "-"], input=KERNEL_ONLY_WHILE_LOCAL, text=True, check=True)
        for daemon in daemons.values():
            daemon.start()
        found.vsctl("--no-wait", "init")
        found.vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-bridge-datapath-type=netdev")
        server = subprocess.Popen(
            ["ip", "netns", "exec", peer, sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield found
    finally:
        for sink in found.sinks:
            sink.stop()
        for daemon in reversed(daemons.values()):
            daemon.stop()
        if server is not None:
            server.kill()
            server.wait()
        run("ip", "netns", "del", peer)


class Stream:
    """A TCP connection that sends a number every 10 ms and hears it again."""

    def __init__(self, address: str) -> None:
        self.socket = socket.create_connection((address, 7), 5)
        self.socket.settimeout(20)
        self.echoes = 0
        self.longest = 0.0
        self.error = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self) -> None:
        try:
            while not self._stop.is_set():
                begin = time.monotonic()
                self.socket.sendall(f"{self.echoes:8}".encode())
                assert int(self.socket.recv(8, socket.MSG_WAITALL)) == self.echoes
                self.longest = max(self.longest, time.monotonic() - begin)
                self.echoes += 1
                time.sleep(0.01)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def end(self) -> None:
        """The stream lived to the end, and went on after what happened."""
        before = self.echoes
        time.sleep(0.1)
        self._stop.set()
        self._thread.join()
        self.socket.close()
        assert self.error == ""
        assert self.echoes > before


def test_streams_survive_the_way_there_and_back(host: Host) -> None:
    before = host.routes()
    assert host.addresses("ens4") == ADDRESSES
    streams = [Stream(address) for address in PEERS]
    sink = host.made()
    assert host.addresses("brens4") == ADDRESSES
    assert host.addresses("ens4") == set()
    assert host.routes() == dict.fromkeys(before, "brens4")
    shown = run("ip", "route", "show", "default")
    for word in ("proto dhcp", "src 192.0.2.10", "metric 100", "mtu 1400"):
        assert word in shown
    assert json.loads(run("ip", "-j", "link", "show", "brens4"))[0]["address"] == MAC
    assert host.vsctl("port-to-br", "ens4").strip() == "brens4"
    assert host.vsctl("get", "Bridge", "brens4", "fail_mode", "external_ids:bridge-uplink").split() == [
        "standalone", "ens4",
    ]  # fmt: skip
    assert host.vsctl("get", "Port", "ens4", "other_config:transient").strip() == '"true"'
    sink.want(OWNER, ())
    sink.settle()
    sink.flush()
    host.until(lambda: sink.idle)
    assert host.addresses("ens4") == ADDRESSES
    assert host.routes() == before
    assert host.vsctl("list-br") == ""
    assert list(host.folder.glob("ovnkit-*")) == []
    for stream in streams:
        stream.end()


def test_a_restart_changes_nothing_and_leaves_what_others_mean_to_keep(host: Host) -> None:
    host.made().stop()
    with IPRoute() as ip:
        index = link_index(ip, "brens4")
        apply.apply(ip, LinkAddress("brens4", ip_interface("192.0.2.99/24")), index or 0)
    config = host.vsctl("get", "Open_vSwitch", ".", "cur_cfg")
    host.made()
    assert host.vsctl("get", "Open_vSwitch", ".", "cur_cfg") == config, "nothing written"
    assert host.addresses("brens4") == ADDRESSES | {"192.0.2.99/24"}
    last = host.sink()
    last.settle()
    last.flush()
    host.until(lambda: last.idle)
    assert host.addresses("ens4") == ADDRESSES, "what is ovnkit's own does not move back"


class Killed(Exception):
    """The process died here."""


@pytest.mark.parametrize("step", ["put", "add-port", "clear"])
@pytest.mark.parametrize("way", ["there", "back"])
def test_a_crash_on_the_way_heals_at_the_next_start(
    host: Host, monkeypatch: pytest.MonkeyPatch, step: str, way: str
) -> None:
    if way == "back":
        host.made().stop()
    before = host.routes()
    die_at(monkeypatch, step, way)
    worker = Uplinks(str(host.folder))
    with pytest.raises(Killed):
        (worker.make if way == "there" else worker.undo)(ITEM.bridge, ITEM.uplink)
    monkeypatch.undo()
    if way == "there":
        # Nothing is wanted yet: the API server has not been heard of.
        sink = host.sink()
        host.until(lambda: sink.ready)
        host.until(lambda: host.addresses("ens4") == set())
        assert host.addresses("brens4") == ADDRESSES
        assert host.routes() == dict.fromkeys(before, "brens4")
    else:
        sink = host.sink()
        sink.settle()
        sink.flush()
        host.until(lambda: sink.ready and sink.idle)
        assert host.addresses("ens4") == ADDRESSES
        assert host.routes() == dict.fromkeys(before, "ens4")
    stream = Stream(PEERS[0])
    stream.end()


def die_at(monkeypatch: pytest.MonkeyPatch, step: str, way: str) -> None:
    """Raise in the middle of a step of `Uplinks`: after half of the addresses, or before the rest."""
    if step == "put":

        def half(ip: Any, index: int, things: Any) -> None:
            link_config.put(ip, index, link_config.LinkConfig(things.addresses[:2], ()))
            raise Killed

        monkeypatch.setattr(uplinks, "put", half)
    elif way == "back":
        # The bridge is gone, and what comes after that is not done.
        calls: list[int] = []

        def once(ip: Any, index: int, things: Any) -> None:
            if calls or step == "add-port":
                raise Killed
            calls.append(1)
            link_config.put(ip, index, things)

        monkeypatch.setattr(uplinks, "put", once)
    elif step == "add-port":
        vsctl = Vsctl.__call__

        def refuse(self: Any, *arguments: str) -> str:
            if "add-port" in arguments:
                raise Killed
            return vsctl(self, *arguments)

        monkeypatch.setattr(Vsctl, "__call__", refuse)
    else:

        def nothing(ip: Any, index: int, things: Any) -> None:
            raise Killed

        monkeypatch.setattr(uplinks, "clear", nothing)


def test_addresses_that_come_later_to_the_interface_move_too(host: Host) -> None:
    sink = host.made()
    run("ip", "address", "add", "192.0.2.20/24", "dev", "ens4")
    sink.observed_changed(ADDRESS_VIEWS, "ens4/192.0.2.20/24")
    host.until(lambda: host.addresses("ens4") == set())
    assert host.addresses("brens4") == ADDRESSES | {"192.0.2.20/24"}


def test_a_bridge_that_somebody_deletes_comes_back_with_its_addresses(host: Host) -> None:
    sink = host.made()
    before = host.routes()
    host.vsctl("del-br", "brens4")
    assert host.routes() == {}
    sink.observed_changed(OVS_BRIDGES, "brens4")
    host.until(lambda: host.addresses("brens4") == ADDRESSES and host.routes() == before)
    Stream(PEERS[0]).end()
    host.vsctl("del-port", "ens4")
    sink.observed_changed(OVS_BRIDGES, "brens4")
    host.until(lambda: host.vsctl("list-ports", "brens4").split() == ["ens4"])
    run("ip", "address", "del", "192.0.2.11/24", "dev", "brens4")
    sink.observed_changed(ADDRESS_VIEWS, "brens4/192.0.2.11/24")
    host.inbox.run_until(lambda: False, 0.5)
    assert host.addresses("brens4") == ADDRESSES - {"192.0.2.11/24"}, "what an operator removes stays away"


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (UplinkBridge("brens9", "ens9"), "there is no network interface ens9"),
        (UplinkBridge("br-ex", "ens4"), "there is a bridge br-ex already, which was not made for ens4"),
        (UplinkBridge("brens4", "taken"), "taken is a port of bridge br-ex, it can't be one of brens4"),
    ],
)
def test_what_cannot_be_is_told_once_and_touches_nothing(host: Host, item: UplinkBridge, error: str) -> None:
    run("ip", "link", "add", "taken", "type", "veth", "peer", "name", "other")
    host.vsctl("add-br", "br-ex", "--", "set", "Bridge", "br-ex", "datapath_type=netdev")
    host.vsctl("add-port", "br-ex", "taken")
    before = host.routes()
    sink = host.sink()
    sink.want(OWNER, [item])
    sink.flush()
    host.until(lambda: host.reports)
    host.inbox.run_until(lambda: False, 1.5)
    assert host.reports == [error]
    assert sink.status()["failed"] == {item.bridge: error}
    assert host.vsctl("list-br").split() == ["br-ex"]
    assert (host.addresses("ens4"), host.routes()) == (ADDRESSES, before)


def test_a_bridge_that_ovn_kubernetes_made_is_taken_over(host: Host) -> None:
    host.vsctl("add-br", "brens4", "--", "set", "Bridge", "brens4", "datapath_type=netdev",
               "external_ids:bridge-id=brens4", "external_ids:bridge-uplink=ens4")  # fmt: skip
    host.made()
    assert host.addresses("brens4") == ADDRESSES


def test_routes_over_several_hops_and_foreign_links(host: Host) -> None:
    run("ip", "route", "add", "198.18.0.0/15", "nexthop", "via", "192.0.2.1", "dev", "ens4", "weight", "2",
        "nexthop", "via", "192.0.2.2", "dev", "ens4")  # fmt: skip
    run("ip", "link", "add", "ens5", "type", "veth", "peer", "name", "other")
    run("ip", "link", "set", "ens5", "up")
    run("ip", "link", "set", "other", "up")
    run("ip", "address", "add", "10.9.0.2/24", "dev", "ens5")
    run("ip", "route", "add", "198.20.0.0/16", "nexthop", "via", "192.0.2.1", "dev", "ens4", "nexthop", "via",
        "10.9.0.1", "dev", "ens5")  # fmt: skip
    host.made()
    shown = run("ip", "route", "show", "198.18.0.0/15")
    assert shown.count("dev brens4") == 2
    assert "weight 2" in shown
    with IPRoute() as ip:
        index = link_index(ip, "ens4")
        assert index is not None
        assert not read_config(ip, index)
