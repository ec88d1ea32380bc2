"""Metrics that plugins tell: shown under the plugin's name; what is wrong with one harms no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from structlog.testing import capture_logs

from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Hooks, hookimpl
from ovnkit.api.metrics import Latency, Metric, MetricKind, Sample
from ovnkit.api.models import PODS, Pod
from ovnkit.plugins.calls import Calls
from ovnkit.status.metrics import Metrics
from ovnkit.testing.objects import pod

SHOES = Metric("shoes", "Shoes\non the shelf.", MetricKind.GAUGE, (Sample(2),))
ONE = (Sample(1, {"a": "x"}),)


class Plugin:
    """Tells metrics, or raises."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @hookimpl
    def ovnkit_metrics(self) -> Any:
        """What it was made with."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Scrapes:
    """/metrics of a process with such plugins, by name."""

    def __init__(self, latencies: Sequence[Latency[Any]] = (), **answers: Any) -> None:
        self.calls = Calls(lambda: list(answers))
        for name, answer in answers.items():
            self.calls.register(name, Plugin(answer))
        state = lambda: {"hook_failures": dict(self.calls.failures)}  # noqa: E731
        self.metrics = Metrics(
            state,
            lambda: self.calls.observe(Hooks.ovnkit_metrics, runtime=None),  # type: ignore[arg-type]
            [("shop", latencies)],
        )

    def lines(self) -> list[str]:
        answer = self.metrics.answer()
        assert answer.status == 200
        return answer.body.decode().splitlines()

    def of(self, plugin: str) -> list[str]:
        return [line for line in self.lines() if line.startswith(f"ovnkit_{plugin}_")]


def test_a_metric_is_shown_under_the_plugins_name_with_help_kind_and_labels() -> None:
    samples = (Sample(3, {"size": '4"2', "colour": "red\n"}),)
    sold = Metric("sold", "Shoes sold.", MetricKind.COUNTER, samples)
    lines = Scrapes(shop=[SHOES, sold]).lines()
    assert "# HELP ovnkit_shop_shoes Shoes\\non the shelf." in lines
    assert "# TYPE ovnkit_shop_shoes gauge" in lines
    assert "ovnkit_shop_shoes 2.0" in lines
    assert "# TYPE ovnkit_shop_sold_total counter" in lines
    assert 'ovnkit_shop_sold_total{colour="red\\n",size="4\\"2"} 3.0' in lines


def test_no_samples_are_no_lines_and_a_plugins_name_may_have_other_characters() -> None:
    found = Scrapes(**{"acme-shop.v1": [evolved(samples=()), evolved(name="hats")]})  # type: ignore[arg-type]
    assert found.of("acme_shop_v1") == ["ovnkit_acme_shop_v1_hats 2.0"]


def evolved(**changes: Any) -> Metric:
    fields = {"name": "shoes", "help": "Shoes.", "kind": MetricKind.GAUGE, "samples": (Sample(2),), **changes}
    return Metric(**fields)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (evolved(name="Shoes-2"), "its name is not made of lower-case letters, digits and _"),
        (evolved(name=7), "its name is not made of lower-case letters, digits and _"),
        (evolved(name="shoes_total"), "its name ends with _total, which the core adds to counters"),
        (evolved(name="hats"), "there is a metric ovnkit_shop_hats already"),
        (evolved(upstream=True), "OVN-Kubernetes' names begin with ovnkube_, ovn_, ovs_"),
        (evolved(kind="gauge"), "its kind is no MetricKind"),
        (evolved(help=" "), "it has no help"),
        (evolved(help="\ud800"), "it has no help"),
        (evolved(samples=None), "'NoneType' object is not iterable"),
        (evolved(samples=(7,)), "one of its samples is no Sample of ovnkit.api.metrics"),
        (evolved(samples=(Sample(1, {"a-b": "x"}),)), "label 'a-b' is not made of letters, digits and _"),
        (evolved(samples=(Sample(1, {"__a": "x"}),)), "label '__a' is not made of letters, digits and _"),
        (evolved(samples=(Sample(1, {"a": 7}),)), "the value of label a is no text: 7"),  # type: ignore[dict-item]
        (evolved(samples=(Sample(1, {"a": "\ud800"}),)), "the value of label a is no text: '\\ud800'"),
        (evolved(samples=(Sample("many"),)), "one of its values is no number: 'many'"),  # type: ignore[arg-type]
        (evolved(samples=(*ONE, Sample(1))), "its samples have different labels: ['a'] and []"),
        (evolved(samples=(*ONE, *ONE)), "two of its samples have the same labels: {'a': 'x'}"),
        ("shoes 7", "it is no Metric of ovnkit.api.metrics"),
    ],
)  # fmt: skip
def test_a_wrong_metric_is_left_out_with_one_line_in_the_log(wrong: Any, why: str) -> None:
    found = Scrapes(shop=[evolved(name="hats"), wrong, evolved(name="gloves")], other=[SHOES])
    with capture_logs() as logs:
        for _ in range(2):
            assert found.of("shop") == ["ovnkit_shop_hats 2.0", "ovnkit_shop_gloves 2.0"]
            assert found.of("other") == ["ovnkit_other_shoes 2.0"]
    (line,) = logs
    assert (line["event"], line["plugin"], line["error"]) == ("metric is left out", "shop", why)


@pytest.mark.parametrize("answer", [7, {"shoes": 7}, "shoes 7", SHOES])
def test_no_list_of_metrics_is_told_and_harms_nobody(answer: Any) -> None:
    found = Scrapes(shop=answer, other=[SHOES])
    with capture_logs() as logs:
        assert (found.of("shop"), found.of("other")) == ([], ["ovnkit_other_shoes 2.0"])
    assert "ovnkit_metrics gave no list of metrics" in logs[0]["error"]


def test_a_name_of_ovn_kubernetes_is_shown_as_it_is() -> None:
    lines = Scrapes(shop=[evolved(name="ovnkube_shoes", upstream=True)]).lines()
    assert "ovnkube_shoes 2.0" in lines


LATENCY = Latency("made", "Seconds.", PODS, lambda pod: pod.node == "n1", lambda pod: pod.ready, (1.0,))


def test_a_latency_is_shown_under_the_plugins_name_and_nothing_else_takes_it() -> None:
    found = Scrapes(latencies=(LATENCY, LATENCY), shop=[evolved(name="made")])
    found.metrics.latencies.observe(PODS, [("a/p", pod("a/p", "n1", ready=False))])
    found.metrics.latencies.observe(PODS, [("a/p", pod("a/p", "n1"))])
    assert 'ovnkit_shop_made_bucket{le="1.0"} 1.0' in found.lines()
    assert "ovnkit_shop_made 2.0" not in found.lines()


@pytest.mark.parametrize(
    "wrong",
    [
        evolve(LATENCY, name="Made"), evolve(LATENCY, upstream=True), evolve(LATENCY, help=""),
        evolve(LATENCY, buckets=(2.0, 1.0)),
    ],
)  # fmt: skip
def test_a_wrong_latency_is_left_out_with_a_line_in_the_log(wrong: Latency[Any]) -> None:
    with capture_logs() as logs:
        found = Scrapes(latencies=(wrong, evolve(LATENCY, name="other")))
    assert [line["event"] for line in logs] == ["metric is left out"]
    assert any(line.startswith("ovnkit_shop_other_bucket") for line in found.lines())


def test_a_latency_that_raises_harms_nobody() -> None:
    def fail(_pod: Pod) -> bool:
        raise RuntimeError("no")

    found = Scrapes(latencies=(evolve(LATENCY, waits=fail), evolve(LATENCY, name="other")))
    with capture_logs() as logs:
        for ready in (False, False, True):
            found.metrics.latencies.observe(PODS, [("a/p", pod("a/p", "n1", ready=ready))])
    assert [line["event"] for line in logs] == ["latency can't be measured"]
    assert "ovnkit_shop_made_count 0.0" in found.lines()
    assert "ovnkit_shop_other_count 1.0" in found.lines()


def test_nobody_takes_the_name_of_a_metric_of_the_core() -> None:
    found = Scrapes(build=[evolved(name="info")])
    assert len(found.of("build")) == 1
    assert found.of("build")[0].startswith("ovnkit_build_info{version=")


@pytest.mark.parametrize("error", [RuntimeError("no"), Reject("no")])
def test_a_plugin_that_raises_is_counted_and_harms_nobody(error: Exception) -> None:
    found = Scrapes(shop=error, other=[SHOES])
    lines = found.lines()
    assert "ovnkit_other_shoes 2.0" in lines
    assert 'ovnkit_hook_failures_total{hook="ovnkit_metrics",plugin="shop"} 1.0' in lines
