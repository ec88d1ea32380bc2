"""Reading API objects: ownership, conditions, label selectors, containers. Objects are decoded JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubelab import clock

Json = dict[str, Any]


def controller_uid(item: Json) -> str:
    """UID of the object's controller, empty without one."""
    for reference in item["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference["uid"])
    return ""


def owner_reference(owner: Json, api_version: str, kind: str) -> Json:
    """The owner reference of an object that `owner` controls."""
    meta = owner["metadata"]
    return {"apiVersion": api_version, "kind": kind, "name": meta["name"], "uid": meta["uid"],
            "controller": True, "blockOwnerDeletion": True}  # fmt: skip


def deleting(item: Json) -> bool:
    """Whether the object is being deleted."""
    return "deletionTimestamp" in item["metadata"]


def completed(pod: Json) -> bool:
    """Whether a pod has succeeded or failed."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_true(item: Json, kind: str) -> bool:
    """Whether a condition of the object is True."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(entry["type"] == kind and entry["status"] == "True" for entry in conditions)


def conditions(item: Json, *wanted: tuple[str, bool, str, str]) -> list[Json]:
    """Conditions (type, value, reason, message), each with the transition time it has or now."""
    present = {entry["type"]: entry for entry in (item.get("status") or {}).get("conditions") or ()}
    result = []
    for kind, value, reason, message in wanted:
        status = "True" if value else "False"
        old = present.get(kind, {})
        same = old.get("status") == status
        now = clock.now()
        since = old.get("lastTransitionTime") if same else now
        updated = old.get("lastUpdateTime") if same and old.get("reason") == reason else now
        result.append({"type": kind, "status": status, "reason": reason, "message": message,
                       "lastTransitionTime": since, "lastUpdateTime": updated})  # fmt: skip
    return result


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels and matchExpressions) selects these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(holds(item, labels) for item in selector.get("matchExpressions") or ())


def holds(item: Json, labels: Mapping[str, str]) -> bool:
    """Whether a match expression holds. Gt and Lt, which node selectors have, never do."""
    key, values = item["key"], item.get("values") or ()
    match item["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def lasting_containers(spec: Json) -> Iterator[Json]:
    """The containers that run as long as their pod does: its containers, then its sidecars.

    Sidecars are init containers with `restartPolicy: Always`.
    """
    yield from spec.get("containers") or ()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container
