"""The watch over OVN's daemons: on invented numbers, and on a northd that is killed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from ovnkit.api.hooks import Scope
from ovnkit.api.kinds import Kind
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.network.ovn_daemons import (
    NORTHBOUND_SERVER,
    NORTHD,
    OVN_DAEMONS,
    SOUTHBOUND_SERVER,
    OvnDaemon,
    controller,
)
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit.testing.zone import Zone, zone_of
from ovnkit_topology import appctl
from ovnkit_topology.liveness import PATIENCE, RAISE_PERIOD, Liveness
from ovnkit_topology.plugin import TopologyPlugin
from ovnkit_topology.progress import (
    CHASSIS_PROGRESS,
    NB_PROGRESS,
    NORTHBOUND,
    SB_PROGRESS,
    SOUTHBOUND,
    ChassisProgress,
    NorthboundProgress,
    SouthboundProgress,
)

ZONE = Scope(frozenset({Role.ZONE}), "", "n1", True)
N1 = controller("n1")


@define
class World:
    """What the watch asks for, and a clock."""

    views: dict[tuple[Kind[Any], str], Any] = field(factory=dict)
    told: dict[str, str] = field(factory=dict)
    lost: dict[str, str] = field(factory=dict)
    raised: int = 0
    now: float = 1000.0

    def get(self, kind: Kind[Any], key: str) -> Any:
        return self.views.get((kind, key))

    def disconnected(self, db: str) -> str:
        return self.lost.get(db, "")

    def increment(self, db: str, table: str, column: str) -> None:
        assert (db, table, column) == ("nb", "NB_Global", "nb_cfg")
        self.raised += 1

    def northbound(self, nb_cfg: int, sb_cfg: int) -> None:
        self.views[NB_PROGRESS, NORTHBOUND] = NorthboundProgress(nb_cfg, sb_cfg, sb_cfg)

    def southbound(self, nb_cfg: int, **chassis: int) -> None:
        self.views[SB_PROGRESS, SOUTHBOUND] = SouthboundProgress(nb_cfg)
        for name, count in chassis.items():
            self.views[CHASSIS_PROGRESS, name] = ChassisProgress(name, count)

    def watch(self, place: Scope = ZONE, run_dir: str = "/nowhere") -> Liveness:
        def tell(kind: Kind[Any], changes: Any) -> None:
            assert kind is OVN_DAEMONS
            self.told.update({key: view.problem for key, view in changes})

        found = Liveness(place, run_dir, tell, clock=lambda: self.now)
        found._runtime = self  # type: ignore[assignment]
        return found

    def pass_time(self, watch: Liveness, seconds: float) -> None:
        """Look every five seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now += 5
            watch.look()


@pytest.fixture
def world() -> World:
    made = World()
    made.views[NODES, "n1"] = node("n1", {"k8s.ovn.org/node-chassis-id": "c1"})
    made.northbound(41, 41)
    made.southbound(41, c1=41)
    return made


def test_northd_that_does_not_follow_is_told_with_numbers(world: World) -> None:
    watch = world.watch()
    watch.ask([NORTHD, N1])
    world.northbound(41, 37)
    world.pass_time(watch, PATIENCE)
    assert world.told == {NORTHD: "", N1: ""}, "it may be at work"
    world.pass_time(watch, 5)
    assert world.told[NORTHD] == "northd doesn't answer: nb_cfg 41, sb_cfg 37 for 30 s"
    world.pass_time(watch, 60)
    assert watch.problems() == {"ovn-northd": "northd doesn't answer: nb_cfg 41, sb_cfg 37 for 90 s"}
    assert world.told[NORTHD].endswith("for 30 s"), "one Event, not one for each look"
    samples = {metric.name: metric.samples for metric in watch.metrics()}
    works = {sample.labels["daemon"]: sample.value for sample in samples["ovn_daemon_works"]}
    assert works == {"ovn-northd": 0.0, "ovn-controller": 1.0}
    assert [samples[name][0].value for name in ("nb_cfg", "sb_cfg", "hv_cfg")] == [41, 37, 37]
    world.northbound(42, 42)
    world.pass_time(watch, 5)
    assert (world.told[NORTHD], watch.problems()) == ("", {})


