"""Session affinity with real connections: real OVN and Open vSwitch, one client, three endpoints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovnkit.api.renderers import Role
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.reconciler import Reconciler
from ovnkit.sinks.host.flowsink import FlowSink
from ovnkit.testing.daemons import Daemon, northd, ovn_controller, ovsdb_server, vswitchd
from ovnkit.testing.installs import OvnInstall, locate
from ovnkit_services.affinity import COOKIE, AffinityFlows

pytestmark = pytest.mark.ovn

TIMEOUT = 4
"""Seconds of affinity."""

SERVER = """
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("", 8080)); s.listen(50)
print("up", flush=True)
while True:
    c, a = s.accept(); c.sendall(sys.argv[1].encode()); c.close()
"""
CLIENT = """
import socket
print(socket.create_connection(("172.16.0.1", 80), 3).recv(10).decode(), end="")
"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def until(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Site:
    """A switch with client c and endpoints b1 to b3, and a load balancer with affinity."""

    def __init__(self, folder: Path, install: OvnInstall, prefix: str) -> None:
        self.folder, self.install, self.prefix = folder, install, prefix
        self.spaces = [prefix, *(f"{prefix}-{name}" for name in ("c", "b1", "b2", "b3"))]
        self.daemons: list[Daemon] = []
        self.servers: list[subprocess.Popen[str]] = []
        self.flows = AffinityFlows(str(folder))

    def start(self) -> None:
        for space in self.spaces:
            run("ip", "netns", "add", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
        self._daemons()
        self.nb("ls-add", "sw", "--", "lr-add", "r")
        self.nb("lrp-add", "r", "r-sw", "0a:58:0a:00:00:01", "10.0.0.1/24", "--", "lsp-add", "sw", "sw-r")
        self.nb("lsp-set-type", "sw-r", "router", "--", "lsp-set-addresses", "sw-r", "router")
        self.nb("lsp-set-options", "sw-r", "router-port=r-sw")
        for number, name in enumerate(("c", "b1", "b2", "b3"), start=10):
            self._pod(name, number)
        for name in ("c", "b1", "b2", "b3"):
            # before that, "all flows are there" may mean none of them
            self.nb("--timeout=20", "wait-until", "Logical_Switch_Port", name, "up=true")
        self.nb("lb-add", "lb", "172.16.0.1:80", "10.0.0.11:8080", "tcp", "--", "ls-lb-add", "sw", "lb")
        self.nb("set", "load_balancer", "lb", f"options:affinity_timeout={TIMEOUT}")
        self.backends("b1", "b2", "b3")

    def _daemons(self) -> None:
        folder, install = self.folder, self.install
        for db, socket in (("nb", "nb"), ("sb", "sb"), ("ovs", "db")):
            files = {db: folder / f"{db}.db"}
            remote = [f"punix:{folder}/{socket}.sock"]
            self._up(ovsdb_server(install, folder, files, name=f"db-{db}", remotes=remote, log_dir=folder))
        nb, sb = f"unix:{folder}/nb.sock", f"unix:{folder}/sb.sock"
        self._up(northd(install, folder, nb=nb, sb=sb, log_dir=folder))
        self.vs("init")
        self.vs("set", "open", ".", "external_ids:system-id=ch1", f"external_ids:ovn-remote={sb}")
        self.vs("set", "open", ".", "external_ids:ovn-encap-type=geneve", "external_ids:ovn-encap-ip=127.0.0.1")
        self.vs("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure")
        self._up(vswitchd(install, folder, log_dir=folder, netns=self.prefix))
        self._up(ovn_controller(install, folder, ovs_run_dir=folder, log_dir=folder, netns=self.prefix))

    def _up(self, daemon: Daemon) -> None:
        daemon.start()
        self.daemons.append(daemon)

    def _pod(self, name: str, number: int) -> None:
        space, mac = f"{self.prefix}-{name}", f"0a:58:0a:00:00:{number:02x}"
        link = ("link", "add", f"v{name}", "netns", self.prefix, "type", "veth")
        run("ip", *link, "peer", "name", "eth0", "netns", space)
        run("ip", "-n", self.prefix, "link", "set", f"v{name}", "up")
        run("ip", "-n", space, "link", "set", "eth0", "address", mac, "up")
        run("ip", "-n", space, "addr", "add", f"10.0.0.{number}/24", "dev", "eth0")
        run("ip", "-n", space, "route", "add", "default", "via", "10.0.0.1")
        run("ip", "netns", "exec", space, "ethtool", "-K", "eth0", "tx", "off")
        self.nb("lsp-add", "sw", name, "--", "lsp-set-addresses", name, f"{mac} 10.0.0.{number}")
        interface = ("--", "set", "interface", f"v{name}", f"external_ids:iface-id={name}")
        self.vs("add-port", "br-int", f"v{name}", *interface)
        if name != "c":
            command = ["ip", "netns", "exec", space, sys.executable, "-c", SERVER, name]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self.servers.append(server)
            assert server.stdout is not None
            assert server.stdout.readline() == "up\n"

    def stop(self) -> None:
        self.flows.stop()
        for server in self.servers:
            server.kill()
            server.wait()
        for daemon in reversed(self.daemons):
            daemon.stop()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)

    def nb(self, *words: str) -> str:
        return self.install.run("ovn-nbctl", f"--db=unix:{self.folder}/nb.sock", *words)

    def vs(self, *words: str) -> str:
        return self.install.run("ovs-vsctl", "--no-wait", f"--db=unix:{self.folder}/db.sock", *words)

    def backends(self, *names: str) -> None:
        """The load balancer has these endpoints, and the bridge has its flows."""
        targets = ",".join(f"10.0.0.1{name[1]}:8080" for name in names)
        self.nb("set", "load_balancer", "lb", f'vips:"172.16.0.1:80"="{targets}"')
        self.nb("--wait=hv", "--timeout=20", "sync")

    def copies(self) -> int:
        """How many copies the bridge has."""
        text = run("ovs-ofctl", "-O", "OpenFlow15", "dump-flows", f"unix:{self.folder}/br-int.mgmt")
        return text.count(f"cookie={COOKIE:#x},")

    def call(self) -> str:
        """Which endpoint answers; raises CalledProcessError when none does within 3 s."""
        return run("ip", "netns", "exec", f"{self.prefix}-c", sys.executable, "-c", CLIENT)


