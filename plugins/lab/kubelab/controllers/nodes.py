"""Node life cycle: pods of a node that is unreachable become not ready."""

from __future__ import annotations

from typing import Any

from kubelab.client import STRATEGIC_PATCH, ApiError
from kubelab.controllers.context import ControllerContext
from kubelab.objects import conditions, is_true

Json = dict[str, Any]


def sync(context: ControllerContext) -> bool:
    """Set Ready to False on pods of nodes whose own is Unknown; whether any was changed."""
    lost = {node["metadata"]["name"] for node in context.all("nodes") if _lost(node)}
    acted = False
    for pod in context.all("pods"):
        if pod["spec"].get("nodeName") in lost and is_true(pod, "Ready"):
            entry = conditions(pod, ("Ready", False, "NodeNotReady", "the pod's node is not ready"))[0]
            entry.pop("lastUpdateTime")
            try:
                path = f"{context.path('pods', pod)}/status"
                context.client.patch(path, {"status": {"conditions": [entry]}}, STRATEGIC_PATCH)
            except ApiError as error:
                if error.status != 404:
                    raise
            acted = True
    return acted


def _lost(node: Json) -> bool:
    ready = [item for item in (node.get("status") or {}).get("conditions") or () if item["type"] == "Ready"]
    return bool(ready) and ready[0]["status"] == "Unknown"