def test_a_database_that_does_not_answer_is_told_and_nobody_else(world: World) -> None:
    watch = world.watch()
    watch.ask([NORTHBOUND_SERVER, SOUTHBOUND_SERVER, NORTHD, N1])
    world.northbound(42, 41)
    world.southbound(42, c1=41)
    world.lost["sb"] = "sb (unix:/sb.sock): no answer for 60 s"
    world.pass_time(watch, 2 * PATIENCE)
    told = "the southbound database doesn't answer for 10 s: sb (unix:/sb.sock): no answer for 60 s"
    assert world.told == {NORTHBOUND_SERVER: "", SOUTHBOUND_SERVER: told, NORTHD: "", N1: ""}
    works = {sample.labels["daemon"]: sample.value for sample in next(iter(watch.metrics())).samples}
    assert works == {"ovn-northd": 1.0, "ovn-controller": 1.0, "ovnnb_db": 1.0, "ovnsb_db": 0.0}
    world.lost.clear()
    world.pass_time(watch, PATIENCE)
    assert world.told[SOUTHBOUND_SERVER] == ""
    world.pass_time(watch, PATIENCE)
    assert world.told[NORTHD].startswith("northd doesn't answer"), "now it is its fault"


def test_northd_that_is_slow_but_comes_on_is_alive(world: World) -> None:
    watch = world.watch()
    watch.ask([NORTHD])
    for count in range(20):
        world.northbound(41 + count + 5, 41 + count)
        world.pass_time(watch, PATIENCE - 5)
    assert world.told == {NORTHD: ""}


def test_nb_cfg_is_raised_once_a_minute_while_all_is_well_and_never_at_start(world: World) -> None:
    watch = world.watch()
    watch.ask([NORTHD])
    world.pass_time(watch, RAISE_PERIOD - 5)
    assert world.raised == 0
    world.pass_time(watch, 10 * RAISE_PERIOD)
    assert world.raised == 10
    world.northbound(42, 41)
    world.pass_time(watch, 10 * RAISE_PERIOD)
    assert world.raised == 10, "it is known that northd doesn't answer"


def test_a_node_process_raises_nothing(world: World) -> None:
    watch = world.watch(Scope(frozenset({Role.NODE}), "n1", "n1", True))
    watch.ask([N1])
    world.pass_time(watch, 10 * RAISE_PERIOD)
    assert world.raised == 0


def test_an_ovn_controller_that_does_not_follow_or_never_came(world: World) -> None:
    central = Scope(frozenset({Role.ZONE}), "", "global", False)
    watch = world.watch(central)
    world.views[NODES, "n2"] = node("n2", {"k8s.ovn.org/node-chassis-id": "c2"})
    watch.ask([NORTHD, N1, controller("n2")])
    world.southbound(42)
    world.pass_time(watch, PATIENCE + 5)
    lagging = "ovn-controller of n1 doesn't answer: southbound nb_cfg 42, its nb_cfg 41 for 30 s"
    absent = "ovn-controller of n2 has not registered chassis c2 in the southbound for 30 s"
    assert world.told == {NORTHD: "", N1: lagging, controller("n2"): absent}
    assert watch.problems() == {}, "other nodes are no reason for the zone's process not to be ready"
    world.southbound(42, c1=42, c2=42)
    world.pass_time(watch, 5)
    assert set(world.told.values()) == {""}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b'{"id":0,"result":"connected\\n","error":null}', ""),
        (b'{"id":0,"result":"not connected\\n","error":null}', "isn't connected to the southbound for 10 s"),
        (None, "isn't running for 10 s"),
    ],
)
def test_what_the_nodes_ovn_controller_says(
    world: World, tmp_path: Path, answer: bytes | None, problem: str
) -> None:
    watch = world.watch(Scope(frozenset({Role.NODE}), "n1", "n1", True), str(tmp_path))
    watch.ask([N1])
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(tmp_path / "ovn-controller.77.ctl"))
    (tmp_path / "ovn-controller.5.ctl").touch()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            client.recv(1000)
            client.sendall(answer or b"")
            client.close()

    if answer is not None:
        server.listen()
        threading.Thread(target=serve, daemon=True).start()
    try:
        world.pass_time(watch, 15)
        expected = f"ovn-controller {problem}" if problem else ""
        assert world.told == {N1: expected}
        assert watch.problems() == ({"ovn-controller": expected} if expected else {})
    finally:
        server.shutdown(socket.SHUT_RDWR) if answer is not None else None
        server.close()


