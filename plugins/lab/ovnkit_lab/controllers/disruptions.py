"""PodDisruptionBudgets: how many pods may be evicted now."""

from __future__ import annotations

import math
from typing import Any

from ovnkit_lab.client import ApiError
from ovnkit_lab.controllers.world import (
    World,
    completed,
    conditions,
    controller_uid,
    deleting,
    is_true,
    selects,
)

Json = dict[str, Any]


def sync(world: World) -> None:
    """Keep the status of every budget."""
    for budget in world.all("poddisruptionbudgets"):
        try:
            world.status("poddisruptionbudgets", budget, status(world, budget))
        except ApiError as error:
            if error.status not in (404, 409):
                raise


def status(world: World, budget: Json) -> Json:
    """The status of a budget, as the disruption controller of Kubernetes counts."""
    namespace, selector = budget["metadata"]["namespace"], budget["spec"].get("selector")
    pods = [
        pod for pod in world.all("pods")
        if pod["metadata"]["namespace"] == namespace and not completed(pod)
        and selector is not None and selects(selector, pod["metadata"].get("labels") or {})
    ]  # fmt: skip
    healthy = sum(is_true(pod, "Ready") and not deleting(pod) for pod in pods)
    problem = ""
    try:
        expected, desired = _wanted(world, budget["spec"], pods)
        allowed = max(healthy - desired, 0) if expected else 0
    except ValueError as error:
        expected, desired, allowed, problem = len(pods), 0, 0, str(error)
    reason = "SyncFailed" if problem else "SufficientPods" if allowed else "InsufficientPods"
    entry = conditions(budget, ("DisruptionAllowed", allowed > 0, reason, problem))[0]
    entry.pop("lastUpdateTime")
    return {
        "observedGeneration": budget["metadata"].get("generation", 1), "currentHealthy": healthy,
        "desiredHealthy": desired, "expectedPods": expected, "disruptionsAllowed": allowed, "conditions": [entry],
    }  # fmt: skip


def _wanted(world: World, spec: Json, pods: list[Json]) -> tuple[int, int]:
    """How many pods there should be, and how many of them healthy. Raises ValueError when nobody says."""
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if isinstance(least, int):
        return len(pods), least
    expected = _scale(world, pods)
    if least is not None:
        return expected, _part(least, expected)
    return expected, max(expected - _part(most if most is not None else 0, expected), 0)


def _part(value: int | str, total: int) -> int:
    return value if isinstance(value, int) else math.ceil(float(value.rstrip("%")) * total / 100)


def _scale(world: World, pods: list[Json]) -> int:
    """The sum of what the pods' controllers are scaled to."""
    sets = {item["metadata"]["uid"]: item for item in world.all("replicasets")}
    deployments = {item["metadata"]["uid"]: item for item in world.all("deployments")}
    sizes: dict[str, int] = {}
    for pod in pods:
        owner = sets.get(controller_uid(pod))
        if owner is None:
            raise ValueError(f"pod {pod['metadata']['name']} has no controller with a scale")
        owner = deployments.get(controller_uid(owner), owner)
        sizes[owner["metadata"]["uid"]] = owner["spec"].get("replicas", 1)
    return sum(sizes.values())
