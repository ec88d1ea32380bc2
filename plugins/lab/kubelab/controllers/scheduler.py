"""Assigns pods to nodes: of the nodes that fit, the one with the fewest pods."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kubelab.client import ApiError
from kubelab.controllers.context import ControllerContext
from kubelab.objects import completed, conditions, deleting, holds, is_true

Json = dict[str, Any]


def sync(context: ControllerContext) -> None:
    """Bind every pod that has no node yet."""
    pods = context.all("pods")
    waiting = [
        pod for pod in pods
        if not pod["spec"].get("nodeName") and not deleting(pod) and not pod["spec"].get("schedulingGates")
        and pod["spec"].get("schedulerName", "default-scheduler") == "default-scheduler"
    ]  # fmt: skip
    if not waiting:
        return
    load = Counter(pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName") and not completed(pod))
    nodes = context.all("nodes")
    for pod in sorted(waiting, key=lambda item: item["metadata"]["creationTimestamp"]):
        fitting = [node["metadata"]["name"] for node in nodes if fits(pod, node)]
        if not fitting:
            _unschedulable(context, pod, len(nodes))
            continue
        node = min(fitting, key=lambda name: (load[name], name))
        load[node] += 1
        _bind(context, pod, node)


def fits(pod: Json, node: Json, *, ignore_unready: bool = False) -> bool:
    """Whether a node fits a pod: ready and schedulable, with matching labels and required affinity."""
    spec = pod["spec"]
    if not ignore_unready and (not is_true(node, "Ready") or node["spec"].get("unschedulable")):
        return False
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return not affinity or any(_term(term, node, labels) for term in affinity.get("nodeSelectorTerms") or ())


def _term(term: Json, node: Json, labels: Json) -> bool:
    fields = {"metadata.name": node["metadata"]["name"]}
    both = [(labels, item) for item in term.get("matchExpressions") or ()]
    both += [(fields, item) for item in term.get("matchFields") or ()]
    return bool(both) and all(holds(item, values) for values, item in both)


def _bind(context: ControllerContext, pod: Json, node: str) -> None:
    meta = pod["metadata"]
    body = {
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }  # fmt: skip
    try:
        context.client.create(f"{context.path('pods', pod)}/binding", body)
    except ApiError as error:
        if error.status not in (404, 409):
            raise


def _unschedulable(context: ControllerContext, pod: Json, nodes: int) -> None:
    text = f"0/{nodes} nodes are available."
    entry = conditions(pod, ("PodScheduled", False, "Unschedulable", text))
    for item in entry:
        item.pop("lastUpdateTime")
    present = (pod.get("status") or {}).get("conditions") or []
    others = [item for item in present if item["type"] != "PodScheduled"]
    if entry[0] not in present:
        context.status("pods", pod, {"conditions": [*others, *entry]})
