"""Namespaces: terminating ones are emptied and finalized, active ones get a default service account."""

from __future__ import annotations

from typing import Any

from kubelab.client import METADATA_LIST, ApiError, Client
from kubelab.controllers.context import ControllerContext
from kubelab.controllers.resources import Resource, discover
from kubelab.objects import deleting

Json = dict[str, Any]
_FINALIZER = "kubernetes"


def accounts(context: ControllerContext) -> bool:
    """Create missing default service accounts; whether there were any."""
    held = {
        item["metadata"]["namespace"] for item in context.all("serviceaccounts")
        if item["metadata"]["name"] == "default"
    }  # fmt: skip
    acted = False
    for namespace in context.all("namespaces"):
        name = namespace["metadata"]["name"]
        if name in held or deleting(namespace):
            continue
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        try:
            context.create("serviceaccounts", name, body)
            acted = True
        except ApiError as error:
            if error.status not in (403, 404, 409):
                raise
    return acted


def empty_terminating(context: ControllerContext) -> bool:
    """Empty the terminating namespaces; whether one of them is not empty yet and must be looked at again."""
    waiting = False
    for namespace in context.all("namespaces"):
        if deleting(namespace) and _FINALIZER in (namespace.get("spec") or {}).get("finalizers", ()):
            waiting = not _finish(context.client, namespace["metadata"]["name"]) or waiting
    return waiting


def _finish(client: Client, name: str) -> bool:
    """Delete the content of a namespace, and finalize it once it is empty; whether it was finalized."""
    left = [item for item in discover(client) if item.namespaced and _empty(client, item, name)]
    if left:
        return False
    path = f"/api/v1/namespaces/{name}"
    try:
        namespace = client.get(path)
        kept = [item for item in namespace["spec"].get("finalizers") or () if item != _FINALIZER]
        body = {**namespace, "spec": {**namespace["spec"], "finalizers": kept}}
        client.request("PUT", f"{path}/finalize", body)
    except ApiError as error:
        if error.status not in (404, 409):
            raise
        return error.status == 404
    return True


def _empty(client: Client, resource: Resource, namespace: str) -> bool:
    """Delete the objects of a resource in a namespace; whether there were any."""
    path = resource.path(namespace)
    items = client.get(path, accept=METADATA_LIST).get("items") or []
    for item in items:
        meta = item["metadata"]
        if "deletionTimestamp" not in meta:
            client.delete(f"{path}/{meta['name']}", {"preconditions": {"uid": meta["uid"]}})
    return bool(items)
