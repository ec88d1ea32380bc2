"""How long pods wait for their addresses, as OVN-Kubernetes measures it."""

from __future__ import annotations

from ovnkit.api.metrics import Latency
from ovnkit.api.models import PODS, Pod
from ovnkit.network.pod import ANNOTATION
from ovnkit.network.pod_addresses import has_own_network


def _done(pod: Pod) -> bool:
    return ANNOTATION in pod.annotations


CREATION = Latency(
    "ovnkube_controller_pod_creation_latency_seconds",
    "Time from a pod being seen scheduled to its network annotation being seen.",
    PODS,
    has_own_network,
    _done,
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    upstream=True,
)
