"""Node life cycle: pods of a node that is not ready are not ready either."""

from __future__ import annotations

from typing import Any

from ovnkit_lab.client import STRATEGIC_PATCH, ApiError
from ovnkit_lab.controllers.world import World, conditions, is_true

Json = dict[str, Any]


def sync(world: World) -> bool:
    """Take the Ready condition from pods whose node's is Unknown; whether any was taken."""
    lost = {node["metadata"]["name"] for node in world.all("nodes") if _lost(node)}
    acted = False
    for pod in world.all("pods"):
        if pod["spec"].get("nodeName") in lost and is_true(pod, "Ready"):
            entry = conditions(pod, ("Ready", False, "NodeNotReady", "the pod's node is not ready"))[0]
            entry.pop("lastUpdateTime")
            try:
                path = f"{world.path('pods', pod)}/status"
                world.client.patch(path, {"status": {"conditions": [entry]}}, STRATEGIC_PATCH)
            except ApiError as error:
                if error.status != 404:
                    raise
            acted = True
    return acted


def _lost(node: Json) -> bool:
    ready = [item for item in (node.get("status") or {}).get("conditions") or () if item["type"] == "Ready"]
    return bool(ready) and ready[0]["status"] == "Unknown"
