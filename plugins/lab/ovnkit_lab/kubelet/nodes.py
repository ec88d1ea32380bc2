"""The Node objects of the lab and their Ready condition."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from ovnkit_lab.client import STRATEGIC_PATCH, ApiError, Client
from ovnkit_lab.kubelet.cni import Runtime
from ovnkit_lab.kubelet.containers import stamp
from ovnkit_lab.layout import LabSpec

Json = dict[str, Any]
log = structlog.get_logger()
_POLL = 0.1
_VERSION = "v1.32.0"
MAX_PODS = "1000"


class NodeReporter(threading.Thread):
    """Registers a node and keeps its Ready condition: ready when a CNI configuration is there."""

    def __init__(self, spec: LabSpec, node: str, client: Client, cni: Runtime, is_up: Callable[[], bool],
                 came_up: Callable[[], None]) -> None:  # fmt: skip
        super().__init__(name=f"node {node}", daemon=True)
        self._spec, self._node, self._client, self._cni, self._is_up = spec, node, client, cni, is_up
        self._came_up = came_up
        self._said: tuple[bool, ...] | None = None

    def run(self) -> None:
        """Report whenever something is new; the API server may be away for any time."""
        registered = False
        while True:
            up = self._is_up()
            try:
                if up and not registered:
                    self._client.ensure("/api/v1/nodes", self._object())
                    registered = True
                if registered and (up, self._cni.configured) != self._said:
                    self._report(up, self._cni.configured)
            except ApiError as error:
                log.info("node not reported", node=self._node, error=str(error)[:200])
                registered = registered and error.status != 404
            time.sleep(_POLL)

    def _report(self, up: bool, configured: bool) -> None:
        """Write the conditions. A node that is down says nothing: its condition becomes Unknown, as the node
        controller of a cluster makes it."""
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
        body = {"status": {**self._status(), "conditions": [*healthy, ready]}}
        self._client.patch(f"/api/v1/nodes/{self._node}/status", body, STRATEGIC_PATCH)
        taints = [] if up else [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]
        self._client.patch(f"/api/v1/nodes/{self._node}", {"spec": {"taints": taints}})
        if up and self._said is not None and not self._said[0]:
            self._came_up()
        self._said = (up, configured)

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
            # Patches merge this list by type; a node with two InternalIPs needs it replaced (kubelet does so too).
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
        now = stamp(time.time())
        return {"type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": now}  # fmt: skip


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
