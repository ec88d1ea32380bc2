"""The conntrack sink: what it has Open vSwitch forget, and what Open vSwitch then remembers."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from ovnkit.api.host import TrackedFront, TrackedPath
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host import kerneltrack, ofctl
from ovnkit.sinks.host.ofctl import Bridge, OfctlError
from ovnkit.sinks.host.tracksink import TrackSink

A, B = Owner("test", "a", "k"), Owner("test", "b", "k")


def path(last: int, family: int = 4) -> TrackedPath:
    address, target = ("172.30.0.10", f"10.0.0.{last}") if family == 4 else ("fd02::10", f"fd01::{last}")
    return TrackedPath("UDP", ip_address(address), 53, ip_address(target), 5353)


def front(family: int = 4, *, answers: bool = True) -> TrackedFront:
    return TrackedFront("UDP", ip_address("172.30.0.10" if family == 4 else "fd02::10"), 53, answers)


class Kernel:
    """The sink with timers run by hand, and what ovs-ofctl was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timers: list[Callable[[], None]] = []
        self.commands: list[tuple[str, ...]] = []
        self.error = ""
        self.sink = TrackSink(lambda _, function: self.timers.append(function), Bridge("br-int", "/run"), (1, 2))
        self.kernel: list[tuple[Any, ...]] = []
        monkeypatch.setattr(ofctl, "run", self.run)
        self.tracked = ""
        monkeypatch.setattr(ofctl, "conntrack", lambda _run_dir: self.tracked)
        monkeypatch.setattr(kerneltrack, "forget", self.forget)

    def forget(self, *way: Any, unanswered: bool = False) -> int:
        self.kernel.append((*way, unanswered))
        return 0

    def run(self, _bridge: Bridge, *arguments: str) -> str:
        self.commands.append(arguments)
        if self.error:
            raise OfctlError(self.error)
        return ""

    def want(self, owner: Owner, *items: TrackedPath | TrackedFront) -> None:
        self.sink.want(owner, items)
        self.sink.flush()
        assert self.sink.idle

    def elapse(self) -> list[tuple[str, ...]]:
        """Let the timers expire; what was told by the end."""
        timers, self.timers = self.timers, []
        for timer in timers:
            timer()
        self.sink.stop()
        if self.sink._thread.ident is not None:
            self.sink._thread.join(5)
        return self.commands


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.mark.parametrize("family", [4, 6])
def test_a_path_that_is_gone_is_forgotten_more_than_once(kernel: Kernel, family: int) -> None:
    kernel.want(A, path(1, family), path(2, family))
    assert kernel.timers == []
    kernel.want(A, path(2, family))
    field, vip, target = {4: ("ct_nw", "172.30.0.10", "10.0.0.1"), 6: ("ct_ipv6", "fd02::10", "fd01::1")}[family]
    there = f"{field}_dst={vip},ct_nw_proto=17,ct_tp_dst=53"
    back = f"{field}_src={target},ct_nw_proto=17,ct_tp_src=5353"
    assert kernel.elapse() == [("ct-flush", there, back)] * 2
    assert kernel.kernel == [(17, ip_address(vip), 53, (target, 5353), False)] * 2


def test_what_another_owner_wants_or_what_has_come_back_stays(kernel: Kernel) -> None:
    kernel.want(A, path(1), path(2))
    kernel.want(B, path(1))
    kernel.want(A)
    kernel.want(A, path(2))
    assert kernel.elapse() == []


def test_a_bridge_that_does_not_answer_is_told_of_and_not_waited_for(kernel: Kernel) -> None:
    kernel.error = "no such bridge"
    kernel.want(A, path(1))
    kernel.want(A)
    assert len(kernel.elapse()) == 2
    status: dict[str, Any] = kernel.sink.status()
    assert (status["connected"], status["last_error"]) == (False, "no such bridge")


def test_an_address_without_any_way_left_is_one_command(kernel: Kernel) -> None:
    kernel.want(A, *(path(last) for last in range(1, 100)))
    kernel.want(A)
    assert kernel.elapse() == [("ct-flush", "ct_nw_dst=172.30.0.10,ct_nw_proto=17,ct_tp_dst=53")] * 2
    assert kernel.kernel == [(17, ip_address("172.30.0.10"), 53, None, False)] * 2


def tracked(client: str, vip: str, target: str, zone: int, more: str = "") -> str:
    """A line of what Open vSwitch tracks."""
    at, port = (target, 53) if target == vip else (target, 5353)
    ids = f",zone={zone}" if zone else ""
    there, back = f"src={client},dst={vip},sport=4000,dport=53", f"src={at},dst={client},sport={port},dport=4000"
    return f"udp,orig=({there}),reply=({back}){ids}{more}\n"


@pytest.mark.parametrize("family", [4, 6])
def test_what_was_there_before_its_front_is_forgotten_if_nobody_translated_it(kernel: Kernel, family: int) -> None:
    kernel.sink.settle()
    kernel.want(A, front(family))
    field, vip = {4: ("ct_nw", "172.30.0.10"), 6: ("ct_ipv6", "fd02::10")}[family]
    client, pod, other = {4: ("10.0.0.9", "10.0.0.1", "172.30.0.11"), 6: ("fd01::9", "fd01::1", "fd02::11")}[
        family
    ]
    kernel.tracked = (
        tracked(client, vip, vip, 0)
        + tracked(client, vip, vip, 12, ",mark=10")
        + tracked(client, vip, pod, 13, ",mark=10")
        + tracked(client, other, other, 14)
        + tracked(client, vip, vip, 64001)
    )
    there = f"{field}_dst={vip},ct_nw_proto=17,ct_tp_dst=53"
    back = f"{field}_src={vip},ct_nw_proto=17,ct_tp_src=53"
    assert kernel.elapse() == [("ct-flush", f"zone={zone}", there, back) for zone in (0, 12)] * 2
    assert kernel.kernel == [(17, ip_address(vip), 53, (vip, 53), True)] * 2


def test_at_the_start_nothing_is_forgotten_and_later_only_what_is_new(kernel: Kernel) -> None:
    kernel.want(A, front())
    kernel.sink.settle()
    kernel.want(A, front(), path(1))
    kernel.want(B, front())
    kernel.want(A, path(1))
    assert kernel.timers == []
    kernel.want(B, front(6))
    kernel.elapse()
    assert [way[1] for way in kernel.kernel] == [ip_address("fd02::10")] * 2


def test_a_front_that_gets_its_first_endpoint_or_comes_back_is_new_and_one_that_went_again_is_not(
    kernel: Kernel,
) -> None:
    kernel.want(A, front(answers=False))
    kernel.sink.settle()
    kernel.want(A, front())
    assert len(kernel.timers) == 2
    kernel.want(A)
    kernel.want(A, front())
    assert len(kernel.timers) == 4
    kernel.want(A)
    assert kernel.elapse() == []
    assert kernel.kernel == []
