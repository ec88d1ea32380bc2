"""ReplicaSets, Deployments and DaemonSets."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import orjson

from kubelab.client import ApiError
from kubelab.controllers.context import ControllerContext
from kubelab.controllers.scheduler import fits
from kubelab.objects import completed, conditions, deleting, is_true, owner_reference

Json = dict[str, Any]
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_GENERATION_LABEL = "controller-revision-hash"


def template_hash(template: Json) -> str:
    """A hash of a pod template, for names and labels."""
    return hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]


def _live(pods: Sequence[Json]) -> list[Json]:
    return [pod for pod in pods if not deleting(pod) and not completed(pod)]


def _ready(pods: Sequence[Json]) -> int:
    return sum(is_true(pod, "Ready") for pod in pods)


def _new_pod(context: ControllerContext, owner: Json, kind: str, extra: Json, labels: Json) -> None:
    template, meta = owner["spec"]["template"], owner["metadata"]
    template_meta = template.get("metadata") or {}
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": f"{meta['name']}-", "labels": {**(template_meta.get("labels") or {}), **labels},
            "annotations": template_meta.get("annotations") or {},
            "ownerReferences": [owner_reference(owner, "apps/v1", kind)],
        },
        "spec": {**template["spec"], **extra},
    }  # fmt: skip
    context.create("pods", meta["namespace"], pod)


# -- ReplicaSets --------------------------------------------------------------------------------------------


def sync_replicaset(context: ControllerContext, item: Json) -> bool:
    """Create or delete pods up to the wanted number; whether there were any."""
    pods = _live(context.claimed("pods", item, "ReplicaSet"))
    wanted = item["spec"].get("replicas", 1)
    acted = False
    if not deleting(item):
        for _ in range(wanted - len(pods)):
            _new_pod(context, item, "ReplicaSet", {}, {})
            acted = True
        # The youngest and the unready go first.
        surplus = sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)
        surplus.sort(key=lambda pod: is_true(pod, "Ready"))
        for pod in surplus[: max(len(pods) - wanted, 0)]:
            context.delete("pods", pod)
            acted = True
    context.status("replicasets", item, {
        "replicas": len(pods), "fullyLabeledReplicas": len(pods), "readyReplicas": _ready(pods),
        "availableReplicas": _ready(pods), "observedGeneration": item["metadata"].get("generation", 1),
    })  # fmt: skip
    return acted


# -- Deployments --------------------------------------------------------------------------------------------


def sync_deployment(context: ControllerContext, item: Json) -> bool:
    """Create the ReplicaSet of the current template, and move replicas to it; whether anything was changed."""
    if deleting(item):
        return False
    sets = [entry for entry in context.claimed("replicasets", item, "Deployment") if not deleting(entry)]
    current = template_hash(item["spec"]["template"])
    new = next((entry for entry in sets if entry["metadata"]["labels"].get(HASH_LABEL) == current), None)
    old = [entry for entry in sets if entry is not new]
    if new is None:
        if item["spec"].get("paused"):
            return False
        _new_set(context, item, current, 0 if old else item["spec"].get("replicas", 1), len(sets) + 1)
        return True
    acted = _roll(context, item, new, old)
    _clean_up(context, item, old)
    _deployment_status(context, item, new, sets)
    return acted


def _new_set(context: ControllerContext, item: Json, current: str, replicas: int, revision: int) -> None:
    meta, template = item["metadata"], item["spec"]["template"]
    template_meta = template.get("metadata") or {}
    labels = {**(template_meta.get("labels") or {}), HASH_LABEL: current}
    selector = item["spec"]["selector"]
    body = {
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{current}", "labels": labels, "annotations": {REVISION: str(revision)},
            "ownerReferences": [owner_reference(item, "apps/v1", "Deployment")],
        },
        "spec": {
            "replicas": replicas,
            "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: current}},
            "template": {**template, "metadata": {**template_meta, "labels": labels}},
        },
    }  # fmt: skip
    context.create("replicasets", meta["namespace"], body)


def _roll(context: ControllerContext, item: Json, new: Json, old: Sequence[Json]) -> bool:
    """One step of a rollout: as many new pods as maxSurge allows, as few old ones as maxUnavailable allows."""
    wanted = item["spec"].get("replicas", 1)
    strategy = item["spec"].get("strategy") or {}
    old_total = sum(entry["spec"].get("replicas", 0) for entry in old)
    old_pods = sum((entry.get("status") or {}).get("replicas", 0) for entry in old)
    if strategy.get("type") == "Recreate":
        emptied = [_scale(context, entry, 0) for entry in old]
        return any(emptied) or (old_pods == 0 and _scale(context, new, wanted))
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), wanted, up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    present = new["spec"].get("replicas", 0)
    target = wanted if present > wanted else max(present, min(wanted, wanted + surge - old_total))
    acted_new = _scale(context, new, target)
    ready = sum((entry.get("status") or {}).get("readyReplicas", 0) for entry in (new, *old))
    spare = max(ready - (wanted - unavailable), 0)
    # Deleting old pods that aren't ready costs no availability.
    spare += sum(
        max((entry["spec"].get("replicas", 0)) - (entry.get("status") or {}).get("readyReplicas", 0), 0)
        for entry in old
    )
    acted = acted_new
    for entry in old:
        size = entry["spec"].get("replicas", 0)
        step = min(size, spare)
        spare -= step
        acted = (step > 0 and _scale(context, entry, size - step)) or acted
    return acted


def _share(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    part = float(value.rstrip("%")) * total / 100
    return math.ceil(part) if up else math.floor(part)


def _scale(context: ControllerContext, item: Json, replicas: int) -> bool:
    if item["spec"].get("replicas", 0) == replicas:
        return False
    context.patch("replicasets", item, {"spec": {"replicas": replicas}})
    return True


def _clean_up(context: ControllerContext, item: Json, old: Sequence[Json]) -> None:
    keep = item["spec"].get("revisionHistoryLimit", 10)
    empty = [entry for entry in old if not entry["spec"].get("replicas") and not entry["status"].get("replicas")]
    empty.sort(key=lambda entry: entry["metadata"]["creationTimestamp"])
    for entry in empty[: max(len(empty) - keep, 0)]:
        context.delete("replicasets", entry)


def _deployment_status(context: ControllerContext, item: Json, new: Json, sets: Sequence[Json]) -> None:
    wanted = item["spec"].get("replicas", 1)

    def total(key: str) -> int:
        return sum((entry.get("status") or {}).get(key, 0) for entry in sets)

    ready, updated = total("readyReplicas"), (new.get("status") or {}).get("replicas", 0)
    rolling = (item["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    enough = ready >= wanted - _share(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    done = updated == wanted and total("replicas") == wanted and ready >= wanted
    name = new["metadata"]["name"]
    progress = (
        ("NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.') if done
        else ("ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    )  # fmt: skip
    available = (
        ("MinimumReplicasAvailable", "Deployment has minimum availability.") if enough
        else ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    )  # fmt: skip
    context.status("deployments", item, {
        "observedGeneration": item["metadata"].get("generation", 1),
        "replicas": total("replicas"), "updatedReplicas": updated, "readyReplicas": ready,
        "availableReplicas": ready, "unavailableReplicas": max(wanted - ready, 0),
        "conditions": conditions(item, ("Available", enough, *available), ("Progressing", True, *progress)),
    })  # fmt: skip


# -- DaemonSets ---------------------------------------------------------------------------------------------


def sync_daemonset(context: ControllerContext, item: Json) -> bool:
    """One pod per node that fits; pods of an older template are replaced one after another."""
    current = template_hash(item["spec"]["template"])
    pods = context.claimed("pods", item, "DaemonSet")
    nodes = {
        node["metadata"]["name"]: node for node in context.all("nodes")
        if fits(item["spec"]["template"], node, ignore_unready=True)
    }  # fmt: skip
    by_node: dict[str, list[Json]] = {}
    for pod in pods:
        by_node.setdefault(pod["spec"].get("nodeName") or _pinned(pod), []).append(pod)
    acted = False
    if not deleting(item):
        for node in nodes.keys() - {
            name for name, held in by_node.items() if any(not completed(pod) for pod in held)
        }:
            _new_pod(context, item, "DaemonSet", {"affinity": _pin(node)}, {_GENERATION_LABEL: current})
            acted = True
        for name, held in by_node.items():
            surplus = {id(pod) for pod in _surplus(held)}
            for pod in held:
                elsewhere = name != "" and name not in nodes
                if not deleting(pod) and (elsewhere or completed(pod) or (name and id(pod) in surplus)):
                    context.delete("pods", pod)
                    acted = True
        acted = acted or _replace_old(context, item, _live(pods), current)
    live = [pod for pod in _live(pods) if (pod["spec"].get("nodeName") or _pinned(pod)) in nodes]
    updated = [pod for pod in live if pod["metadata"]["labels"].get(_GENERATION_LABEL) == current]
    context.status("daemonsets", item, {
        "observedGeneration": item["metadata"].get("generation", 1), "desiredNumberScheduled": len(nodes),
        "currentNumberScheduled": len(live), "numberMisscheduled": 0, "numberReady": _ready(live),
        "numberAvailable": _ready(live), "numberUnavailable": max(len(nodes) - _ready(live), 0),
        "updatedNumberScheduled": len(updated),
    })  # fmt: skip
    return acted


def _surplus(held: Sequence[Json]) -> list[Json]:
    """The pods of a DaemonSet on a node to delete: all but a ready one, or else the oldest."""
    live = sorted(_live(held), key=lambda pod: (not is_true(pod, "Ready"), pod["metadata"]["creationTimestamp"]))
    return live[1:]


def _replace_old(context: ControllerContext, item: Json, live: Sequence[Json], current: str) -> bool:
    if (item["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        return False
    old = [pod for pod in live if pod["metadata"]["labels"].get(_GENERATION_LABEL) != current]
    if not old or any(not is_true(pod, "Ready") for pod in live if pod not in old):
        return False
    context.delete("pods", old[0])
    return True


def _pin(node: str) -> Json:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def _pinned(pod: Json) -> str:
    try:
        required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        return str(required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0])
    except (KeyError, IndexError, TypeError):
        return ""


def sync(context: ControllerContext) -> bool:
    """Sync all workloads; whether anything was created, deleted or scaled."""
    acted = False
    for kind, one in (("deployments", sync_deployment), ("replicasets", sync_replicaset),
                      ("daemonsets", sync_daemonset)):  # fmt: skip
        for item in context.all(kind):
            try:
                acted = one(context, item) or acted
            except ApiError as error:
                # A terminating namespace refuses new pods; an object may be gone meanwhile.
                if error.status not in (403, 404, 409):
                    raise
    return acted
