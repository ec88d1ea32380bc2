"""Status and Events of a pod, as a kubelet reports them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import structlog

from kubelab import clock
from kubelab.client import STRATEGIC_PATCH, ApiError, Client
from ovnkit_lab.kubelet.containers import Container, condition, container_status, phase

Json = dict[str, Any]
log = structlog.get_logger()
_ATTEMPTS = 100
_RETRY_DELAY = 0.3


class StatusWriter:
    """Writes a pod's status when it has changed."""

    def __init__(self, client: Client, pod: Json, host_addresses: Sequence[str]) -> None:
        meta = pod["metadata"]
        self._client, self._meta = client, meta
        self._node = pod["spec"]["nodeName"]
        self._path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._host = [{"ip": address} for address in host_addresses]
        self._since: dict[str, tuple[str, str]] = {}
        self._started = clock.now()
        self._last: Json = {}

    def write(
        self, init: Sequence[Container], main: Sequence[Container], policy: str, addresses: Sequence[str],
        observed: Json,
    ) -> None:  # fmt: skip
        """Report the state of the containers; retries while the API server is away.

        `observed` is the pod as last seen: others (the node controller) may have changed its Ready condition.
        """
        status = self._status(init, main, policy, addresses)
        if status == self._last and _ready(observed.get("status") or {}) in ("", _ready(status)):
            return
        body = {"metadata": {"uid": self._meta["uid"]}, "status": status}
        for _ in range(_ATTEMPTS):
            try:
                self._client.patch(f"{self._path}/status", body, STRATEGIC_PATCH)
                self._last = status
                return
            except ApiError as error:
                if error.status in (404, 409):
                    return
                if 400 <= error.status < 500 and error.status != 429:
                    log.error("status refused", path=self._path, error=str(error))
                    return
                time.sleep(_RETRY_DELAY)

    def _status(
        self, init: Sequence[Container], main: Sequence[Container], policy: str, addresses: Sequence[str]
    ) -> Json:
        sidecars = [item for item in init if item.sidecar]
        initialized = all(item.exit_code == 0 for item in init if not item.sidecar) and all(
            item.running for item in sidecars
        )
        now = phase(main, policy, any(item.running for item in main))
        if any(item.exit_code for item in init if not item.sidecar) and policy == "Never":
            now = "Failed"
        over = now in ("Succeeded", "Failed")
        ready = bool(main) and not over and all(item.alive and item.ready for item in (*main, *sidecars))
        reason = "PodCompleted" if over else ("" if ready else "ContainersNotReady")
        status: Json = {
            "phase": now, "startTime": self._started, "hostIP": self._host[0]["ip"], "hostIPs": self._host,
            "conditions": [self._dated(entry) for entry in (
                condition("PodReadyToStartContainers", bool(addresses) and not over),
                condition("Initialized", initialized, "" if initialized else "ContainersNotInitialized"),
                condition("Ready", ready, reason),
                condition("ContainersReady", ready, reason),
            )],
            "containerStatuses": [container_status(item, _again(item, policy)) for item in main],
        }  # fmt: skip
        if init:
            initial = "Never" if policy == "Never" else "OnFailure"
            status["initContainerStatuses"] = [
                container_status(item, not over if item.sidecar else _again(item, initial)) for item in init
            ]
        if addresses:
            status |= {"podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]}
        return status

    def _dated(self, entry: Json) -> Json:
        known = self._since.get(entry["type"])
        if known is None or known[0] != entry["status"]:
            known = self._since[entry["type"]] = (entry["status"], clock.now())
        return {**entry, "lastProbeTime": None, "lastTransitionTime": known[1]}

    def event(self, reason: str, message: str) -> None:
        """Report a Warning Event on the pod; errors are ignored."""
        namespace, now = self._meta["namespace"], clock.now()
        body = {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": f"{self._meta['name'][:200]}.", "namespace": namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace,
                               "name": self._meta["name"], "uid": self._meta["uid"]},
            "type": "Warning", "reason": reason, "message": message[:1000], "count": 1,
            "firstTimestamp": now, "lastTimestamp": now, "source": {"component": "kubelet", "host": self._node},
        }  # fmt: skip
        try:
            self._client.create(f"/api/v1/namespaces/{namespace}/events", body)
        except ApiError as error:
            log.info("event lost", reason=reason, error=str(error))


def _ready(status: Json) -> str:
    found = [entry["status"] for entry in status.get("conditions") or () if entry["type"] == "Ready"]
    return str(found[0]) if found else ""


def _again(container: Container, policy: str) -> bool:
    return policy == "Always" or (policy == "OnFailure" and container.exit_code not in (None, 0))
