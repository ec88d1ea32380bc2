"""Node objects: registration, the Ready condition, and the node's Lease as heartbeat."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from kubelab import clock
from kubelab.client import STRATEGIC_PATCH, ApiError, Client
from ovnkit_lab.kubelet.cni import Runtime
from ovnkit_lab.layout import LabSpec

Json = dict[str, Any]
log = structlog.get_logger()
_POLL = 0.1
_RENEWAL, _LEASE_SECONDS = 10.0, 40
"""Seconds between two renewals of a node's Lease, and how long one holds; as of a kubelet."""
_HEARTBEAT = 60.0
"""Seconds between two reports of a node whose conditions stay as they are."""
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_VERSION = "v1.33.0"
MAX_PODS = "1000"


class NodeReporter(threading.Thread):
    """Registers a node, renews its Lease and updates its Ready condition (True with a CNI configuration)."""

    def __init__(self, spec: LabSpec, node: str, client: Client, cni: Runtime, is_up: Callable[[], bool],
                 came_up: Callable[[], None]) -> None:  # fmt: skip
        super().__init__(name=f"node {node}", daemon=True)
        self._spec, self._node, self._client, self._cni, self._is_up = spec, node, client, cni, is_up
        self._came_up = came_up
        self._said: tuple[bool, ...] | None = None
        self._uid = ""
        self._next_report = self._next_renewal = 0.0

    def run(self) -> None:
        """Report changes until killed; an API server that doesn't answer is tried again."""
        while True:
            try:
                self.sync(self._is_up(), self._cni.configured, time.monotonic())
            except ApiError as error:
                self.failed(error)
            time.sleep(_POLL)

    def failed(self, error: ApiError) -> None:
        """Handle an error of the API server; a Node that somebody deleted is registered again."""
        log.info("node not reported", node=self._node, error=str(error)[:200])
        if error.status == 404:
            self._uid, self._said = "", None

    def sync(self, up: bool, configured: bool, now: float) -> None:
        """Report what has changed or is due; a node that is down reports nothing. Raises ApiError."""
        if up and not self._uid:
            self._client.ensure("/api/v1/nodes", self._object())
            self._uid = str(self._client.get(f"/api/v1/nodes/{self._node}")["metadata"]["uid"])
            self._next_renewal = 0.0
        if not self._uid:
            return
        if (up, configured) != self._said or (up and now >= self._next_report):
            self._report(up, configured)
            self._next_report = now + _HEARTBEAT
        if up and now >= self._next_renewal:
            self._renew()
            self._next_renewal = now + _RENEWAL

    def _renew(self) -> None:
        """Renew the node's Lease: node controllers take a node without that for lost."""
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": self._uid}
        spec = {"holderIdentity": self._node, "leaseDurationSeconds": _LEASE_SECONDS,
                "renewTime": clock.micro_timestamp(time.time())}  # fmt: skip
        body = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self._node, "ownerReferences": [owner]}, "spec": spec,
        }  # fmt: skip
        try:
            self._client.patch(f"{_LEASES}/{self._node}", body)
        except ApiError as error:
            if error.status != 404:
                raise
            self._client.create(_LEASES, body)

    def _report(self, up: bool, configured: bool) -> None:
        """Write the conditions. That of a node that is down becomes Unknown, as a node controller would set it."""
        if not up:
            ready = self._condition(
                "Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."
            )
        elif configured:
            ready = self._condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")
        else:
            ready = self._condition("Ready", "False", "KubeletNotReady", "cni config uninitialized")
        healthy = [
            self._condition(kind, "False", f"KubeletHas{word}", "")
            for kind, word in (("MemoryPressure", "SufficientMemory"), ("DiskPressure", "NoDiskPressure"),
                               ("PIDPressure", "SufficientPID"))
        ]  # fmt: skip
        held = self._client.get(f"/api/v1/nodes/{self._node}")
        since = {
            (entry["type"], entry["status"]): entry.get("lastTransitionTime")
            for entry in (held.get("status") or {}).get("conditions") or ()
        }
        for entry in (*healthy, ready):
            entry["lastTransitionTime"] = since.get((entry["type"], entry["status"])) or entry["lastHeartbeatTime"]
        if (up,) != (self._said or ())[:1]:
            self._taint(held, up)
        body = {"status": {**self._status(), "conditions": [*healthy, ready]}}
        self._client.patch(f"/api/v1/nodes/{self._node}/status", body, STRATEGIC_PATCH)
        if up and self._said is not None and not self._said[0]:
            self._came_up()
        self._said = (up, configured)

    def _taint(self, held: Json, up: bool) -> None:
        """Add or remove the taint of an unreachable node; other taints stay."""
        taints = [item for item in held["spec"].get("taints") or () if item["key"] != _UNREACHABLE]
        taints += [] if up else [{"key": _UNREACHABLE, "effect": "NoSchedule"}]
        if taints != (held["spec"].get("taints") or []):
            version = {"resourceVersion": held["metadata"]["resourceVersion"]}
            self._client.patch(f"/api/v1/nodes/{self._node}", {"metadata": version, "spec": {"taints": taints}})

    def _object(self) -> Json:
        return {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self._node, "labels": {
                "kubernetes.io/hostname": self._node, "kubernetes.io/os": "linux",
                "kubernetes.io/arch": _architecture(), "beta.kubernetes.io/os": "linux",
            }},
            "spec": {},
        }  # fmt: skip

    def _status(self) -> Json:
        addresses = [{"type": "InternalIP", "address": str(item.ip)} for item in self._spec.addresses(self._node)]
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 1024}Ki"
        capacity = {"cpu": str(os.cpu_count() or 1), "memory": memory, "pods": MAX_PODS}
        return {
            # Patches merge this list by type, which loses one of two InternalIPs: it is replaced, as kubelet does.
            "addresses": [*addresses, {"type": "Hostname", "address": self._node}, {"$patch": "replace"}],
            "capacity": capacity, "allocatable": capacity,
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": _boot_id(), "kernelVersion": platform.release(),
                "osImage": "ovnkit lab", "containerRuntimeVersion": "ovnkit-lab://1", "kubeletVersion": _VERSION,
                "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": _architecture(),
            },
        }  # fmt: skip

    @staticmethod
    def _condition(kind: str, status: str, reason: str, message: str) -> Json:
        now = clock.now()
        return {"type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now}  # fmt: skip


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
