"""List and watch against a server that misbehaves on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve, frozen

from ovnkit.api.errors import Reject
from ovnkit.api.kinds import Kind, Raw, Resource
from ovnkit.api.models import PODS, ObjectView, metadata
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.store import Store
from ovnkit.sinks.kube import watch
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.watch import Watcher

PATH = "/api/v1/pods"


@frozen
class Thing(ObjectView):
    """A custom resource."""

    size: int


def view_thing(raw: Raw) -> Thing:
    size = raw["spec"]["size"]
    if size < 0:
        raise Reject("size is negative")
    return Thing(**metadata(raw), size=size)


THINGS: Kind[Thing] = Kind("things", Resource("example.org/v1", "things", "Thing"), view_thing)


class World:
    """What a reconciler would see: views in a store, and a record of what came."""

    def __init__(self, client: Client, inbox: Inbox, store: Store) -> None:
        self.client, self.inbox, self.store = client, inbox, store
        self.changes: list[tuple[str, Any]] = []
        self.listed = 0
        self.errors: list[tuple[str, Exception]] = []
        self.raws: list[tuple[str, Any]] = []
        self.watchers: list[Watcher] = []

    def watch(self, kind: Kind[Any] = PODS, **options: Any) -> Watcher:
        watcher = Watcher(
            self.client,
            kind,
            post=self.inbox.post,
            on_event=self._on_event,
            on_listed=self._on_listed,
            on_error=lambda kind, key, error: self.errors.append((key, error)),
            **{"retry_seconds": (0.01, 0.2), "tap": lambda kind, raws: self.raws.extend(raws), **options},
        )
        self.watchers.append(watcher)
        watcher.start()
        return watcher

    def _on_event(self, kind: Kind[Any], changes: Any) -> None:
        for key, view in changes:
            self.changes.append((key, view))
            self.store.put(kind, key, view)

    def _on_listed(self, kind: Kind[Any]) -> None:
        self.listed += 1

    def names(self, kind: Kind[Any] = PODS) -> set[str]:
        return set(self.store.select(kind, "", ""))

    def until(self, condition: Callable[[], Any]) -> None:
        assert self.inbox.run_until(lambda: bool(condition()), 10.0), (self.names(), self.changes[-5:])


@pytest.fixture
def world(api: Any, client: Client, inbox: Inbox, store: Store) -> Iterator[World]:
    api.collection(PATH)
    world = World(client, inbox, store)
    yield world
    for watcher in world.watchers:
        watcher.stop()
        assert watcher.state == "stopped"


def test_list_in_pages_then_changes_in_order(api: Any, world: World) -> None:
    for number in range(7):
        api.put(PATH, "a", f"p{number}")
    world.watch(page=3)
    world.until(lambda: world.listed)
    assert world.names() == {f"a/p{number}" for number in range(7)}
    assert len([r for r in api.requests if "limit" in r.query]) == 3
    api.put(PATH, "a", "new", spec={"nodeName": "n1"})
    api.delete(PATH, "a/p3")
    api.edit(PATH, "a/p4", {"metadata": {"labels": {"x": "y"}}})
    world.until(lambda: len(world.changes) == 10)
    assert [(key, view and view.key) for key, view in world.changes[7:]] == [
        ("a/new", "a/new"),
        ("a/p3", None),
        ("a/p4", "a/p4"),
    ]
    pod = world.store.get(PODS, "a/p4")
    assert pod is not None
    assert pod.labels == {"x": "y"}
    assert [key for key, _ in world.raws] == [key for key, _ in world.changes]


def test_a_cut_watch_resumes_where_it_was(api: Any, world: World, until: Any) -> None:
    api.put(PATH, "a", "p1")
    watcher = world.watch()
    until(lambda: watcher.state == "watching")
    api.put(PATH, "a", "p2")
    world.until(lambda: len(world.names()) == 2)
    api.cut()
    api.put(PATH, "a", "p3")
    world.until(lambda: "a/p3" in world.names())
    assert watcher.counters.lists == 1, "resuming needs no new list"
    assert len(world.changes) == 3, "and brings nothing twice"
    last = [r for r in api.requests if r.query.get("watch")][-1]
    assert last.query["allowWatchBookmarks"] == "true"
    assert 300 <= int(last.query["timeoutSeconds"]) <= 600


def test_a_watch_over_a_connection_that_is_given_up_resumes(api: Any, world: World, until: Any) -> None:
    api.put(PATH, "a", "p1")
    watcher = world.watch()
    until(lambda: watcher.state == "watching")
    world.client.renew()
    until(lambda: watcher.counters.watches == 2)
    api.put(PATH, "a", "p2")
    world.until(lambda: len(world.names()) == 2)
    assert watcher.counters.lists == 1
    assert world.client.get(PATH)["items"], "and requests go on"


def test_bookmarks_move_the_place_to_resume_at(api: Any, world: World, until: Any) -> None:
    api.put(PATH, "a", "p1")
    watcher = world.watch()
    until(lambda: watcher.state == "watching")
    for number in range(5):
        api.put("/api/v1/nodes", "", f"n{number}")
    api.bookmark(PATH)
    until(lambda: watcher.counters.bookmarks)
    api.compact()
    api.cut()
    api.put(PATH, "a", "p2")
    world.until(lambda: "a/p2" in world.names())
    assert watcher.counters.lists == 1
    assert watcher.counters.expired == 0


@pytest.mark.parametrize("as_event", [False, True], ids=["status 410", "ERROR event"])
def test_an_expired_watch_lists_again_and_brings_the_difference(
    api: Any, world: World, until: Any, as_event: bool
) -> None:
    api.gone_as_event = as_event
    for name in ("stays", "changes", "goes"):
        api.put(PATH, "a", name)
    watcher = world.watch()
    world.until(lambda: world.listed)
    until(lambda: watcher.state == "watching")
    api.stop()
    api.edit(PATH, "a/changes", {"metadata": {"labels": {"x": "y"}}})
    api.delete(PATH, "a/goes")
    api.put(PATH, "a", "comes")
    api.compact()
    api.start()
    world.until(lambda: world.listed == 2)
    assert watcher.counters.expired == 1
    assert world.names() == {"a/stays", "a/changes", "a/comes"}
    assert sorted(key for key, _ in world.changes[3:]) == ["a/changes", "a/comes", "a/goes"]


def test_a_page_that_expires_is_followed_by_a_whole_list(api: Any, world: World) -> None:
    for number in range(5):
        api.put(PATH, "a", f"p{number}")
    api.fail(-1, path=PATH)
    api.fail(410, path=PATH)
    world.watch(page=2)
    world.until(lambda: world.listed)
    assert len(world.names()) == 5
    assert len(world.changes) == 5
    assert "limit" not in [r for r in api.requests if not r.query.get("watch")][-1].query


def test_an_outage_is_survived(api: Any, world: World, until: Any) -> None:
    api.put(PATH, "a", "p1")
    watcher = world.watch()
    until(lambda: watcher.state == "watching")
    api.stop()
    until(lambda: "refused" in watcher.status()["last_error"])
    assert watcher.state == "retrying"
    time.sleep(0.3)  # several attempts go by
    attempts = watcher.counters.errors
    assert 2 <= attempts < 30, "waits grow"
    api.put(PATH, "a", "p2")
    api.start()
    world.until(lambda: "a/p2" in world.names())
    assert watcher.status() == {"state": "watching", "listed": True, "objects": 2, "last_error": ""}


def test_refusals_right_after_an_outage_are_soon_asked_about_again(api: Any, world: World, until: Any) -> None:
    api.put(PATH, "a", "p1")
    watcher = world.watch(retry_seconds=(0.05, 15.0))
    until(lambda: watcher.state == "watching")
    api.stop()
    until(lambda: watcher.counters.errors >= 5)
    api.put(PATH, "a", "p2")
    fault = api.fail(403, path=PATH, times=3)
    api.start()
    world.until(lambda: "a/p2" in world.names())
    assert fault.times == 0
    refused = [request.at for request in api.requests][-4:]
    assert refused[-1] - refused[0] < 1.0, "0.05, 0.1 and 0.2 s; 1.6, 3.2 and 6.4 if the outage counted"


def test_refusals_that_stay_are_asked_about_less_and_less(api: Any, world: World, until: Any) -> None:
    api.fail(403, path=PATH, times=100)
    watcher = world.watch(retry_seconds=(0.01, 15.0))
    until(lambda: watcher.counters.errors >= 7)
    times = [request.at for request in api.requests]
    assert times[-1] - times[-2] > 0.1, "ten times the first wait and more"


@pytest.mark.parametrize("optional", [True, False])
def test_only_a_resource_that_must_be_there_is_warned_about(
    world: World, until: Any, optional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    logger = SimpleNamespace(warning=lambda text, **_: said.append(text), debug=lambda *_, **__: None)
    monkeypatch.setattr(watch, "log", logger)
    kind = evolve(THINGS, source=evolve(THINGS.resource, optional=optional))
    watcher = world.watch(kind)
    until(lambda: watcher.state == "missing" and watcher.last_error)
    assert said == ([] if optional else ["watch interrupted"])


def test_retry_after_of_a_busy_server_is_kept(api: Any, world: World) -> None:
    api.fail(429, path=PATH, headers={"Retry-After": "1"})
    world.watch()
    world.until(lambda: world.listed)
    first, second = [r.at for r in api.requests if "limit" in r.query]
    assert second - first >= 1.0


def test_a_resource_that_does_not_exist_counts_as_empty_until_it_does(api: Any, world: World) -> None:
    watcher = world.watch(THINGS)
    world.until(lambda: world.listed)
    assert world.names(THINGS) == set()
    assert watcher.state == "missing"
    path = THINGS.resource.path
    api.put(path, "a", "t1", spec={"size": 1})
    world.until(lambda: world.names(THINGS) == {"a/t1"})
    del api.objects[path]
    api.cut()
    world.until(lambda: world.names(THINGS) == set())


def test_a_missing_resource_can_be_waited_for(api: Any, world: World, until: Any) -> None:
    watcher = world.watch(THINGS, missing_is_empty=False)
    until(lambda: watcher.state == "missing")
    assert not watcher.listed
    api.collection(THINGS.resource.path)
    world.until(lambda: world.listed)


def test_a_bad_object_keeps_its_last_good_view(api: Any, world: World) -> None:
    path = THINGS.resource.path
    api.put(path, "a", "good", spec={"size": 1})
    api.put(path, "a", "worse", spec={})
    watcher = world.watch(THINGS)
    world.until(lambda: world.listed)
    assert world.names(THINGS) == {"a/good"}
    assert [(key, type(error)) for key, error in world.errors] == [("a/worse", KeyError)]
    api.edit(path, "a/good", {"spec": {"size": -1}})
    world.until(lambda: len(world.errors) == 2)
    assert isinstance(world.errors[1][1], Reject)
    good = world.store.get(THINGS, "a/good")
    assert good is not None
    assert good.size == 1
    api.edit(path, "a/worse", {"spec": {"size": 5}})
    world.until(lambda: "a/worse" in world.names(THINGS))
    assert watcher.counters.view_errors == 2


def test_a_watch_narrowed_to_a_node(api: Any, client: Client, world: World) -> None:
    api.put(PATH, "a", "here", spec={"nodeName": "n1"})
    api.put(PATH, "a", "there", spec={"nodeName": "n2"})
    watcher = Watcher.on_node(
        client, PODS, "n1", post=world.inbox.post, on_event=world._on_event, on_listed=world._on_listed
    )
    world.watchers.append(watcher)
    watcher.start()
    world.until(lambda: world.listed)
    api.put(PATH, "a", "there2", spec={"nodeName": "n2"})
    api.put(PATH, "a", "here2", spec={"nodeName": "n1"})
    world.until(lambda: "a/here2" in world.names())
    assert world.names() == {"a/here", "a/here2"}


def test_ten_thousand_pods_are_read_in_a_second(api: Any, world: World) -> None:
    content = {
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready"}] * 4},
    }
    pods = {}
    for number in range(10_000):
        meta = {"namespace": "a", "name": f"p{number}", "uid": f"u{number}", "resourceVersion": "1"}
        pods[f"a/p{number}"] = {"metadata": {**meta, "labels": {"app": "x"}}, **content}
    api.objects[PATH] = pods
    watcher = world.watch()
    world.until(lambda: world.listed)
    assert len(world.names()) == 10_000
    assert watcher.counters.decode_seconds < 1.0
