"""Events: aggregation, flooding, restarts, failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ovnkit.api.kinds import Raw
from ovnkit.api.models import NODES, PODS, Pod
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.events import EventRecorder

PATH = "/api/v1/events"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def view(api: Any, namespace: str = "a", name: str = "p") -> Pod:
    raw: Raw = api.put("/api/v1/pods", namespace, name)
    return PODS.view({**raw, "metadata": {**raw["metadata"], "resourceVersion": "7"}})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(api: Any, client: Client, clock: Clock) -> Iterator[EventRecorder]:
    api.collection(PATH)
    recorder = EventRecorder(client, clock=clock)
    yield recorder
    recorder.stop()


def test_an_event_has_what_kubectl_describe_shows(api: Any, recorder: EventRecorder) -> None:
    pod = view(api)
    recorder.record(PODS, pod, "InvalidAnnotation", "no such address")
    recorder.stop()
    (event,) = api.objects[PATH].values()
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "a",
        "name": "p",
        "uid": pod.uid,
        "resourceVersion": "7",
    }
    assert event["metadata"]["namespace"] == "a"
    assert (event["type"], event["reason"], event["message"], event["count"]) == (
        "Warning",
        "InvalidAnnotation",
        "no such address",
        1,
    )
    assert event["source"] == {"component": "ovnkit"}
    assert event["reportingComponent"] == "ovnkit"
    assert event["firstTimestamp"] == event["lastTimestamp"]


def test_the_same_event_is_counted_and_another_is_not(api: Any, recorder: EventRecorder) -> None:
    pod = view(api)
    for _ in range(3):
        recorder.record(PODS, pod, "Odd", "m")
    recorder.record(PODS, pod, "Odd", "other")
    recorder.record(PODS, pod, "Odd", "m", warning=False)
    recorder.stop()
    found = {(e["reason"], e["message"], e["type"]): e["count"] for e in api.objects[PATH].values()}
    assert found == {("Odd", "m", "Warning"): 3, ("Odd", "other", "Warning"): 1, ("Odd", "m", "Normal"): 1}


def test_after_ten_minutes_the_count_starts_over(
    api: Any, recorder: EventRecorder, clock: Clock, until: Any
) -> None:
    pod = view(api)
    recorder.record(PODS, pod, "Odd", "m")
    recorder.record(PODS, pod, "Odd", "m")
    until(lambda: recorder.counters.written == 2)
    clock.now += 601
    recorder.record(PODS, pod, "Odd", "m")
    recorder.stop()
    assert [event["count"] for event in api.objects[PATH].values()] == [1]


def test_a_flood_of_one_object_is_held_and_others_are_not(
    api: Any, recorder: EventRecorder, clock: Clock, until: Any
) -> None:
    noisy, quiet = view(api), view(api, name="q")
    for number in range(40):
        recorder.record(PODS, noisy, "Odd", f"m{number}")
    recorder.record(PODS, quiet, "Odd", "m")
    until(lambda: recorder.counters.written + recorder.counters.suppressed == 41)
    assert recorder.counters.suppressed == 15
    assert len(api.objects[PATH]) == 26
    clock.now += 300
    recorder.record(PODS, noisy, "Odd", "later")
    recorder.record(PODS, noisy, "Odd", "too soon")
    recorder.stop()
    assert recorder.counters.suppressed == 16


def test_a_restart_posts_nothing_anew(api: Any, client: Client, recorder: EventRecorder) -> None:
    pod = view(api)
    recorder.record(PODS, pod, "Odd", "m")
    recorder.stop()
    api.requests.clear()
    again = EventRecorder(client)
    again.record(PODS, pod, "Odd", "m")
    again.stop()
    assert [r.method for r in api.requests] == ["GET"]
    again = EventRecorder(client)
    again.record(PODS, pod, "Odd", "m")
    again.record(PODS, pod, "Odd", "m")
    again.stop()
    assert [event["count"] for event in api.objects[PATH].values()] == [2]


def test_an_event_the_server_forgot_is_posted_anew(api: Any, recorder: EventRecorder, until: Any) -> None:
    pod = view(api)
    recorder.record(PODS, pod, "Odd", "m")
    until(lambda: recorder.counters.written == 1)
    api.objects[PATH].clear()
    recorder.record(PODS, pod, "Odd", "m")
    recorder.stop()
    assert [event["count"] for event in api.objects[PATH].values()] == [1]


def test_events_of_cluster_wide_objects_live_in_default(api: Any, recorder: EventRecorder) -> None:
    node = NODES.view(api.put("/api/v1/nodes", "", "n"))
    recorder.record(NODES, node, "Odd", "m")
    recorder.stop()
    (key,) = api.objects[PATH]
    assert key.startswith("default/n.")


def test_refused_events_are_dropped_and_a_pause_is_kept(api: Any, recorder: EventRecorder) -> None:
    pod = view(api)
    api.fail(403, method="POST")
    recorder.record(PODS, pod, "Odd", "refused")
    api.fail(429, method="POST", headers={"Retry-After": "0"})
    recorder.record(PODS, pod, "Odd", "paused")
    recorder.stop()
    assert recorder.counters.dropped == 1
    assert len(api.objects[PATH]) == 1


def test_recording_never_blocks(api: Any, client: Client) -> None:
    pod = view(api)
    api.stop()
    recorder = EventRecorder(client, capacity=10)
    for number in range(100):
        recorder.record(PODS, pod, "Odd", f"m{number}")
    assert recorder.counters.dropped >= 85
    recorder.stop(timeout=0.1)
    api.start()


def test_an_event_that_another_process_posts_in_the_same_moment_is_not_lost(
    api: Any, client: Client, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = view(api)
    other = EventRecorder(client)
    other.record(PODS, pod, "Odd", "m")
    other.stop()
    # Both looked before either had written.
    monkeypatch.setattr(recorder, "_find", lambda _name: None)
    recorder.record(PODS, pod, "Odd", "m")
    recorder.stop()
    assert (recorder.counters.written, recorder.counters.dropped) == (1, 0)
    assert len(api.objects[PATH]) == 1


def test_what_happens_again_counts_after_a_restart_and_a_state_does_not(api: Any, client: Client) -> None:
    api.collection(PATH)
    pod = view(api)
    for count in (1, 2):
        recorder = EventRecorder(client)
        recorder.record(PODS, pod, "NeedPods", "m", warning=False, again=True)
        recorder.record(PODS, pod, "Odd", "m")
        recorder.stop()
        found = {event["reason"]: event["count"] for event in api.objects[PATH].values()}
        assert found == {"NeedPods": count, "Odd": 1}
