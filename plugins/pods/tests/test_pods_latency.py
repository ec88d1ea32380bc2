"""The latency of pods' addresses on /metrics: name, buckets and values as OVN-Kubernetes has them."""

from __future__ import annotations

from ovnkit.api.models import NODES, PODS
from ovnkit.network.pod import ANNOTATION
from ovnkit.status.metrics import Metrics
from ovnkit.testing.objects import node, pod
from ovnkit_pods.plugin import PodsPlugin

NAME = "ovnkube_controller_pod_creation_latency_seconds"
PLUGGED = {ANNOTATION: "{}"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pods_are_measured_from_being_scheduled_to_their_annotation() -> None:
    clock = Clock()
    metrics = Metrics(dict, tuple, [("pods", PodsPlugin().ovnkit_declare().latencies)], clock=clock)
    see = metrics.latencies.observe
    see(PODS, [("a/p", pod("a/p")), ("a/done", pod("a/done", "n1", PLUGGED)), ("a/gone", pod("a/gone", "n1"))])
    see(PODS, [("a/host", pod("a/host", "n1", host_network=True))])
    see(PODS, [("a/over", pod("a/over", "n1", completed=True)), ("a/gone", None)])
    see(NODES, [("n1", node("n1"))])
    clock.now += 50
    see(PODS, [("a/p", pod("a/p", "n1"))])
    clock.now += 1
    see(PODS, [("a/p", pod("a/p", "n1"))])
    clock.now += 2
    for name in ("p", "gone", "host", "over"):
        see(PODS, [(f"a/{name}", pod(f"a/{name}", "n1", PLUGGED))])
    lines = [line for line in metrics.answer().body.decode().splitlines() if NAME in line]
    assert f"# TYPE {NAME} histogram" in lines
    values = dict(line.rsplit(" ", 1) for line in lines if line[0] != "#" and "_created" not in line)
    bounds = ("0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0", "60.0", "+Inf")
    assert values == {
        **{f'{NAME}_bucket{{le="{bound}"}}': "1.0" if float(bound) >= 3 else "0.0" for bound in bounds},
        f"{NAME}_count": "1.0",
        f"{NAME}_sum": "3.0",
    }
