"""How long is waited before something is tried again."""

from __future__ import annotations

import pytest

from ovnkit.api.backoff import Backoff, doubled


@pytest.mark.parametrize(
    ("times", "seconds"), [(-3, 0.5), (0, 0.5), (1, 1.0), (4, 8.0), (5, 10.0), (10_000, 10.0)]
)
def test_a_time_is_doubled_up_to_a_limit(times: int, seconds: float) -> None:
    assert doubled(0.5, 10.0, times) == seconds


def test_waits_grow_until_something_succeeds() -> None:
    backoff = Backoff(1.0, 5.0, jitter=0)
    assert [backoff.next() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.failures == 5
    backoff.reset()
    assert backoff.next() == 1.0


def test_daemons_do_not_come_back_in_step() -> None:
    waits = [Backoff(8.0, 60.0).next() for _ in range(200)]
    assert all(4.0 <= wait <= 8.0 for wait in waits)
    assert len({round(wait, 1) for wait in waits}) > 10


def test_a_server_may_ask_for_more_time() -> None:
    backoff = Backoff(0.1, 1.0)
    assert backoff.next(30.0) == 30.0
    assert backoff.next() <= 0.2, "it asks once"