def test_what_is_found_becomes_an_event_on_the_node() -> None:
    bench = Bench(TopologyPlugin(), scope=scope(Role.ZONE, zone="n1"))
    bench.put(NODES, node("n1", {"k8s.ovn.org/node-chassis-id": "c1"}), node("n2"))
    assert {item.key for item in bench.answers.items} == {NORTHBOUND_SERVER, SOUTHBOUND_SERVER, NORTHD, N1}
    bench.put(OVN_DAEMONS, OvnDaemon(NORTHD, "northd doesn't answer"), OvnDaemon(N1, "it isn't running"))
    assert sorted(bench.events) == [
        ("n1", "NorthdNotWorking", "northd doesn't answer"),
        ("n1", "OvnControllerNotWorking", "it isn't running"),
    ]
    bench.put(OVN_DAEMONS, OvnDaemon(NORTHD), OvnDaemon(N1), OvnDaemon(SOUTHBOUND_SERVER, "no answer"))
    assert bench.events == [("n1", "DatabaseNotWorking", "no answer")]
    bench.put(OVN_DAEMONS, OvnDaemon(SOUTHBOUND_SERVER))
    assert bench.events == []


# -- a real northd --------------------------------------------------------------------------------------------


@pytest.fixture
def zone() -> Iterator[Zone]:
    with zone_of("new", Zone) as made:
        yield made


class Live(World):
    """The numbers of a real northbound."""

    zone: Zone

    def get(self, kind: Kind[Any], key: str) -> Any:
        if kind is NB_PROGRESS:
            texts = self.zone.nb("--bare", "--columns=nb_cfg,sb_cfg,hv_cfg", "list", "NB_Global").split()
            return NorthboundProgress(*map(int, texts))
        return super().get(kind, key)

    def increment(self, db: str, table: str, column: str) -> None:
        super().increment(db, table, column)
        count = self.get(NB_PROGRESS, NORTHBOUND).nb_cfg + 1
        self.zone.nb("set", "NB_Global", ".", f"nb_cfg={count}")


@pytest.mark.ovn
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_northd_that_is_killed_or_stopped_is_noticed(
    zone: Zone, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appctl, "DEADLINE", 0.3)
    live = Live()
    live.zone = zone
    folder = zone.log.parent
    watch = live.watch(run_dir=str(folder))
    watch.ask([NORTHD])
    live.pass_time(watch, 20)
    assert live.raised == 0
    (daemon,) = (item for item in zone._daemons if item.name == "ovn-northd")
    pid = daemon.pid
    os.kill(pid, how)
    try:
        live.pass_time(watch, 40 if how is not signal.SIGSTOP else RAISE_PERIOD + PATIENCE)
        assert live.told[NORTHD].startswith("northd doesn't answer: nb_cfg ")
        gone = "it isn't running on this machine"
        assert (gone in live.told[NORTHD]) is (how is not signal.SIGSTOP)
    finally:
        if how is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
