"""Live sets against an oracle that evaluates the whole selection anew after each step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnkit.api.live import LiveSet
from ovnkit.api.models import NAMESPACES, PODS, Namespace, Pod
from ovnkit.api.selectors import LabelSelector, Operator, Requirement
from ovnkit.engine.live_sets import LiveSets
from ovnkit.engine.store import Store

META: dict[str, Any] = {
    "uid": "u",
    "annotations": {},
    "deleting": False,
    "finalizers": (),
    "resource_version": "1",
}
POD = Pod(
    "", "", labels={}, node="", host_network=False, completed=False, ready=True, addresses=(), ports=(), **META
)
KEYS = ["app", "tier", "env"]
VALUES = ["a", "b", "c"]

labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=3)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator = draw(st.sampled_from(Operator))
    takes_values = operator in (Operator.IN, Operator.NOT_IN)
    values = draw(st.frozensets(st.sampled_from(VALUES), min_size=1)) if takes_values else frozenset()
    return Requirement(draw(st.sampled_from(KEYS)), operator, values)


selectors = st.builds(LabelSelector, st.frozensets(requirements(), max_size=3))
namespaces = st.one_of(st.none(), st.sampled_from(["n1", "n2", "n3"]), selectors)


def addresses(view: Pod) -> Iterable[str]:
    return view.addresses


def is_ready(view: Pod) -> bool:
    return view.ready


specs = st.builds(
    LiveSet, st.just(PODS), st.just(addresses), selectors, namespaces, st.sampled_from([None, is_ready])
)
pods = st.builds(
    lambda namespace, name, labels, addresses, ready: evolve(
        POD, namespace=namespace, name=name, labels=labels, addresses=tuple(addresses), ready=ready
    ),
    st.sampled_from(["n1", "n2", "n3"]),
    st.sampled_from(["p1", "p2", "p3"]),
    labels,
    st.lists(st.sampled_from(["1", "2", "3"]), max_size=2, unique=True),
    st.booleans(),
)
spaces = st.builds(
    lambda name, labels: Namespace("", name, labels=labels, **META), st.sampled_from(["n1", "n2", "n3"]), labels
)
steps = st.one_of(
    pods.map(lambda view: (PODS, view.key, view)),
    pods.map(lambda view: (PODS, view.key, None)),
    spaces.map(lambda view: (NAMESPACES, view.key, view)),
    spaces.map(lambda view: (NAMESPACES, view.key, None)),
)


def expected(store: Store, spec: LiveSet) -> set[str]:
    found: set[str] = set()
    for view in store.select(PODS, "", "").values():
        space = store.get(NAMESPACES, view.namespace)
        if isinstance(spec.namespaces, str) and view.namespace != spec.namespaces:
            continue
        if isinstance(spec.namespaces, LabelSelector) and (
            space is None or not spec.namespaces.matches(space.labels)
        ):
            continue
        if spec.labels.matches(view.labels) and (spec.where is None or spec.where(view)):
            found.update(view.addresses)
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(specs, min_size=1, max_size=4), st.lists(steps, max_size=30), st.integers(0, 10))
def test_a_live_set_always_equals_its_selection(wanted: list[LiveSet], history: list[Any], enter_at: int) -> None:
    store = Store()
    engine = LiveSets(store)
    mirrors: dict[LiveSet, set[str]] = {}

    def enter(count: int) -> None:
        for spec in wanted[: max(0, count)]:
            content = engine.content(spec)
            if spec not in mirrors:
                mirror = mirrors[spec] = {str(value) for value in content.values}

                def changed(added: Any, removed: Any, mirror: set[str] = mirror) -> None:
                    assert not mirror & set(added)
                    assert mirror >= set(removed)
                    mirror.update(added)
                    mirror.difference_update(removed)

                content.subscribe(changed)

    for number, (kind, key, view) in enumerate(history):
        # one after another: what is known since the first must not be stale when the next comes
        enter(number - enter_at)
        change = store.put(kind, key, view)
        if change is not None:
            engine.changed(change)
        if number % 3 == 0:
            engine.flush()
    enter(len(wanted))
    engine.flush()
    for spec in wanted:
        assert set(engine.content(spec).values) == expected(store, spec)
        assert mirrors[spec] == expected(store, spec)


def test_equal_selections_share_one_set_and_the_last_user_ends_it() -> None:
    store = Store()
    engine = LiveSets(store)
    spec = LiveSet(PODS, addresses, namespaces="n1")
    first = engine.content(spec)
    second = engine.content(LiveSet(PODS, addresses, namespaces="n1"))
    assert first is second
    leave = first.subscribe(lambda _added, _removed: None)
    leave()
    assert engine.content(spec) is not first


def test_a_pod_event_looks_only_at_sets_its_labels_can_enter() -> None:
    store = Store()
    engine = LiveSets(store)
    calls = 0

    def counting(view: Pod) -> Iterable[str]:
        nonlocal calls
        calls += 1
        return view.addresses

    contents = [
        engine.content(
            LiveSet(
                PODS,
                counting,
                LabelSelector(frozenset({Requirement("app", Operator.IN, frozenset({str(number)}))})),
            )
        )
        for number in range(1000)
    ]
    for content in contents:
        content.subscribe(lambda _added, _removed: None)
    change = store.put(PODS, "n1/p", evolve(POD, namespace="n1", name="p", labels={"app": "7"}, addresses=("1",)))
    assert change is not None
    engine.changed(change)
    assert calls == 1


def test_what_an_object_contributes_is_worked_out_once_for_all_sets_and_again_when_it_changed() -> None:
    store = Store()
    engine = LiveSets(store)
    looked_at: list[str] = []

    def counting(view: Pod) -> Iterable[str]:
        looked_at.append(view.name)
        return view.addresses

    def put(name: str, address: str) -> None:
        view = evolve(POD, namespace="n1", name=name, labels={"app": "a"}, addresses=(address,))
        change = store.put(PODS, view.key, view)
        assert change is not None
        engine.changed(change)

    def selecting(*values: str) -> set[str]:
        selector = LabelSelector(frozenset({Requirement("app", Operator.IN, frozenset(values))}))
        return {str(value) for value in engine.content(LiveSet(PODS, counting, selector)).values}

    put("p1", "1")
    put("p2", "2")
    assert selecting("a", "b") == selecting("a", "c") == {"1", "2"}
    assert sorted(looked_at) == ["p1", "p2"]
    put("p2", "3")
    assert selecting("a", "d") == selecting("a") == {"1", "3"}
    assert looked_at[2:] == ["p2"]
