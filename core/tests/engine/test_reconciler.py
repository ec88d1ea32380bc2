"""The reconciler against a sink that only remembers: what runs again, what waits, what fails alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.errors import Reject, Retry
from ovnkit.api.items import Annotation, Label
from ovnkit.api.models import NAMESPACES, NODES, PODS, Namespace, Node, Pod
from ovnkit.api.renderers import KeysOf, Renderer, Role
from ovnkit.api.world import Pool, World, derived
from ovnkit.engine import failures as failures
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.reconciler import Reconciler
from ovnkit.engine.sink import AnySink, Owner

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
META: dict[str, Any] = {
    "uid": "u",
    "labels": {},
    "annotations": {},
    "deleting": False,
    "finalizers": (),
    "resource_version": "1",
}


def pod(name: str, node: str = "n1", namespace: str = "default", **labels: str) -> Pod:
    meta = {**META, "labels": labels, "uid": f"uid-{name}"}
    return Pod(
        namespace=namespace,
        name=name,
        **meta,
        node=node,
        host_network=False,
        completed=False,
        ready=True,
        addresses=(),
        ports=(),
    )


def node(name: str, **annotations: str) -> Node:
    return Node(namespace="", name=name, **{**META, "annotations": annotations}, addresses=("192.0.2.1",))


def namespace(name: str, **labels: str) -> Namespace:
    return Namespace(namespace="", name=name, **{**META, "labels": labels})


class MemorySink(AnySink):
    name = "memory"
    item_types: tuple[type, ...] = (Annotation,)
    idle = True
    ready = True

    def __init__(self) -> None:
        self.wanted: dict[Owner, tuple[Any, ...]] = {}
        self.wants = 0
        self.settled = 0
        self.kept: set[str] = set()
        self.told: Callable[[Owner], None] = lambda _: None

    def want(self, owner: Owner, items: Sequence[Any]) -> None:
        self.wants += 1
        self.told(owner)
        if items:
            self.wanted[owner] = tuple(items)
        else:
            self.wanted.pop(owner, None)

    def flush(self) -> None:
        pass

    def settle(self) -> None:
        self.settled += 1

    def keep(self, paths: Collection[str]) -> None:
        self.kept = set(paths)

    def status(self) -> dict[str, Any]:
        return {}

    def values(self) -> dict[str, str]:
        return {item.object: item.value for items in self.wanted.values() for item in items}


class EngineUnderTest:
    """A reconciler with one plugin and a memory sink; `feed` observes and works until nothing is left."""

    def __init__(self, *renderers: Renderer, listed: Iterable[Any] = (PODS, NODES, NAMESPACES)) -> None:
        self.seconds = 0.0
        self.inbox = Inbox(clock=lambda: time.monotonic() + self.seconds)
        self.sink = MemorySink()
        self.reconciler = Reconciler(self.inbox, sinks=[self.sink], now=self.now)
        self.events: list[tuple[str, str, str]] = []
        self.reconciler.on_event = lambda _kind, key, reason, message, _warning: self.events.append(
            (key, reason, message)
        )
        self.reconciler.add_plugin("test", renderers)
        for kind in listed:
            self.reconciler.listed(kind)
        self.reconciler.activate([Role.ZONE])
        self.settle()

    def now(self) -> datetime:
        return NEW_YEAR + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        """Time passes, by both clocks."""
        self.seconds += seconds
        turned: list[bool] = []
        self.inbox.post(lambda: turned.append(True))
        assert self.inbox.run_until(lambda: bool(turned), 1)
        self.settle()

    def settle(self) -> None:
        while self.reconciler._work():
            pass

    def feed(self, *views: Any) -> None:
        for view in views:
            kind = {Pod: PODS, Node: NODES, Namespace: NAMESPACES}[type(view)]
            self.reconciler.observe(kind, [(view.key, view)])
        self.settle()

    def drop(self, kind: Any, key: str) -> None:
        self.reconciler.observe(kind, [(key, None)])
        self.settle()

    def renders(self, name: str = "pod") -> int:
        return self.reconciler.renders_total.get(("test", name), 0)


def mark(key: str, value: str) -> Annotation:
    return Annotation(PODS, key, "mark", value)


@derived
def zone_of(world: World, name: str) -> str:
    found = world.get(NODES, name)
    if found is None:
        raise Retry(f"no node {name}")
    return found.annotations.get("zone", "none")


def render_zone(world: World, key: str) -> Iterable[Any]:
    found = world.get(PODS, key)
    assert found is not None
    yield mark(key, zone_of(world, found.node))


def test_a_derived_value_shields_its_readers() -> None:
    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render_zone, each=PODS))
    bench.feed(node("n1", zone="a"), pod("p1"), pod("p2"))
    assert bench.sink.values() == {"default/p1": "a", "default/p2": "a"}
    before = bench.renders()
    bench.feed(node("n1", zone="a", heartbeat="1"))
    assert bench.renders() == before
    bench.feed(node("n1", zone="b"))
    assert bench.renders() == before + 2
    assert set(bench.sink.values().values()) == {"b"}


def test_only_what_read_the_object_runs_again() -> None:
    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render_zone, each=PODS))
    bench.feed(node("n1"), node("n2"), *(pod(f"p{i}", node=f"n{i % 2 + 1}") for i in range(10)))
    before = bench.renders()
    bench.feed(evolve(pod("p3", node="n2"), ready=False))
    assert bench.renders() == before + 1


def test_an_equal_view_causes_nothing() -> None:
    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render_zone, each=PODS))
    bench.feed(node("n1"), pod("p1"))
    before = bench.renders()
    bench.feed(evolve(pod("p1"), resource_version="99"))
    assert bench.renders() == before


def test_a_missing_object_is_waited_for_without_a_timer() -> None:
    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render_zone, each=PODS))
    bench.feed(pod("p1"))
    assert bench.sink.values() == {}
    assert [failure.what for failure in bench.reconciler.failures()] == ["waiting"]
    bench.feed(node("n1", zone="z"))
    assert bench.sink.values() == {"default/p1": "z"}
    assert bench.reconciler.failures() == []


def test_nothing_is_rendered_or_settled_before_what_it_reads_is_listed() -> None:
    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render_zone, each=PODS), listed=[])
    bench.feed(pod("p1"), node("n1", zone="a"))
    bench.reconciler.listed(PODS)
    bench.settle()
    assert bench.sink.wants == 0
    assert bench.sink.settled == 0
    bench.reconciler.listed(NODES)
    bench.settle()
    assert bench.sink.values() == {"default/p1": "a"}
    assert bench.sink.settled == 1


def apps(world: World, key: str) -> Iterable[str]:
    found = world.get(PODS, key)
    assert found is not None
    if "bad" in found.labels:
        raise Reject("label bad is not allowed")
    return found.labels.values()


def test_keys_that_objects_ask_for() -> None:
    """A key is there as long as anybody asks for it, and a change looks at the changed object alone."""
    asked: list[str] = []

    def keys(world: World, key: str) -> Iterable[str]:
        asked.append(key)
        return apps(world, key)

    bench = EngineUnderTest(Renderer("app", Role.ZONE, lambda _, key: [mark(key, "")], each=KeysOf(PODS, keys)))
    bench.feed(*(pod(f"p{number}", app="x") for number in range(5)), pod("q", app="y", other="z"))
    assert set(bench.sink.values()) == {"x", "y", "z"}
    asked.clear()
    bench.feed(pod("q", app="x", other="z"), pod("r", app="y"))
    assert asked == ["default/q", "default/r"]
    assert set(bench.sink.values()) == {"x", "y", "z"}
    for number in range(4):
        bench.drop(PODS, f"default/p{number}")
    bench.drop(PODS, "default/q")
    assert set(bench.sink.values()) == {"x", "y"}
    bench.drop(PODS, "default/p4")
    bench.drop(PODS, "default/r")
    assert bench.sink.values() == {}
    assert bench.renders("app") == 4, "y was gone in between"


def test_an_object_whose_keys_are_unknown_stops_no_other() -> None:
    bench = EngineUnderTest(
        Renderer("app", Role.ZONE, lambda _, key: [mark(key, "")], each=KeysOf(PODS, apps)), listed=[]
    )
    bench.feed(pod("p1", app="x"), pod("p2", bad="y"))
    assert (bench.sink.settled, bench.sink.values()) == (0, {})
    bench.reconciler.listed(PODS)
    bench.settle()
    assert bench.sink.values() == {"x": ""}
    assert (bench.sink.settled, bench.sink.kept) == (1, {"test/app"})
    assert [event[:2] for event in bench.events] == [("default/p2", "InvalidObject")]
    bench.feed(pod("p2", app="y"))
    assert (bench.sink.kept, set(bench.sink.values())) == (set(), {"x", "y"})
    bench.feed(pod("p2", bad="y"))
    assert set(bench.sink.values()) == {"x", "y"}, "its last keys stay"


def test_keys_that_cannot_be_listed_follow_the_rules_of_renders() -> None:
    """Back-off for a fault, none for a rejected object, the named time for Retry; one timer whatever changes."""
    runs: list[str] = []
    errors = {"bug": ValueError("boom"), "reject": Reject("bad label"), "retry": Retry("not yet", after=30.0)}

    def keys(world: World, key: str) -> Iterable[str]:
        found = world.get(PODS, key)
        assert found is not None
        runs.append(found.name)
        raise errors[found.name]

    bench = EngineUnderTest(Renderer("app", Role.ZONE, lambda _, key: [mark(key, "")], each=KeysOf(PODS, keys)))
    for number in range(10):
        bench.feed(*(pod(name, app=str(number)) for name in errors))
    assert {name: runs.count(name) for name in errors} == {"bug": 10, "reject": 10, "retry": 10}
    runs.clear()
    for _ in range(120):
        bench.sleep(1.0)
    assert runs.count("bug") <= 3, "the tenth failure waits for a minute"
    assert runs.count("bug") >= 1
    assert runs.count("reject") == 0, "only a change can mend it"
    assert runs.count("retry") in (3, 4), "every 30 seconds, by one timer"


def test_keys_that_only_fail_quarantine_the_plugin() -> None:
    runs: list[str] = []

    def keys(_world: World, key: str) -> Iterable[str]:
        runs.append(key)
        raise ValueError("boom")

    bench = EngineUnderTest(Renderer("app", Role.ZONE, lambda _, key: [mark(key, "")], each=KeysOf(PODS, keys)))
    bench.feed(*(pod(f"p{number}") for number in range(25)))
    assert len(runs) == failures.QUARANTINE_AFTER
    assert list(bench.reconciler.quarantined()) == ["test"]
    for _ in range(int(failures.QUARANTINE_FOR) - 1):
        bench.sleep(1.0)
    assert len(runs) == failures.QUARANTINE_AFTER
    bench.sleep(2.0)
    assert len(runs) > failures.QUARANTINE_AFTER


def test_leftovers_of_objects_that_never_rendered_stay_until_they_do_or_go() -> None:
    def render(world: World, key: str) -> Iterable[Any]:
        found = world.get(PODS, key)
        assert found is not None
        if "bad" in found.labels:
            raise Reject("label bad is not allowed")
        yield mark(key, "")

    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render, each=PODS), listed=[])
    bench.reconciler.leftovers.keep({"broken"})
    for view in (pod("p1", bad="1"), pod("p2", bad="1"), pod("p3")):
        bench.reconciler.observe(PODS, [(view.key, view)])
    bench.reconciler.listed(PODS)
    bench.settle()
    both = {"test/pod/default/p1", "test/pod/default/p2"}
    assert (bench.sink.settled, bench.sink.kept) == (1, {"broken"} | both)
    bench.feed(pod("p1"))
    assert bench.sink.kept == {"broken", "test/pod/default/p2"}
    bench.feed(pod("p1", bad="1"))
    assert bench.sink.kept == {"broken", "test/pod/default/p2"}, "its items of now are known"
    bench.drop(PODS, "default/p2")
    assert bench.sink.kept == {"broken"}


def test_a_deleted_object_takes_its_items_along() -> None:
    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render_zone, each=PODS))
    bench.feed(node("n1"), pod("p1"), pod("p2"))
    bench.drop(PODS, "default/p1")
    assert set(bench.sink.values()) == {"default/p2"}


def test_a_failing_object_keeps_its_last_items_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "FIRST_RETRY", 0.01)

    def render(world: World, key: str) -> Iterable[Any]:
        found = world.get(PODS, key)
        assert found is not None
        if "bad" in found.labels:
            raise Reject("label bad is not allowed")
        if "bug" in found.labels:
            raise ZeroDivisionError("oops")
        yield mark(key, found.labels.get("value", ""))

    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render, each=PODS))
    bench.feed(pod("p1", value="1"), pod("p2", value="2"), pod("p3", value="3"))
    bench.feed(pod("p1", value="x", bad="1"), pod("p2", value="y", bug="1"), pod("p3", value="4"))
    assert bench.sink.values() == {"default/p1": "1", "default/p2": "2", "default/p3": "4"}
    assert ("default/p1", "InvalidObject", "label bad is not allowed") in bench.events
    assert ("default/p2", "ErrorReconcilingPod", "plugin test: ZeroDivisionError: oops") in bench.events
    events = len(bench.events)
    assert bench.inbox.run_until(lambda: bench.renders() > 7, 5)
    assert len(bench.events) == events, "an Event is told once, not at each retry"
    bench.feed(pod("p1", value="5"), pod("p2", value="6"))
    assert bench.sink.values() == {"default/p1": "5", "default/p2": "6", "default/p3": "4"}
    assert bench.reconciler.failures() == []


def test_a_plugin_that_only_fails_is_quarantined_and_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "QUARANTINE_FOR", 0.05)
    broken = True

    def render(world: World, key: str) -> Iterable[Any]:
        world.get(PODS, key)
        if broken:
            raise RuntimeError("broken plugin")
        yield mark(key, "well")

    bench = EngineUnderTest(
        Renderer("pod", Role.ZONE, render, each=PODS),
    )
    bench.reconciler.add_plugin("good", [Renderer("pod", Role.ZONE, render_good, each=NODES)])
    bench.reconciler.activate([Role.ZONE])
    bench.feed(*(pod(f"p{i}") for i in range(failures.QUARANTINE_AFTER + 5)))
    assert list(bench.reconciler.quarantined()) == ["test"]
    bench.feed(node("n1"))
    assert bench.sink.values() == {"n1": "good"}
    broken = False
    assert bench.inbox.run_until(lambda: len(bench.sink.values()) == failures.QUARANTINE_AFTER + 6, 5)
    assert bench.reconciler.quarantined() == {}


def render_good(world: World, key: str) -> Iterable[Any]:
    yield mark(key, "good")


def test_keys_from_a_function_follow_the_world() -> None:
    def zones(world: World) -> Iterable[str]:
        return {found.annotations.get("zone", "") for found in world.list(NODES)}

    bench = EngineUnderTest(Renderer("zone", Role.ZONE, lambda _world, key: [mark(key, "zone")], each=zones))
    bench.feed(node("n1", zone="a"), node("n2", zone="b"))
    assert set(bench.sink.values()) == {"a", "b"}
    bench.feed(node("n2", zone="a"))
    assert set(bench.sink.values()) == {"a"}


NUMBERS: Pool[int] = Pool(
    "numbers",
    "number",
    candidates=lambda _world, _scope: range(2, 6),
    taken=lambda world, _scope: {
        found.key: [int(found.annotations["mark"])] for found in world.list(PODS) if "mark" in found.annotations
    },
)


def render_number(world: World, key: str) -> Iterable[Any]:
    found = world.get(PODS, key)
    assert found is not None
    if found.completed:
        return
    wanted = found.annotations.get("mark")
    yield mark(key, str(world.allocate(NUMBERS, "", key, int(wanted) if wanted else None)))


def test_a_pool_hands_out_once_reports_exhaustion_and_serves_who_waits() -> None:
    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render_number, each=PODS))
    bench.feed(*(pod(f"p{i}") for i in range(6)))
    values = bench.sink.values()
    assert sorted(values.values()) == ["2", "3", "4", "5"]
    assert [event[1:] for event in bench.events] == [("Exhausted", "no number left")] * 2
    waiting = {f"default/p{i}" for i in range(6)} - set(values)
    before = bench.renders()
    bench.drop(PODS, "default/p0")
    assert bench.renders() == before + 1, "one freed number wakes one of those that wait"
    assert len(bench.sink.values()) == 4
    assert len(waiting & set(bench.sink.values())) == 1
    bench.feed(evolve(pod("p1"), completed=True))
    assert waiting <= set(bench.sink.values())


def test_what_objects_hold_is_never_handed_to_another() -> None:
    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render_number, each=PODS), listed=[])
    holder = evolve(pod("old"), annotations={"mark": "2"})
    bench.feed(pod("new"), holder)
    bench.reconciler.listed(PODS)
    bench.settle()
    assert bench.sink.values() == {"default/old": "2", "default/new": "3"}
    bench.feed(evolve(pod("thief"), annotations={"mark": "2"}))
    assert ("default/thief", "AlreadyInUse", "number 2 is in use by default/old") in bench.events
    bench.feed(evolve(pod("odd"), annotations={"mark": "77"}))
    assert ("default/odd", "OutsideOfPool", "number 77 can't be used") in bench.events
    bench.drop(PODS, "default/old")
    assert bench.sink.values()["default/thief"] == "2", "correcting the world heals without a restart"


def test_two_derived_functions_that_need_each_other_are_a_bug_not_a_hang() -> None:
    @derived
    def chicken(world: World) -> str:
        return egg(world)

    @derived
    def egg(world: World) -> str:
        return chicken(world)

    bench = EngineUnderTest(Renderer("pod", Role.ZONE, lambda world, key: [mark(key, chicken(world))], each=PODS))
    bench.feed(pod("p1"))
    assert "depends on itself" in bench.events[0][2]


def test_a_render_that_waits_for_a_moment_runs_when_it_comes() -> None:
    moments = {"default/soon": NEW_YEAR + timedelta(seconds=30), "default/later": NEW_YEAR + timedelta(hours=1)}

    def render(world: World, key: str) -> Iterable[Any]:
        yield mark(key, str(world.passed(moments.get(key, NEW_YEAR))))

    bench = EngineUnderTest(Renderer("pod", Role.ZONE, render, each=PODS))
    bench.feed(pod("soon"), pod("later"), pod("over"))
    assert bench.sink.values() == {"default/soon": "False", "default/later": "False", "default/over": "True"}
    renders = bench.renders()
    bench.sleep(29)
    assert bench.renders() == renders, "nothing has come yet"
    bench.sleep(1)
    assert bench.renders() == renders + 1, "one moment has come, and concerns one"
    assert bench.sink.values() == {"default/soon": "True", "default/later": "False", "default/over": "True"}
    bench.drop(PODS, "default/later")
    bench.sleep(7200)
    assert bench.renders() == renders + 1, "those who are gone wait for nothing"


def test_a_moment_that_is_centuries_away_stops_nothing() -> None:
    """An object may name it, and no queue can wait that long."""
    inbox = Inbox()
    ran: list[str] = []
    inbox.post_later(3e11, lambda: ran.append("never"))
    stop = threading.Event()
    thread = threading.Thread(target=inbox.run, args=(stop,))
    thread.start()
    time.sleep(0.05)
    inbox.post(lambda: ran.append("still here"))
    inbox.post(stop.set)
    thread.join(20)
    assert not thread.is_alive()
    assert ran == ["still here"]


def test_a_derived_value_may_wait_for_a_moment() -> None:
    @derived
    def over(world: World) -> bool:
        return world.passed(NEW_YEAR + timedelta(seconds=5))

    bench = EngineUnderTest(
        Renderer("pod", Role.ZONE, lambda world, key: [mark(key, str(over(world)))], each=PODS)
    )
    bench.feed(pod("p1"))
    assert bench.sink.values() == {"default/p1": "False"}
    bench.sleep(5)
    assert bench.sink.values() == {"default/p1": "True"}


def test_what_a_sink_refuses_counts_until_it_says_that_it_is_over() -> None:
    """Also when it refuses in the moment in which it hears of it."""

    def items(world: World, key: str) -> Iterable[Annotation]:
        yield Annotation(PODS, key, "on", str(world.get(PODS, key)))

    bench = EngineUnderTest(Renderer("pod", Role.ZONE, items, each=PODS))
    owner = Owner("test", "pod", "default/p1")
    bench.sink.told = lambda owner: bench.reconciler.report(owner, ValueError("too long"))
    bench.feed(pod("p1", node="n2"))
    (failure,) = bench.reconciler.failures()
    assert (failure.owner, failure.what, failure.message) == (owner, "refused", "too long")
    assert bench.events[-1] == ("default/p1", "ErrorApplying", "plugin test: too long")
    bench.reconciler.report(owner, ValueError("too long"))
    assert [again.since for again in bench.reconciler.failures()] == [failure.since]
    bench.reconciler.report(owner, None)
    assert bench.reconciler.failures() == []


class FussySink(MemorySink):
    """Takes annotations of namespaces, raises for one of them, and once when it is to apply."""

    item_types: tuple[type, ...] = (Label,)
    fails = 1

    def want(self, owner: Owner, items: Sequence[Any]) -> None:
        if any(item.value == "bad" for item in items):
            raise ValueError("bad is no value")
        super().want(owner, items)

    def flush(self) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("flush")


def test_a_sink_that_raises_stops_neither_others_nor_the_reconciler() -> None:
    def both(world: World, key: str) -> Iterable[Any]:
        found = world.get(NAMESPACES, key)
        assert found is not None
        yield Label(NAMESPACES, key, "x", found.labels["x"])
        yield Annotation(NAMESPACES, key, "x", found.labels["x"])

    bench = EngineUnderTest(Renderer("both", Role.ZONE, both, each=NAMESPACES))
    fussy = FussySink()
    bench.reconciler.add_sink(fussy)
    bench.feed(namespace("a", x="good"), namespace("b", x="bad"), namespace("c", x="good"))
    assert bench.sink.values() == {"a": "good", "b": "bad", "c": "good"}
    assert fussy.values() == {"a": "good", "c": "good"}
    assert bench.events == [("b", "ErrorReconcilingNamespace", "plugin test: ValueError: bad is no value")]
    bench.feed(namespace("b", x="right"), namespace("c", x="bad"))
    assert fussy.values() == {"a": "good", "b": "right", "c": "good"}, "what it wanted before stays"
    bench.reconciler.observe(NAMESPACES, [("c", None)])
    bench.settle()
    assert fussy.values() == {"a": "good", "b": "right"}
