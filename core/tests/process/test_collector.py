from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from ovnkit.engine.garbage import collector_paused
from ovnkit.engine.inbox import Inbox
from ovnkit.process.garbage import LoadPhase, collect_at_rest


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


def test_pauses_overlap_and_the_last_one_ends_it() -> None:
    first, second = collector_paused(), collector_paused()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_a_load_keeps_the_collector_off_whatever_is_decoded_meanwhile_and_freezes_what_it_made() -> None:
    loaded, looks = [False], list[Callable[[], None]]()
    phase = LoadPhase(lambda: loaded[0], lambda _seconds, look: looks.append(look))
    with collector_paused():
        phase.begin()
    phase.begin()
    assert len(looks) == 1
    looks.pop()()
    assert (gc.isenabled(), gc.get_freeze_count()) == (False, 0)
    loaded[0] = True
    looks.pop()()
    assert looks == []
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_at_rest_young_garbage_goes_in_small_portions_and_a_pause_holds() -> None:
    gc.collect()
    gc.set_threshold(100_000, 20, 10)  # never by itself
    garbage = weakref.ref(Cycle())
    collect_at_rest()
    assert garbage() is not None
    kept: list[list[object]] = [[] for _ in range(2_000)]
    with collector_paused():
        collect_at_rest()
    assert garbage() is not None
    collect_at_rest()
    assert garbage() is None
    assert gc.get_count()[0] < len(kept)


def test_at_rest_older_garbage_goes_too() -> None:
    gc.collect()
    gc.set_threshold(100_000, 20, 10)
    cycle = Cycle()
    gc.collect(0)
    garbage = weakref.ref(cycle)
    del cycle
    kept: list[object] = []
    for _ in range(30):
        kept += [[] for _ in range(2_000)]
        collect_at_rest()
    assert garbage() is None


def test_the_inbox_is_at_rest_only_when_nothing_is_left() -> None:
    inbox, stop = Inbox(), threading.Event()
    happened: list[str] = []
    left = [2]

    def work() -> bool:
        happened.append("work")
        left[0] -= 1
        return left[0] > 0

    def rest() -> None:
        happened.append("rest")
        stop.set()

    inbox.work, inbox.at_rest = work, rest
    inbox.post(lambda: inbox.post(lambda: happened.append("late")))
    inbox.run(stop)
    assert happened == ["work", "late", "work", "rest"]
