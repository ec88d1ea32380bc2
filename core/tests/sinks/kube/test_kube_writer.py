"""The Kubernetes sink against a real watch and a server that refuses on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from ovnkit.api.items import NOW, Annotation, Condition, Event, Finalizer, Label, Status
from ovnkit.api.kinds import Kind, Raw, Resource, Table
from ovnkit.api.models import NODES, PODS, ObjectView, metadata
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.sink import Owner
from ovnkit.engine.store import Store
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.watch import Watcher
from ovnkit.sinks.kube.work import Workers
from ovnkit.sinks.kube.writer import KubeSink

PATH = "/api/v1/pods"
NODE_PATH = "/api/v1/nodes"
A, B = Owner("p", "a", "k"), Owner("p", "b", "k")


def view_thing(raw: Raw) -> ObjectView:
    return ObjectView(**metadata(raw))


THINGS: Kind[ObjectView] = Kind("things", Resource("example.org/v1", "things", "Thing"), view_thing)
THING_PATH = "/apis/example.org/v1/things"


class Reconciler:
    """The part of the kernel the sink talks to: store, inbox, watchers."""

    def __init__(self, client: Client, inbox: Inbox, store: Store, **options: Any) -> None:
        self.inbox, self.store, self.client = inbox, store, client
        self.reports: list[tuple[Owner, Exception | None]] = []
        self.watchers: list[Watcher] = []
        self.render: Callable[[], None] = lambda: None
        self.sink = KubeSink(
            client,
            observed=store.get,
            post=inbox.post,
            post_later=inbox.post_later,
            report=lambda owner, error: self.reports.append((owner, error)),
            **options,
        )

    def watch(self, *kinds: Kind[Any]) -> None:
        for kind in kinds:
            watcher = Watcher(
                self.client,
                kind,
                post=self.inbox.post,
                on_event=self._on_event,
                on_listed=self.store.mark_listed,
                tap=self.sink.tap,
                retry_seconds=(0.01, 0.2),
            )
            watcher.start()
            self.watchers.append(watcher)
        self.until(lambda: all(self.store.is_listed(kind) for kind in kinds))
        self.until(lambda: all(watcher.state == "watching" for watcher in self.watchers))

    def _on_event(self, kind: Kind[Any], changes: Any) -> None:
        for key, view in changes:
            if self.store.put(kind, key, view) is not None:
                self.sink.observed_changed(kind, key)
        self.render()
        self.sink.flush()

    def want(self, owner: Owner, *items: Any) -> None:
        self.sink.want(owner, items)
        self.sink.flush()

    def until(self, condition: Callable[[], Any], timeout: float = 10.0) -> None:
        assert self.inbox.run_until(lambda: bool(condition()), timeout), self.sink.status()

    def settle(self) -> None:
        """Work until nothing is left to write, and the watch has brought what was written."""
        self.until(lambda: self.sink.idle)
        self.inbox.run_until(lambda: False, 0.1)
        self.until(lambda: self.sink.idle)

    def stop(self) -> None:
        for watcher in self.watchers:
            watcher.stop()
        self.sink.stop()


@pytest.fixture
def kernel(api: Any, client: Client, inbox: Inbox, store: Store) -> Iterator[Reconciler]:
    for path in (PATH, NODE_PATH, THING_PATH, "/api/v1/events"):
        api.collection(path)
    kernel = Reconciler(client, inbox, store)
    yield kernel
    kernel.stop()


def restart(kernel: Reconciler, *kinds: Kind[Any], **options: Any) -> Reconciler:
    """A second process on the same server."""
    kernel.stop()
    again = Reconciler(kernel.client, Inbox(), Store(), **options)
    again.watch(*kinds)
    return again


def meta(api: Any, path: str, key: str) -> dict[str, Any]:
    found: dict[str, Any] = api.objects[path][key]["metadata"]
    return found


def test_items_of_one_object_become_one_patch_of_what_differs(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p", metadata={"annotations": {"kept": "x", "same": "1", "bad": "z"}})
    kernel.watch(PODS)
    kernel.want(
        A,
        Annotation(PODS, "a/p", "same", "1"),
        Annotation(PODS, "a/p", "new", "2"),
        Annotation(PODS, "a/p", "bad", None),
        Label(PODS, "a/p", "l", "3"),
    )
    kernel.settle()
    (patch,) = api.written()
    patch.body["metadata"].pop("uid")
    assert patch.body == {"metadata": {"annotations": {"new": "2", "bad": None}, "labels": {"l": "3"}}}
    assert patch.headers["Content-Type"] == "application/merge-patch+json"
    assert patch.query == {"fieldManager": "ovnkit"}
    assert patch.path == "/api/v1/namespaces/a/pods/p/status", "who may do this can't touch the spec"
    assert meta(api, PATH, "a/p")["annotations"] == {"kept": "x", "same": "1", "new": "2"}
    kernel.want(A, Annotation(PODS, "a/p", "same", "1"), Annotation(PODS, "a/p", "new", "2"))
    kernel.settle()
    assert len(api.written()) == 2, "only the label goes"
    assert "l" not in meta(api, PATH, "a/p")["labels"]


def test_a_restart_with_nothing_changed_writes_nothing(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    api.put(THING_PATH, "a", "t")
    items = (
        Annotation(PODS, "a/p", "x", "1"),
        Finalizer(PODS, "a/p", "ovnkit.io/f"),
        Status(THINGS, "a/t", {"state": "ok", "nested": {"n1": [1, 2], "n2": {}}}),
        Condition(THINGS, "a/t", "Ready", True, "Fine", "all is well"),
        Event(PODS, "a/p", "Odd", "look at this"),
    )
    kernel.watch(PODS, THINGS)
    kernel.want(A, *items)
    kernel.settle()
    kernel.until(lambda: kernel.sink.events.counters.written == 1)
    api.requests.clear()
    again = restart(kernel, PODS, THINGS, status_kinds=(THINGS,))
    again.want(A, *items)
    again.settle()
    again.stop()
    assert [r for r in api.requests if r.method != "GET"] == []
    assert [r for r in api.requests if r.path.endswith("/things/t")] == [], "known from the list, not read"


def test_edits_from_outside_are_put_right(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    api.put(THING_PATH, "a", "t")
    kernel.watch(PODS, THINGS)
    kernel.want(A, Annotation(PODS, "a/p", "x", "1"), Condition(THINGS, "a/t", "Ready", True, "R", "M"))
    kernel.settle()
    api.edit(PATH, "a/p", {"metadata": {"annotations": {"x": "evil", "theirs": "1"}}})
    api.edit(THING_PATH, "a/t", {"status": {"conditions": [{"type": "Other", "status": "True"}]}})
    kernel.until(lambda: meta(api, PATH, "a/p")["annotations"] == {"x": "1", "theirs": "1"})
    kernel.until(
        lambda: [c["type"] for c in api.objects[THING_PATH]["a/t"]["status"]["conditions"]] == ["Other", "Ready"]
    )


def test_a_vanished_owner_takes_only_what_is_still_its_own(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    api.put(PATH, "a", "gone")
    kernel.watch(PODS)
    kernel.want(
        A,
        Annotation(PODS, "a/p", "ours", "1"),
        Label(PODS, "a/p", "l", "1"),
        Finalizer(PODS, "a/p", "ovnkit.io/f"),
        Annotation(PODS, "a/gone", "x", "1"),
    )
    kernel.want(B, Annotation(PODS, "a/p", "shared", "1"), Finalizer(PODS, "a/p", "ovnkit.io/g"))
    kernel.settle()
    assert sorted(meta(api, PATH, "a/p")["finalizers"]) == ["ovnkit.io/f", "ovnkit.io/g"]
    api.delete(PATH, "a/gone")
    kernel.inbox.run_until(lambda: kernel.store.get(PODS, "a/gone") is None, 5.0)
    kernel.sink.want(A, ())
    kernel.sink.flush()
    kernel.settle()
    left = meta(api, PATH, "a/p")
    assert left["annotations"] == {"shared": "1"}
    assert left.get("labels", {}) == {}
    assert left["finalizers"] == ["ovnkit.io/g"]
    assert kernel.reports == []


def test_a_value_somebody_else_changed_is_left_when_its_owner_goes(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    kernel.watch(PODS)
    kernel.want(A, Annotation(PODS, "a/p", "x", "1"))
    kernel.settle()
    api.fail(422, method="PATCH", times=1000)  # keeps the sink from putting it right
    api.edit(PATH, "a/p", {"metadata": {"annotations": {"x": "theirs"}}})
    kernel.until(lambda: kernel.reports)
    api.faults.clear()
    kernel.want(A)
    kernel.settle()
    assert meta(api, PATH, "a/p")["annotations"] == {"x": "theirs"}


def test_finalizers_of_others_survive_a_conflict(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    kernel.watch(PODS)
    # between our reading and our writing, somebody else adds one
    api.fail(
        -1,
        method="PATCH",
        before=lambda: api.edit(PATH, "a/p", {"metadata": {"finalizers": ["example.org/theirs"]}}),
    )
    kernel.want(A, Finalizer(PODS, "a/p", "ovnkit.io/f"))
    kernel.settle()
    assert meta(api, PATH, "a/p")["finalizers"] == ["example.org/theirs", "ovnkit.io/f"]
    assert kernel.sink.status()["conflicts"] == 1


def test_no_finalizer_is_added_to_an_object_that_is_going(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p", metadata={"deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["other"]})
    kernel.watch(PODS)
    kernel.want(A, Finalizer(PODS, "a/p", "ovnkit.io/f"), Annotation(PODS, "a/p", "x", "1"))
    kernel.settle()
    assert meta(api, PATH, "a/p")["finalizers"] == ["other"]
    assert meta(api, PATH, "a/p")["annotations"] == {"x": "1"}


def test_conditions_are_merged_and_keep_their_transition_time(api: Any, kernel: Reconciler) -> None:
    theirs = {"type": "Theirs", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    old = {"type": "Ready", "status": "True", "reason": "Old", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    api.put(THING_PATH, "a", "t", status={"conditions": [theirs, old], "foreign": 1})
    kernel.watch(THINGS)
    kernel.want(A, Condition(THINGS, "a/t", "Ready", True, "New", "same status"))
    kernel.settle()
    status = api.objects[THING_PATH]["a/t"]["status"]
    assert status["foreign"] == 1
    assert status["conditions"] == [theirs, {**old, "reason": "New", "message": "same status"}]
    kernel.want(A, Condition(THINGS, "a/t", "Ready", False, "Bad", "broken"))
    kernel.settle()
    changed = api.objects[THING_PATH]["a/t"]["status"]["conditions"][1]
    assert changed["status"] == "False"
    assert changed["lastTransitionTime"] > "2024"
    kernel.want(A)
    kernel.settle()
    assert api.objects[THING_PATH]["a/t"]["status"]["conditions"] == [theirs]


def test_a_condition_survives_a_conflict(api: Any, kernel: Reconciler) -> None:
    api.put(THING_PATH, "a", "t")
    kernel.watch(THINGS)
    theirs = {"type": "Theirs", "status": "True"}
    api.fail(-1, method="PATCH", before=lambda: api.edit(THING_PATH, "a/t", {"status": {"conditions": [theirs]}}))
    kernel.want(A, Condition(THINGS, "a/t", "Ready", True, "R", "M"))
    kernel.settle()
    conditions = api.objects[THING_PATH]["a/t"]["status"]["conditions"]
    assert [condition["type"] for condition in conditions] == ["Theirs", "Ready"]


def test_endless_conflict_is_reported_and_tried_again(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    kernel.watch(PODS)
    api.fail(409, method="PATCH", times=6, message="again and again")
    kernel.want(A, Annotation(PODS, "a/p", "x", "1"))
    kernel.until(lambda: kernel.reports)
    assert len(api.written()) == 5, "limited"
    assert kernel.reports[0][0] == A
    assert "again and again" in str(kernel.reports[0][1])
    assert not kernel.sink.idle
    kernel.settle()
    assert meta(api, PATH, "a/p")["annotations"] == {"x": "1"}


def test_several_owners_share_a_status_by_its_leaves(api: Any, kernel: Reconciler) -> None:
    api.put(THING_PATH, "a", "t", status={"zones": {"z0": "theirs"}})
    kernel.watch(THINGS)
    kernel.want(A, Status(THINGS, "a/t", {"zones": {"z1": "ok"}, "state": "up"}))
    kernel.want(B, Status(THINGS, "a/t", {"zones": {"z2": "bad"}}))
    kernel.settle()
    assert api.objects[THING_PATH]["a/t"]["status"] == {
        "zones": {"z0": "theirs", "z1": "ok", "z2": "bad"},
        "state": "up",
    }
    kernel.want(A)
    kernel.settle()
    assert api.objects[THING_PATH]["a/t"]["status"] == {"zones": {"z0": "theirs", "z2": "bad"}}


def test_metadata_and_status_of_one_object_need_two_patches_and_no_read(api: Any, kernel: Reconciler) -> None:
    api.put(THING_PATH, "a", "t")
    kernel.watch(THINGS)
    kernel.want(A, Label(THINGS, "a/t", "l", "1"), Condition(THINGS, "a/t", "Ready", True, "R", "M"))
    kernel.settle()
    about = [r for r in api.requests if r.path.endswith("/things/t") or r.path.endswith("/t/status")]
    assert [(r.method, r.path.endswith("/status")) for r in about] == [("PATCH", False), ("PATCH", True)]


def test_a_crd_without_status_subresource(api: Any, kernel: Reconciler) -> None:
    api.without_status.add(THING_PATH)
    api.put(THING_PATH, "a", "t1")
    api.put(THING_PATH, "a", "t2")
    kernel.watch(THINGS)
    kernel.want(A, Status(THINGS, "a/t1", {"state": "ok"}))
    kernel.settle()
    assert api.objects[THING_PATH]["a/t1"]["status"] == {"state": "ok"}
    kernel.want(B, Status(THINGS, "a/t2", {"state": "ok"}))
    kernel.settle()
    assert api.objects[THING_PATH]["a/t2"]["status"] == {"state": "ok"}
    assert len(api.written(path="/status")) == 1, "learnt once"


def test_the_servers_pause_holds_all_writers(api: Any, kernel: Reconciler) -> None:
    for number in range(40):
        api.put(PATH, "a", f"p{number}")
    kernel.watch(PODS)
    busy_until = time.monotonic() + 0.9
    api.fail(
        429,
        method="PATCH",
        headers={"Retry-After": "1"},
        times=100_000,
        when=lambda request: request.at < busy_until,
    )
    for number in range(40):
        kernel.sink.want(Owner("p", "r", str(number)), [Annotation(PODS, f"a/p{number}", "x", "1")])
    kernel.sink.flush()
    kernel.settle()
    assert all(raw["metadata"]["annotations"] == {"x": "1"} for raw in api.objects[PATH].values())
    assert len(api.written()) <= 40 + 32, "no writer asks again before the time is over"
    assert kernel.reports == []
    assert kernel.sink.status()["throttles"] >= 1


def test_nothing_is_written_twice_while_the_watch_lags(api: Any, kernel: Reconciler) -> None:
    api.put(THING_PATH, "a", "t")
    kernel.watch(THINGS)
    kernel.watchers[0].stop()
    first = (
        Annotation(THINGS, "a/t", "x", "1"),
        Finalizer(THINGS, "a/t", "e.org/f"),
        Condition(THINGS, "a/t", "Ready", True, "R", "M"),
    )
    kernel.want(A, *first)
    kernel.until(lambda: kernel.sink.idle)
    kernel.want(A, *first, Label(THINGS, "a/t", "l", "1"))
    kernel.until(lambda: kernel.sink.idle)
    patches = [request.body for request in api.written()]
    assert len(patches) == 3
    assert patches[2]["metadata"].keys() == {"uid", "labels"}


def test_an_outage_delays_writes_and_reports_nobody(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    kernel.watch(PODS)
    api.stop()
    kernel.want(A, Annotation(PODS, "a/p", "x", "1"))
    kernel.until(lambda: kernel.sink.status()["unavailable"])
    kernel.until(lambda: not kernel.sink.status()["connected"])
    assert not kernel.sink.idle
    api.start()
    kernel.settle()
    assert meta(api, PATH, "a/p")["annotations"] == {"x": "1"}
    assert kernel.sink.status()["connected"]
    assert kernel.reports == []


def test_one_refused_field_stops_neither_its_neighbours_nor_the_status(api: Any, kernel: Reconciler) -> None:
    api.put(THING_PATH, "a", "t")
    kernel.watch(THINGS)

    api.fail(
        422,
        method="PATCH",
        times=1000,
        when=lambda request: "bad" in request.body.get("metadata", {}).get("labels", {}),
    )
    kernel.want(
        A,
        Label(THINGS, "a/t", "good", "1"),
        Annotation(THINGS, "a/t", "x", "1"),
        Condition(THINGS, "a/t", "Ready", True, "R", "M"),
    )
    kernel.want(B, Label(THINGS, "a/t", "bad", "::"))
    kernel.until(lambda: kernel.reports)
    raw = api.objects[THING_PATH]["a/t"]
    assert raw["metadata"]["labels"] == {"good": "1"}
    assert raw["metadata"]["annotations"] == {"x": "1"}
    assert raw["status"]["conditions"][0]["type"] == "Ready"
    assert [owner for owner, _ in kernel.reports] == [B]
    kernel.want(B, Label(THINGS, "a/t", "fine", "2"))
    kernel.settle()
    assert meta(api, THING_PATH, "a/t")["labels"] == {"good": "1", "fine": "2"}


def test_one_refused_field_of_the_status_does_not_hold_back_the_others(api: Any, kernel: Reconciler) -> None:
    api.put(THING_PATH, "a", "t")
    kernel.watch(THINGS)

    def is_bad(request: Any) -> bool:
        status = request.body.get("status", {})
        return "bad" in status or any(item["type"] == "Bad" for item in status.get("conditions", ()))

    api.fail(422, method="PATCH", times=1000, when=is_bad)
    kernel.want(
        A,
        Status(THINGS, "a/t", {"good": 1, "fine": {"x": 2}}),
        Condition(THINGS, "a/t", "Ready", True, "R", "M"),
    )
    kernel.want(B, Status(THINGS, "a/t", {"bad": 3}), Condition(THINGS, "a/t", "Bad", True, "R", "M"))
    kernel.until(lambda: len(kernel.reports) == 2)
    status = api.objects[THING_PATH]["a/t"]["status"]
    assert {key: value for key, value in status.items() if key != "conditions"} == {"good": 1, "fine": {"x": 2}}
    assert [item["type"] for item in status["conditions"]] == ["Ready"]
    assert {owner for owner, _ in kernel.reports} == {B}
    kernel.want(B, Status(THINGS, "a/t", {"better": 3}))
    kernel.settle()
    assert api.objects[THING_PATH]["a/t"]["status"]["better"] == 3


def test_a_failure_over_one_object_delays_no_other(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "bad")
    for number in range(20):
        api.put(PATH, "a", f"p{number}")
    kernel.watch(PODS)
    fault = api.fail(500, method="PATCH", path="/bad", times=3, message="failed calling webhook")
    kernel.want(A, Annotation(PODS, "a/bad", "x", "1"))
    kernel.until(lambda: fault.times < 3)
    for number in range(20):
        kernel.want(Owner("p", "r", str(number)), Annotation(PODS, f"a/p{number}", "x", "1"))
    kernel.until(lambda: all("annotations" in meta(api, PATH, f"a/p{number}") for number in range(20)))
    assert fault.times > 0, "while the bad one is still held back"
    assert kernel.sink.status()["held_back"] == 1
    kernel.settle()
    assert meta(api, PATH, "a/bad")["annotations"] == {"x": "1"}
    assert kernel.reports == [], "it went over by itself"


def test_an_item_that_makes_no_sense_is_its_owners_trouble_alone(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    kernel.watch(PODS)
    rows: Kind[Any] = Kind("rows", Table("nb", "ACL", ()), view_thing)
    kernel.want(A, Annotation(rows, "x", "x", "1"), Status(PODS, "a/p", {"x": object()}))
    kernel.want(B, Annotation(PODS, "a/p", "x", "1"))
    kernel.settle()
    assert meta(api, PATH, "a/p")["annotations"] == {"x": "1"}
    assert [owner for owner, _ in kernel.reports] == [A, A]


def test_an_object_that_is_gone_is_dropped_quietly(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p")
    kernel.watch(PODS)
    api.fail(0, path=PATH, times=1000)  # the watch doesn't come back: we don't learn of the deletion
    api.cut()
    api.delete(PATH, "a/p")
    kernel.until(lambda: kernel.watchers[0].state == "retrying")
    api.faults[0] = api.faults[0].__class__(0, method="GET", path=PATH, times=1000)
    kernel.want(A, Annotation(PODS, "a/p", "x", "1"))
    kernel.until(lambda: kernel.sink.idle)
    assert len(api.written()) == 1
    assert kernel.reports == []
    api.faults.clear()
    kernel.until(lambda: kernel.store.get(PODS, "a/p") is None)
    api.put(PATH, "a", "p")
    kernel.until(lambda: meta(api, PATH, "a/p").get("annotations") == {"x": "1"})


def test_another_object_of_the_name_doesnt_get_what_was_meant_for_the_old_one(
    api: Any, kernel: Reconciler
) -> None:
    api.put(PATH, "a", "p")
    kernel.watch(PODS)

    def replace() -> None:
        api.delete(PATH, "a/p")
        api.put(PATH, "a", "p")

    def render() -> None:
        pod = kernel.store.get(PODS, "a/p")
        kernel.sink.want(A, [Annotation(PODS, "a/p", "uid", pod.uid)] if pod else [])

    api.fail(-1, method="PATCH", before=replace)
    kernel.render = render
    api.edit(PATH, "a/p", {"metadata": {"labels": {"x": "y"}}})
    kernel.until(lambda: "annotations" in meta(api, PATH, "a/p"))
    kernel.settle()
    uid = meta(api, PATH, "a/p")["uid"]
    values = [entry[3]["metadata"].get("annotations", {}).get("uid") for entry in api.history if entry[1] == PATH]
    assert values == [None, None, None, None, uid]
    assert kernel.reports == []


def test_contradicting_owners_are_told_and_the_outcome_does_not_depend_on_order(
    api: Any, kernel: Reconciler
) -> None:
    api.put(PATH, "a", "p1")
    api.put(PATH, "a", "p2")
    kernel.watch(PODS)
    for key, owners in (("a/p1", (A, B)), ("a/p2", (B, A))):
        for owner in owners:
            kernel.want(Owner(owner.plugin, owner.renderer, key), Annotation(PODS, key, "x", owner.renderer))
    kernel.settle()
    assert meta(api, PATH, "a/p1")["annotations"] == meta(api, PATH, "a/p2")["annotations"] == {"x": "a"}
    assert {(owner.renderer, owner.key) for owner, _ in kernel.reports} == {("b", "a/p1"), ("b", "a/p2")}
    kernel.want(Owner("p", "a", "a/p1"))
    kernel.settle()
    assert meta(api, PATH, "a/p1")["annotations"] == {"x": "b"}


def test_a_burst_of_changes_ends_in_the_last_one(api: Any, kernel: Reconciler) -> None:
    api.put(NODE_PATH, "", "n")
    kernel.watch(NODES)
    for number in range(200):
        kernel.want(A, Annotation(NODES, "n", "x", str(number)), Annotation(NODES, "n", f"y{number}", "1"))
    kernel.settle()
    assert meta(api, NODE_PATH, "n")["annotations"] == {"x": "199", "y199": "1"}
    assert len(api.written()) < 20, "changes coalesce while a patch is in flight"


def test_stop_finishes_what_is_queued(api: Any, kernel: Reconciler) -> None:
    for number in range(100):
        api.put(PATH, "a", f"p{number}")
    kernel.watch(PODS)
    for number in range(100):
        kernel.sink.want(Owner("p", "r", str(number)), [Annotation(PODS, f"a/p{number}", "x", "1")])
    kernel.sink.flush()
    kernel.sink.stop()
    assert len(api.written()) == 100


def test_a_stamp_is_written_once_and_then_stays(api: Any, kernel: Reconciler) -> None:
    api.put(PATH, "a", "p", metadata={"annotations": {"since": "2020-01-01T00:00:00Z"}})
    api.put(PATH, "a", "q")
    kernel.watch(PODS)
    items = [Annotation(PODS, key, "since", NOW) for key in ("a/p", "a/q")]
    kernel.want(A, *items)
    kernel.settle()
    assert meta(api, PATH, "a/p")["annotations"] == {"since": "2020-01-01T00:00:00Z"}
    stamped = meta(api, PATH, "a/q")["annotations"]["since"]
    assert datetime.fromisoformat(stamped).tzinfo is not None
    kernel.want(A, *items, Annotation(PODS, "a/q", "more", "1"))
    kernel.settle()
    assert meta(api, PATH, "a/q")["annotations"] == {"since": stamped, "more": "1"}
    kernel.want(A)
    kernel.settle()
    assert "since" not in meta(api, PATH, "a/q")["annotations"]


def test_workers_start_threads_only_for_what_would_wait() -> None:
    workers = Workers(8, "test-worker")
    names: list[str] = []
    ran = threading.Event()

    def task() -> None:
        names.append(threading.current_thread().name)
        ran.set()

    for _ in range(40):
        ran.clear()
        workers.put(task)
        assert ran.wait(30)
    assert len(set(names)) < 8  # one, but for a task that is put while the last one's thread is just finishing
    together = threading.Barrier(8)
    for _ in range(8):
        workers.put(lambda: names.append(str(together.wait(30))))
    workers.stop(30)
    assert sorted(names[40:]) == [str(number) for number in range(8)]
