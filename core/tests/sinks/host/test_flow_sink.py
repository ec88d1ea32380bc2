"""The flow sink on a real bridge: applied, restored, removed; nobody else's flows are touched."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ovnkit.api.flows import Ct, CtState, Flow, Group, Match, Nat, Output, Port, Protocol, ToGroup, plugin_mark
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host import flowsink
from ovnkit.sinks.host.flowsink import FlowSink
from ovnkit.sinks.host.flowstate import cookie_of, is_ours
from ovnkit.testing.daemons import Daemon, ovsdb_server, vswitchd
from ovnkit.testing.installs import locate

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
    benches: list[FlowSinkUnderTest] = []

    def make() -> FlowSinkUnderTest:
        benches.append(FlowSinkUnderTest(switch))
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


class FlowSinkUnderTest:
    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.inbox = Inbox()
        self.reports: list[tuple[Owner, Exception | None]] = []
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


def node_port(number: int) -> Flow:
    return Flow("br-ex", 0, 110, Match(protocol=Protocol.TCP, target_port=number), (Output(Port.LOCAL),))


MISSING = Group("br-ex", ((Output(Port.LOCAL),), (Output(Port.IN_PORT),)))
BAD_TEXT = Flow("br-ex", 0, 70_000, Match(protocol=Protocol.IPV6), ())
BAD_GROUP = Flow("br-ex", 0, 110, Match(protocol=Protocol.UDP, target_port=53), (ToGroup(MISSING.number),))
BAD_TABLE = Flow("br-ex", 300, 1, Match(), ())


@pytest.mark.parametrize("bad", [BAD_TEXT, BAD_GROUP, BAD_TABLE])
def test_a_refused_flow_disables_nothing_but_itself(run: Any, switch: Switch, bad: Flow) -> None:
    """Whether ovs-ofctl can't read it or Open vSwitch doesn't take it."""
    bench, culprit = run(), Owner("services", "service-flows", "shop/bad")
    owners = [Owner("services", "service-flows", f"shop/{number}") for number in range(20)]
    for number, owner in enumerate(owners):
        if number == 7:
            bench.sink.want(culprit, (node_port(31000), bad, node_port(31001)))
        bench.sink.want(owner, (node_port(30000 + number),))
    bench.sink.settle()
    bench.want(NODE_PORT, SERVICES)
    dump = switch.flows()
    assert all(f"tp_dst={30000 + number} actions=LOCAL" in dump for number in range(20))
    assert "tp_dst=31000 " in dump
    assert "tp_dst=31001 " in dump, "other flows of the same owner"
    assert {owner for owner, _ in bench.reports} == {culprit}
    assert f"br-ex refused flow {bad.text}: " in str(bench.reports[0][1])
    (failed,) = bench.sink.status()["failed"]
    assert failed == f"br-ex flow {bad.text}"
    assert bench.sink.status()["last_error"]
    before = bench.sink.bundles_total
    bench.sink.want(owners[0], (node_port(32000),))
    bench.sink.flush()
    bench.settled()
    assert bench.sink.bundles_total == before + 1, "it is left out of what comes next"
    bench.sink.want(culprit, (node_port(31000),))
    bench.sink.flush()
    bench.settled()
    assert bench.sink.status()["failed"] == {}
    assert [error is None for _, error in bench.reports] == [False, True], "told once, and when it is over"
    for owner in (culprit, *owners):
        bench.sink.want(owner, ())


def test_a_refused_flow_is_tried_again(run: Any, switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flowsink, "LAST_RETRY", 1.0)
    bench = run()
    bench.want(BAD_GROUP, SERVICES)
    assert bench.sink.status()["failed"]
    switch.ofctl("add-group", MISSING.text)
    bench.wait(lambda: f"actions=group:{MISSING.number}" in switch.flows())
    bench.wait(lambda: bench.sink.status()["failed"] == {})
    assert bench.reports[-1] == (OWNER, None), "it is over"
    bench.sink.settle()


def test_what_a_refused_flow_was_to_replace_stays(run: Any, switch: Switch) -> None:
    last = Flow("br-ex", 0, 110, Match(protocol=Protocol.UDP, target_port=53), (Output(Port.LOCAL),))
    bench = run()
    bench.sink.settle()
    bench.want(last)
    bench.want(BAD_GROUP)
    assert "udp,tp_dst=53 actions=LOCAL" in switch.flows()
    bench.want(BAD_GROUP, MISSING)
    bench.wait(lambda: f"udp,tp_dst=53 actions=group:{MISSING.number}" in switch.flows())
    assert switch.flows().count("tp_dst=53") == 1
    bench.want()
    assert "tp_dst=53" not in switch.flows()


def test_a_deletion_of_our_own_is_not_taken_for_someone_elses(run: Any, switch: Switch) -> None:
    """In every order: the news of a deletion may come before its bundle is known to be done, or when the flow has
    been made again; a flow may be replaced by another at its place."""
    other = [Flow("br-ex", 0, 110, node_port(30000 + n).match, (Output(Port.IN_PORT),)) for n in range(100)]
    bench, services = run(), [node_port(30000 + number) for number in range(100)]
    bench.sink.settle()
    with capture_logs() as logs:
        for wanted in (services, [], services, other, services, [], other):
            bench.want(*wanted, SERVICES)
        for wanted in (services, [], other, services, []):  # without waiting for what came of it
            bench.sink.want(OWNER, wanted)
            bench.sink.flush()
            bench.inbox.run_until(lambda: True, 0)
        bench.settled()
        bench.inbox.run_until(lambda: False, 0.5)
    assert [entry for entry in logs if "someone" in entry["event"]] == []


def test_what_others_delete_is_restored_and_told_once(run: Any, switch: Switch) -> None:
    bench, services = run(), [node_port(30000 + number) for number in range(50)]
    bench.want(*services, SERVICES)
    with capture_logs() as logs:
        for number in range(3):
            switch.ofctl("del-flows", "tcp")
            bench.wait(lambda: switch.flows().count("tp_dst=300") == 50)
            assert bench.sink.idle or number < 3
        bench.inbox.run_until(lambda: False, 0.5)
    told = [entry for entry in logs if "someone" in entry["event"]]
    assert [(entry["bridge"], entry["flows"]) for entry in told] == [("br-ex", 50)]


@pytest.mark.parametrize("seed", range(4))
def test_any_history_ends_with_the_flows_that_are_wanted_but_for_the_bad_ones(
    run: Any, switch: Switch, seed: int
) -> None:
    chance, bench = random.Random(seed), run()
    actions = ((Output(Port.LOCAL),), (Output(Port.IN_PORT),), (ToGroup(MISSING.number),))
    owners = [Owner("services", "service-flows", str(number)) for number in range(5)]
    wanted: dict[Owner, list[Flow]] = {}
    for step in range(15):
        ports = chance.sample(range(12), chance.randrange(6))
        flows = [Flow("br-ex", 0, 110, node_port(30000 + n).match, chance.choice(actions)) for n in ports]
        flows += chance.sample([BAD_TEXT, BAD_TABLE], chance.randrange(2))
        owner = chance.choice(owners)
        wanted[owner] = flows
        bench.sink.want(owner, flows)
        bench.sink.flush()
        if step == 5:
            bench.sink.settle()
        if chance.random() < 0.2:
            switch.ofctl("del-flows", "tcp")
        if chance.random() < 0.5:
            bench.inbox.run_until(lambda: False, chance.random() * 0.05)
    bench.settled()
    held = {flow.place: flow for owner in sorted(wanted, key=str, reverse=True) for flow in wanted[owner]}
    bad = {flow.text for flow in held.values() if flow in (BAD_TEXT, BAD_TABLE) or "group" in flow.text}
    good = {f"{cookie_of('services', flow.text):#x}" for flow in held.values() if flow.text not in bad}

    def missing() -> set[str]:
        dump = switch.flows()
        return {cookie for cookie in good if cookie not in dump}

    # What the last deletion took returns when the monitor has told of it.
    bench.wait(lambda: not missing() and bench.sink.idle)
    assert set(bench.sink.status()["failed"]) == {f"br-ex flow {text}" for text in bad}
    # Where a bad one is wanted, an earlier one may stand.
    assert switch.flows().count("tp_dst=") <= len(held)
    for owner in owners:
        bench.sink.want(owner, ())
    bench.sink.flush()
    bench.wait(lambda: "tp_dst" not in switch.flows())


def test_flows_of_a_bridge_made_anew_were_deleted_by_nobody(run: Any, switch: Switch) -> None:
    bench = run()
    bench.want(NODE_PORT, SERVICES)
    with capture_logs() as logs:
        switch.daemons[1].kill()
        switch.daemons[1].start()
        bench.wait(lambda: "tp_dst=30080" in switch.flows())
        bench.inbox.run_until(lambda: False, 0.3)
    assert [entry for entry in logs if "someone" in entry["event"]] == []


def test_leftovers_of_a_plugin_that_failed_stay(run: Any, switch: Switch) -> None:
    run().want(NODE_PORT, SERVICES)
    bench = run()
    bench.sink.keep({f"{OWNER.plugin}/{OWNER.renderer}/bad"})
    bench.want(SERVICES)
    bench.sink.settle()
    bench.sink.flush()
    bench.settled()
    assert "tp_dst=30080" in switch.flows()
    bench.want()
    assert "nw_dst=172.16.1.0/24" not in switch.flows(), "what it has stopped wanting in this process goes"
    bench.sink.keep(())
    bench.sink.flush()
    bench.wait(lambda: "tp_dst=30080" not in switch.flows())


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
    cookie = cookie_of("gateway", SERVICES.text)
    assert is_ours(cookie)
    assert cookie >> 48 == plugin_mark("gateway")
    assert not is_ours(0xDEFF105)
