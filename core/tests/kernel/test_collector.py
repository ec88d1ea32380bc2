from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from ovnkit.api.collector import collector_paused
from ovnkit.kernel.collector import LoadPhase


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
