"""PodDisruptionBudgets: how many evictions are allowed now."""

from __future__ import annotations

import math
from typing import Any

from kubelab.client import ApiError
from kubelab.controllers.context import ControllerContext
from kubelab.objects import completed, conditions, controller_uid, deleting, is_true, selects

Json = dict[str, Any]


def sync(context: ControllerContext) -> None:
    """Update the status of every budget."""
    for budget in context.all("poddisruptionbudgets"):
        try:
            context.status("poddisruptionbudgets", budget, status(context, budget))
        except ApiError as error:
            if error.status not in (404, 409):
                raise


def status(context: ControllerContext, budget: Json) -> Json:
    """The status of a budget, by the rules of Kubernetes' disruption controller."""
    namespace, selector = budget["metadata"]["namespace"], budget["spec"].get("selector")
    pods = [
        pod for pod in context.all("pods")
        if pod["metadata"]["namespace"] == namespace and not completed(pod)
        and selector is not None and selects(selector, pod["metadata"].get("labels") or {})
    ]  # fmt: skip
    healthy = sum(is_true(pod, "Ready") and not deleting(pod) for pod in pods)
    problem = ""
    try:
        expected, desired = _wanted(context, budget["spec"], pods)
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


def _wanted(context: ControllerContext, spec: Json, pods: list[Json]) -> tuple[int, int]:
    """The expected number of pods, and of healthy ones. Raises ValueError when it isn't known."""
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if isinstance(least, int):
        return len(pods), least
    expected = _scale(context, pods)
    if least is not None:
        return expected, _part(least, expected)
    return expected, max(expected - _part(most if most is not None else 0, expected), 0)


def _part(value: int | str, total: int) -> int:
    return value if isinstance(value, int) else math.ceil(float(value.rstrip("%")) * total / 100)


def _scale(context: ControllerContext, pods: list[Json]) -> int:
    """The sum of what the pods' controllers are scaled to."""
    sets = {item["metadata"]["uid"]: item for item in context.all("replicasets")}
    deployments = {item["metadata"]["uid"]: item for item in context.all("deployments")}
    sizes: dict[str, int] = {}
    for pod in pods:
        owner = sets.get(controller_uid(pod))
        if owner is None:
            raise ValueError(f"pod {pod['metadata']['name']} has no controller with a scale")
        owner = deployments.get(controller_uid(owner), owner)
        sizes[owner["metadata"]["uid"]] = owner["spec"].get("replicas", 1)
    return sum(sizes.values())