@pytest.fixture(params=["host", "new"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    root = Path("/var/cache/ovnkit/debian-13")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param == "host" and shutil.which("ovn-controller") is None:
        pytest.skip("no OVN on this machine")
    if request.param == "new" and not (root / "usr/bin/ovn-controller").exists():
        pytest.skip("no newer OVN cached")
    folder = Path(tempfile.mkdtemp(prefix="ovnkit-affinity-"))
    site = Site(
        folder, locate("host" if request.param == "host" else str(root)), f"aff{os.getpid()}{request.param}"
    )
    try:
        site.start()
        yield site
    finally:
        site.stop()
        shutil.rmtree(folder)


def test_a_client_that_calls_never_moves(site: Site) -> None:
    site.flows.start()
    assert until(lambda: site.copies() == 3)
    began = time.monotonic()
    first = site.call()
    assert time.monotonic() - began < 1.0, "the first packet must not be lost"
    for _ in range(9):
        time.sleep(TIMEOUT * 0.6)  # each wait is shorter than the timeout, all together are much longer
        assert site.call() == first
    # The timer starts from the tenth call.
    time.sleep(TIMEOUT * 0.6)
    assert site.call() == first


def test_endpoints_that_come_leave_it_and_one_that_goes_releases_it(site: Site) -> None:
    site.flows.start()
    site.backends("b1", "b2")
    assert until(lambda: site.copies() == 2)
    first = site.call()
    site.backends("b1", "b2", "b3")
    assert until(lambda: site.copies() == 3)
    assert [site.call() for _ in range(5)] == [first] * 5
    rest = [name for name in ("b1", "b2", "b3") if name != first]
    site.backends(*rest)
    assert until(lambda: site.copies() == 2)
    second = site.call()
    assert second in rest
    assert [site.call() for _ in range(10)] == [second] * 10


def test_what_changes_before_the_monitor_is_up_is_not_missed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    answered, slow = site.folder / "answered", site.folder / "bin/ovs-ofctl"
    slow.parent.mkdir()
    wait = f'case "$*" in *" monitor "*) while [ ! -e {answered} ]; do sleep 0.05; done;; esac'
    slow.write_text(f'#!/bin/sh\n{wait}\nexec {shutil.which("ovs-ofctl")} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    site.flows.start()
    assert until(lambda: site.copies() == 3)
    site.backends("b1", "b2")
    answered.touch()
    assert until(lambda: site.copies() == 2)


def test_the_copies_go_when_the_plugin_or_the_option_is_off_and_ovns_flows_stay(site: Site) -> None:
    def ovns() -> set[str]:
        """OVN's own learning flows."""
        dump = ("dump-flows", "--no-stats", f"unix:{site.folder}/br-int.mgmt")
        lines = run("ovs-ofctl", "-O", "OpenFlow15", *dump).splitlines()
        return {line for line in lines if "learn(" in line and f"cookie={COOKIE:#x}," not in line}

    def start(*plugins: str) -> FlowSink:
        sink = FlowSink(lambda _task: None, lambda *_: None, str(site.folder))
        sink.plugins_active(plugins)
        sink.settle()
        return sink

    site.flows.sync(everything=True)
    assert site.copies() == 3
    before = ovns()
    assert len(before) >= 3
    sinks = [start("services", "gateway")]
    sinks.append(start("gateway"))
    assert until(lambda: site.copies() == 0)
    assert before <= ovns()
    site.flows.sync(everything=True)
    sinks.append(start("services"))
    assert not until(lambda: site.copies() != 3, 1.0), "those of a plugin that is on stay"
    AffinityFlows(str(site.folder), learning=False).sync(everything=True)
    assert site.copies() == 0
    assert before <= ovns()
    for sink in sinks:
        sink.stop()


def test_a_restart_of_ovnkit_deletes_no_affinity_flow(site: Site) -> None:
    """As a process does it: the reconciler tells all sinks whose leftovers stay, here nobody's."""
    site.flows.sync(everything=True)
    assert site.copies() == 3
    site.call()
    heard = site.folder / "heard"
    command = ["ovs-ofctl", "-O", "OpenFlow15", "--unixctl=none", "monitor", f"unix:{site.folder}/br-int.mgmt"]
    with heard.open("w") as file, subprocess.Popen([*command, "watch:"], stdout=file, stderr=file) as monitor:
        assert until(lambda: f"cookie={COOKIE:#x}" in heard.read_text())
        inbox = Inbox()
        reconciler = Reconciler(inbox)
        sink = FlowSink(inbox.post, reconciler.report, str(site.folder))
        reconciler.leftovers.keep(())
        sink.plugins_active(("services", "gateway"))
        reconciler.add_sink(sink)
        reconciler.activate([Role.NODE])
        assert inbox.run_until(lambda: reconciler.synced, 20)
        inbox.run_until(lambda: False, 0.5)
        sink.stop()
        monitor.terminate()
    assert "reason=delete" not in heard.read_text(), "neither a copy nor what was learned"
    assert site.copies() == 3


def test_what_ovn_or_anybody_deletes_is_put_back(site: Site) -> None:
    site.flows.start()
    assert until(lambda: site.copies() == 3)
    run("ovs-ofctl", "-O", "OpenFlow15", "del-flows", f"unix:{site.folder}/br-int.mgmt", f"cookie={COOKIE:#x}/-1")
    assert until(lambda: site.copies() == 3, 5)
    controller = site.daemons[-1]
    controller.restart()
    assert until(lambda: site.copies() == 3)
    site.call()
    site.nb("ls-lb-del", "sw", "lb")
    assert until(lambda: site.copies() == 0)


@pytest.mark.parametrize("site", ["new"], indirect=True)
def test_connections_without_an_answer_are_given_their_source_like_established_ones(site: Site) -> None:
    """OVN 23.03 knows such connections by their first destination, and needs no help."""

    def copies() -> list[str]:
        dump = ("dump-flows", "--no-stats", f"unix:{site.folder}/br-int.mgmt", f"cookie={COOKIE:#x}/-1")
        lines = run("ovs-ofctl", "-O", "OpenFlow15", *dump).splitlines()
        return sorted(line.partition("priority=")[2] for line in lines if "ct_state=+new-est-rel-rpl+trk" in line)

    site.flows.start()
    assert until(lambda: site.copies() == 3)
    site.nb("lr-add", "gr", "--", "set", "Logical_Router", "gr", "options:chassis=ch1")
    site.nb("set", "Logical_Router", "gr", "options:lb_force_snat_ip=router_ip")
    site.nb("ls-add", "out", "--", "lrp-add", "gr", "gr-out", "0a:58:0a:00:01:01", "10.0.1.1/24")
    site.nb("lsp-add", "out", "out-gr", "--", "lsp-set-type", "out-gr", "router")
    site.nb("lsp-set-addresses", "out-gr", "router", "--", "lsp-set-options", "out-gr", "router-port=gr-out")
    site.nb("lb-add", "balanced", "172.16.0.2:53", "10.0.0.11:5353", "udp", "--", "lr-lb-add", "gr", "balanced")
    assert until(lambda: len(copies()) == 2)
    kept, forced = copies()
    assert "ct_mark=0x6/0x6" in kept
    assert "ct_mark=0xa/0xa" in forced
    assert "->reg10,resubmit(," in forced
    site.nb("lr-del", "gr")
    assert until(lambda: copies() == [])
    assert site.copies() == 3
