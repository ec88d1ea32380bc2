"""EndpointSlices of Services with a selector, one slice per Service and address family."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from kubelab.client import ApiError
from kubelab.controllers.context import ControllerContext
from kubelab.objects import completed, deleting, is_true, lasting_containers, owner_reference

Json = dict[str, Any]
MANAGER = "endpointslice-controller.k8s.io"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_SERVICE = "kubernetes.io/service-name"


def sync(context: ControllerContext) -> bool:
    """Update the slices to what Services and pods are; whether anything was changed."""
    wanted: dict[tuple[str, str], Json | None] = {}
    for service in context.all("services"):
        if not deleting(service) and service["spec"].get("selector"):
            for one in slices(service, context.all("pods")):
                wanted[(one["metadata"]["namespace"], one["metadata"]["name"])] = one
    acted = False
    for present in context.all("endpointslices"):
        meta = present["metadata"]
        if (meta.get("labels") or {}).get(_MANAGED_BY) != MANAGER:
            continue
        piece = wanted.pop((meta["namespace"], meta["name"]), None)
        acted = _adjust(context, present, piece) or acted
    for (namespace, _), piece in wanted.items():
        try:
            context.create("endpointslices", namespace, piece or {})
        except ApiError as error:
            if error.status not in (403, 404, 409):
                raise
        acted = True
    return acted


def _adjust(context: ControllerContext, present: Json, wanted: Json | None) -> bool:
    if wanted is None:
        context.delete("endpointslices", present)
        return True
    same = all((present.get(key) or []) == wanted[key] for key in ("endpoints", "ports"))
    if same and present["addressType"] == wanted["addressType"]:
        return False
    try:
        context.patch("endpointslices", present, {"endpoints": wanted["endpoints"], "ports": wanted["ports"]})
    except ApiError as error:
        if error.status != 404:
            raise
    return True


def slices(service: Json, pods: list[Json]) -> Iterator[Json]:
    """The slices of one Service."""
    meta, spec = service["metadata"], service["spec"]
    chosen = [pod for pod in pods if _selected(pod, meta["namespace"], spec["selector"])]
    for family in spec.get("ipFamilies") or ["IPv4"]:
        groups: dict[tuple[tuple[Any, ...], ...], list[Json]] = {}
        for pod in sorted(chosen, key=lambda item: item["metadata"]["name"]):
            address = _address(pod, family)
            if address:
                ports = tuple(_ports(spec, pod))
                groups.setdefault(ports, []).append(_endpoint(pod, address, spec))
        groups = groups or {(): []}
        for number, (ports, endpoints) in enumerate(sorted(groups.items())):
            suffix = family[-1] if number == 0 else f"{family[-1]}-{number}"
            yield {
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{meta['name']}-v{suffix}", "namespace": meta["namespace"],
                    "labels": {**(meta.get("labels") or {}), _SERVICE: meta["name"], _MANAGED_BY: MANAGER,
                               **_headless(spec)},
                    "ownerReferences": [owner_reference(service, "v1", "Service")],
                },
                "addressType": family, "endpoints": endpoints,
                "ports": [_port(*port) for port in ports],
            }  # fmt: skip


def _headless(spec: Json) -> Json:
    return {"service.kubernetes.io/headless": ""} if spec.get("clusterIP") == "None" else {}


def _selected(pod: Json, namespace: str, selector: Json) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return (
        pod["metadata"]["namespace"] == namespace
        and not completed(pod)
        and all(labels.get(key) == value for key, value in selector.items())
    )


def _address(pod: Json, family: str) -> str:
    for item in (pod.get("status") or {}).get("podIPs") or ():
        if f"IPv{ip_address(item['ip']).version}" == family:
            return str(item["ip"])
    return ""


def _ports(spec: Json, pod: Json) -> Iterator[tuple[str, int, str, str]]:
    for port in spec.get("ports") or ():
        target = port.get("targetPort") or port["port"]
        if isinstance(target, str):
            number = _named(pod, target, port.get("protocol", "TCP"))
            if number is None:
                continue
            target = number
        yield port.get("name") or "", target, port.get("protocol", "TCP"), port.get("appProtocol") or ""


def _port(name: str, number: int, protocol: str, application: str) -> Json:
    port: Json = {"name": name, "port": number, "protocol": protocol}
    return {**port, "appProtocol": application} if application else port


def _named(pod: Json, name: str, protocol: str) -> int | None:
    for container in lasting_containers(pod["spec"]):
        for port in container.get("ports") or ():
            if port.get("name") == name and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _endpoint(pod: Json, address: str, spec: Json) -> Json:
    meta = pod["metadata"]
    serving, terminating = is_true(pod, "Ready"), deleting(pod)
    ready = bool(spec.get("publishNotReadyAddresses")) or (serving and not terminating)
    endpoint: Json = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {"kind": "Pod", "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
    }
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == spec.get("name"):
        endpoint["hostname"] = pod["spec"]["hostname"]
    return endpoint
