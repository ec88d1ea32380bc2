"""The flow sink on a real bridge: applied, restored, removed; nobody else's flows are touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.daemons import Daemon, ovsdb_server, vswitchd
from ovnkit.api.flows import Ct, CtState, Flow, Group, Match, Nat, Output, Port, Protocol, ToGroup
from ovnkit.api.installs import locate
from ovnkit.api.sinks import Owner
from ovnkit.host.flowsink import FlowSink, is_ours
from ovnkit.kernel.inbox import Inbox

pytestmark = pytest.mark.ovn
OWNER = Owner("gateway", "bridge", "")


class Switch:
    """One vswitchd in a namespace of its own, with a bridge."""

    def __init__(self, directory: Path) -> None:
        install = locate("host")
        self.run_dir = directory
        self.netns = f"ovnkit-flows-{os.getpid()}"
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.daemons: list[Daemon] = [
            ovsdb_server(
                install,
                directory,
                {"ovs": directory / "conf.db"},
                name="ovsdb-server",
                remotes=[f"punix:{directory}/db.sock"],
                log_dir=directory,
                netns=self.netns,
            ),
            vswitchd(install, directory, log_dir=directory, netns=self.netns),
        ]
        for daemon in self.daemons:
            daemon.start()
        self.vsctl("add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev")

    def vsctl(self, *arguments: str) -> None:
        subprocess.run(["ovs-vsctl", f"--db=unix:{self.run_dir}/db.sock", "--timeout=20", *arguments], check=True)

    def ofctl(self, *arguments: str) -> str:
        command, *rest = arguments
        done = subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow15", command, f"unix:{self.run_dir}/br-ex.mgmt", *rest],
            check=command != "dump-flows",  # the bridge may just be coming back
            capture_output=True,
            text=True,
        )
        return done.stdout

    def flows(self) -> str:
        return self.ofctl("dump-flows", "--no-stats")

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.stop()
        subprocess.run(["ip", "netns", "del", self.netns], check=True)


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    found = Switch(tmp_path_factory.mktemp("ovs"))
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def run(switch: Switch) -> Iterator[Any]:
    benches: list[Bench] = []

    def make() -> Bench:
        benches.append(Bench(switch))
        return benches[-1]

    try:
        yield make
    finally:
        for bench in benches:
            bench.sink.want(OWNER, ())
        last = make()
        last.sink.settle()
        last.wait(lambda: "cookie=0x6f" not in switch.flows())
        for bench in benches:
            bench.sink.stop()


class Bench:
    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.inbox = Inbox()
        self.reports: list[tuple[Owner, Exception]] = []
        self.sink = FlowSink(
            self.inbox.post, lambda owner, error: self.reports.append((owner, error)), str(switch.run_dir)
        )

    def want(self, *items: Any, owner: Owner = OWNER) -> None:
        self.sink.want(owner, items)
        self.sink.flush()
        self.settled()

    def settled(self) -> None:
        self.wait(lambda: self.sink.idle and self.sink.ready)

    def wait(self, condition: Callable[[], bool]) -> None:
        assert self.inbox.run_until(condition, 20), (self.sink.status(), self.reports)


NODE_PORT = Flow("br-ex", 0, 110, Match(protocol=Protocol.TCP, target_port=30080), (Output(Port.LOCAL),))
SERVICES = Flow(
    "br-ex",
    0,
    500,
    Match(in_port=Port.LOCAL, protocol=Protocol.IP, target=IPv4Network("172.16.1.0/24")),
    (Ct(commit=True, zone=64001, table=2, nat=Nat(source=IPv4Address("169.254.169.2"))),),
)
SERVICES6 = Flow(
    "br-ex",
    1,
    100,
    Match(protocol=Protocol.IPV6, ct_state=CtState.ESTABLISHED, ct_mark=2, target=IPv6Network("fd00::/112")),
    (Output(Port.LOCAL),),
)


def test_flows_are_applied_exactly_and_once(run: Any, switch: Switch) -> None:
    bench = run()
    bench.want(NODE_PORT, SERVICES, SERVICES6)
    dump = switch.flows()
    assert "priority=110,tcp,tp_dst=30080 actions=LOCAL" in dump
    assert (
        "priority=500,ip,in_port=LOCAL,nw_dst=172.16.1.0/24 "
        "actions=ct(commit,table=2,zone=64001,nat(src=169.254.169.2))" in dump
    )
    assert (
        "table=1, priority=100,ct_state=+est+trk,ct_mark=0x2,ipv6,ipv6_dst=fd00::/112 actions=LOCAL"
        in dump.replace(" table=1,", "table=1,")
    )
    status = bench.sink.status()
    assert [status[key] for key in ("owned", "pending", "last_error")] == [3, 0, ""]
    again = run()
    again.want(NODE_PORT, SERVICES, SERVICES6)
    assert again.sink.bundles_total == 0, "a restart with nothing changed writes nothing"


def test_a_deleted_flow_comes_back_and_foreign_flows_stay(run: Any, switch: Switch) -> None:
    bench = run()
    switch.ofctl("add-flow", "cookie=0x1234,priority=7,actions=drop")
    bench.want(NODE_PORT, SERVICES)
    switch.ofctl("del-flows", "tcp")
    bench.wait(lambda: "tp_dst=30080" in switch.flows())
    bench.sink.settle()
    bench.sink.flush()
    bench.want(SERVICES)
    assert "tp_dst=30080" not in switch.flows()
    assert "cookie=0x1234" in switch.flows()
    switch.ofctl("del-flows", "cookie=0x1234/-1")


def test_leftovers_go_only_after_settle(run: Any, switch: Switch) -> None:
    run().want(NODE_PORT, SERVICES)
    bench = run()
    bench.want(SERVICES)
    assert "tp_dst=30080" in switch.flows()
    bench.sink.settle()
    bench.sink.flush()
    bench.settled()
    assert "tp_dst=30080" not in switch.flows()


def test_flows_return_after_vswitchd_restarts(run: Any, switch: Switch) -> None:
    bench = run()
    bench.want(NODE_PORT, SERVICES)
    switch.daemons[1].kill()
    switch.daemons[1].start()
    bench.wait(lambda: "tp_dst=30080" in switch.flows() and "nw_dst=172.16.1.0/24" in switch.flows())


def test_a_group_comes_with_the_flow_that_uses_it(run: Any, switch: Switch) -> None:
    group = Group("br-ex", ((Output(Port.LOCAL),), (Output(Port.IN_PORT),)), by_source=True)
    bench = run()
    bench.want(group, Flow("br-ex", 0, 120, Match(protocol=Protocol.UDP), (ToGroup(group.number),)))
    assert f"group_id={group.number},type=select" in switch.ofctl("dump-groups")
    assert f"actions=group:{group.number}" in switch.flows()
    bench.sink.settle()
    bench.want()
    assert "group_id" not in switch.ofctl("dump-groups")


def test_two_owners_of_one_place_are_counted(run: Any, switch: Switch) -> None:
    bench = run()
    other = Owner("gateway", "bridge", "other")
    bench.want(NODE_PORT)
    bench.want(NODE_PORT, owner=other)
    bench.sink.settle()
    bench.want()
    assert "tp_dst=30080" in switch.flows()
    bench.want(owner=other)
    assert "tp_dst=30080" not in switch.flows()


def test_a_disabled_plugins_flows_go_without_anyone_naming_its_bridge(run: Any, switch: Switch) -> None:
    run().want(NODE_PORT)
    bench = run()
    bench.sink.settle()
    bench.wait(lambda: "tp_dst=30080" not in switch.flows())


@pytest.mark.parametrize("restarted", [True, False])
def test_the_flow_that_switches_is_given_back(run: Any, switch: Switch, restarted: bool) -> None:
    """Without it a bridge whose flows go would drop everything."""
    switch.ofctl("add-flow", "priority=0,actions=NORMAL")
    last = Flow("br-ex", 0, 0, Match(), (Output(Port.NORMAL),))

    def plain() -> list[str]:
        lines = (line.strip() for line in switch.flows().splitlines())
        return [line for line in lines if line.startswith("priority=0 ")]

    bench = run()
    bench.want(NODE_PORT, last)
    assert plain() == []
    if restarted:
        bench = run()
    bench.sink.settle()
    bench.want(NODE_PORT)
    bench.wait(lambda: plain() == ["priority=0 actions=NORMAL"])
    bench.want(NODE_PORT, last)
    bench.wait(lambda: plain() == [])


def test_a_bridge_that_nobody_wants_anything_of_may_go(run: Any, switch: Switch) -> None:
    switch.vsctl("add-br", "br-old", "--", "set", "bridge", "br-old", "datapath_type=netdev")
    bench = run()
    bench.sink.settle()
    bench.wait(lambda: bench.sink.status()["bridges"]["br-old"]["answers"])
    switch.vsctl("del-br", "br-old")
    bench.wait(lambda: "br-old" not in bench.sink.status()["bridges"])
    bench.settled()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Match(protocol=Protocol.IP, source=IPv6Network("fd00::/64")),
        lambda: Match(protocol=Protocol.ICMP, target_port=80),
        lambda: Match(eth_src="0a:58:00:00:00:01,actions=drop"),
        lambda: Match(protocol=Protocol.TCP, target_port=70000),
        lambda: Flow("br-ex; reboot", 0, 1, Match()),
    ],
)
def test_contradictions_and_text_are_refused_where_they_are_made(wrong: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wrong()


def test_cookies_tell_the_plugin_and_are_ours() -> None:
    from ovnkit.host.flowsink import cookie_of, plugin_mark

    cookie = cookie_of("gateway", SERVICES.text)
    assert is_ours(cookie)
    assert cookie >> 48 == plugin_mark("gateway")
    assert not is_ours(0xDEFF105)
