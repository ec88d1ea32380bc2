"""The pool of labs: which are shared, and what happens to one that comes back with something left in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ovnkit_lab import testing
from ovnkit_lab.testing import LabHandle, LabPool, layout


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Commands of `ovnkit lab` that the pool gives, none of which is run."""
    given: list[tuple[str, ...]] = []

    def run(*arguments: str, **_: Any) -> subprocess.CompletedProcess[str]:
        given.append(arguments)
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(testing, "ovnkit_lab", run)
    monkeypatch.setattr(testing, "exports", lambda _: {})
    monkeypatch.setattr(testing, "CLEAN_SECONDS", 0.0)
    return given


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """What is in each lab."""
    found: dict[str, set[str]] = {}
    monkeypatch.setattr(testing, "inventory", lambda lab: frozenset(found.setdefault(lab.name, {"node/node1"})))
    return found


@pytest.fixture
def pool(commands: list[tuple[str, ...]], content: dict[str, set[str]]) -> Iterator[LabPool]:
    made = LabPool()
    yield made
    made.close()


def names(commands: list[tuple[str, ...]], what: str) -> list[str]:
    return [arguments[2] for arguments in commands if arguments[0] == what]


def test_labs_of_one_layout_are_one_lab(pool: LabPool, commands: list[tuple[str, ...]]) -> None:
    with pool.lend(ip_family="dual") as first:
        pass
    with pool.lend(ip_family="dual", config='[gateway]\nnodeport = true\nmode = "shared"\n') as second:
        pass
    with pool.lend(ip_family="dual", config='[gateway]\nmode = "local"\n') as third:
        pass
    assert first.name == second.name != third.name
    assert len(names(commands, "up")) == 2
    assert names(commands, "down") == []


def test_two_layouts_in_turns_stay_up_both(pool: LabPool, commands: list[tuple[str, ...]]) -> None:
    for _ in range(3):
        with pool.lend() as one, pool.lend(zones="central") as two:
            assert one.name != two.name
    assert len(names(commands, "up")) == 2


def test_what_is_left_is_named_and_the_lab_is_not_lent_again(
    pool: LabPool, commands: list[tuple[str, ...]], content: dict[str, set[str]]
) -> None:
    left = r"left in the lab \(ipv4.*: Port_Group a1 of node1, pod/lost$"
    with pytest.raises(pytest.fail.Exception, match=left), pool.lend() as lab:
        content[lab.name] |= {"pod/lost", "Port_Group a1 of node1"}
    assert names(commands, "down") == [lab.name]
    with pool.lend() as another:
        assert another.name != lab.name


def test_what_is_gone_is_named_too(pool: LabPool, content: dict[str, set[str]]) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"node/node1 is gone$"), pool.lend() as lab:
        content[lab.name].clear()


def test_a_lab_in_which_a_test_failed_is_not_lent_again(pool: LabPool, commands: list[tuple[str, ...]]) -> None:
    with pytest.raises(RuntimeError), pool.lend() as lab:
        raise RuntimeError("in a set-up")
    assert names(commands, "down") == [lab.name]


def test_an_own_lab_is_nobody_elses(pool: LabPool, commands: list[tuple[str, ...]]) -> None:
    with pool.own() as mine, pool.lend() as shared:
        assert mine.name != shared.name
    assert names(commands, "down") == [mine.name]


def test_the_lab_that_was_lent_the_longest_ago_makes_room(
    pool: LabPool, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "MAX_LABS", 2)
    lent: list[LabHandle] = []
    for nodes in (1, 2, 1, 3):
        with pool.lend(nodes=nodes) as lab:
            lent.append(lab)
    assert names(commands, "down") == [lent[1].name]


def test_a_lab_that_is_lent_stays_up(
    pool: LabPool, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "MAX_LABS", 1)
    with pool.lend() as first:
        with pool.lend(nodes=1) as second:
            pool.close()
            assert names(commands, "down") == []
        pool.close()
        assert names(commands, "down") == [second.name]
    pool.close()
    assert names(commands, "down") == [second.name, first.name]


def test_one_lab_lent_twice_is_looked_at_when_both_are_done(pool: LabPool, content: dict[str, set[str]]) -> None:
    with pool.lend() as outer:
        content[outer.name].add("pod/mine")
        with pool.lend() as inner:
            assert inner.name == outer.name
        content[outer.name].remove("pod/mine")


def test_the_report_says_what_was_brought_up(pool: LabPool) -> None:
    for _ in range(2):
        with pool.lend(ip_family="ipv6", ovn="host"):
            pass
    first, line = pool.report()
    assert first.startswith("2 times lent, 1 brought up in ")
    assert line.startswith("1 x ipv6, per-node, 2 nodes, OVN of the host; gateway.mode = ")


def test_a_layout_is_what_the_configuration_means() -> None:
    assert layout(config="a = {b = 1, c = [true]}") == layout(config="[a]\nc = [ true ]\nb = 1")
