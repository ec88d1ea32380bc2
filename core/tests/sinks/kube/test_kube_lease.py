"""Leader election: taking, losing, giving back, outages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from ovnkit.api.config import ClusterHaOptions
from ovnkit.api.errors import ConfigError
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.lease import LeaderElector

PATH = "/apis/coordination.k8s.io/v1/leases"
KEY = "ovn-kubernetes/ovn-kubernetes-master"


class Candidate:
    def __init__(self, client: Client, identity: str, **durations: float) -> None:
        self.history: list[str] = []
        self.elector = LeaderElector(
            client,
            identity=identity,
            namespace="ovn-kubernetes",
            acquired=lambda: self.history.append("acquired"),
            lost=lambda: self.history.append("lost"),
            **{"lease_duration": 1.0, "renew_deadline": 0.6, "retry_period": 0.1, **durations},  # type: ignore[arg-type]
        )

    def start(self) -> Candidate:
        self.elector.start()
        return self


@pytest.fixture
def candidates(api: Any, client: Client) -> Iterator[Any]:
    api.collection(PATH)
    made: list[Candidate] = []

    def make(identity: str, **durations: float) -> Candidate:
        made.append(Candidate(client, identity, **durations))
        return made[-1]

    yield make
    for candidate in made:
        candidate.elector.stop()


def spec(api: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.objects[PATH][KEY]["spec"]
    return found


def test_one_leads_renews_and_gives_back(api: Any, candidates: Any, until: Any) -> None:
    first = candidates("one").start()
    until(lambda: first.elector.leading)
    second = candidates("two", retry_period=0.5).start()
    taken = dict(spec(api))
    assert taken["holderIdentity"] == "one"
    assert taken["leaseDurationSeconds"] == 1
    assert taken["leaseTransitions"] == 0
    until(lambda: spec(api)["renewTime"] > taken["renewTime"])
    assert spec(api)["acquireTime"] == taken["acquireTime"]
    until(lambda: second.elector.holder == "one")
    assert not second.elector.leading
    first.elector.stop()
    assert first.history == ["acquired", "lost"]
    given_back = time.monotonic()
    until(lambda: second.elector.leading)
    assert time.monotonic() - given_back < 0.5, "a lease that is given back is taken at once"
    assert spec(api)["holderIdentity"] == "two"
    assert spec(api)["leaseTransitions"] == 1


def test_a_dead_leader_is_replaced_when_its_lease_is_over(api: Any, candidates: Any, until: Any) -> None:
    api.put(
        PATH,
        "ovn-kubernetes",
        "ovn-kubernetes-master",
        # a holder whose clock is years ahead must not keep the lease for years
        spec={"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "2099-01-01T00:00:00.000000Z"},
    )
    started = time.monotonic()
    heir = candidates("heir").start()
    until(lambda: heir.elector.leading)
    assert time.monotonic() - started >= 1.0


def test_an_outage_ends_leadership_before_the_lease_is_over(api: Any, candidates: Any, until: Any) -> None:
    leader = candidates("one").start()
    until(lambda: leader.elector.leading)
    api.stop()
    stopped = time.monotonic()
    until(lambda: leader.history == ["acquired", "lost"])
    assert time.monotonic() - stopped < 1.0
    assert leader.elector.counters.errors >= 2
    api.start()
    until(lambda: leader.history == ["acquired", "lost", "acquired"])


def test_a_short_outage_is_survived(api: Any, candidates: Any, until: Any) -> None:
    leader = candidates("one").start()
    until(lambda: leader.elector.leading)
    fault = api.fail(503, times=3)
    until(lambda: fault.times == 0)
    until(lambda: len(api.written("PUT")) >= 3)
    assert leader.history == ["acquired"]


def test_a_leader_whose_lease_was_taken_stops_leading(api: Any, candidates: Any, until: Any) -> None:
    leader = candidates("one").start()
    until(lambda: leader.elector.leading)
    api.edit(PATH, KEY, {"spec": {"holderIdentity": "thief", "leaseDurationSeconds": 100}})
    until(lambda: leader.history == ["acquired", "lost"])
    assert leader.elector.status() == {"leading": False, "holder": "thief", "identity": "one"}
    leader.elector.stop()
    assert spec(api)["holderIdentity"] == "thief", "what isn't ours isn't given back"


def test_a_failing_callback_doesnt_end_the_election(api: Any, client: Client, until: Any) -> None:
    api.collection(PATH)

    def fail() -> None:
        raise RuntimeError("bug")

    elector = LeaderElector(client, identity="x", namespace="ovn-kubernetes", acquired=fail, lost=fail)
    elector.start()
    until(lambda: elector.leading)
    elector.stop()
    assert spec(api)["holderIdentity"] == ""


def test_durations_come_from_the_configuration_and_must_fit(client: Client) -> None:
    names = {"identity": "x", "namespace": "n", "acquired": print, "lost": print}
    elector = LeaderElector.configured(client, ClusterHaOptions(), **names)
    assert (elector._lease_duration, elector._renew_deadline, elector._retry_period) == (137, 107, 26)
    with pytest.raises(ConfigError, match="election-renew-deadline"):
        LeaderElector.configured(client, ClusterHaOptions(election_renew_deadline=137), **names)
