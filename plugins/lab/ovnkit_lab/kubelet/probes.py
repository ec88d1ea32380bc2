"""Readiness probes: from the node's network for HTTP and TCP, in the pod's for commands, as a kubelet does."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any

from ovnkit_lab import namespaces
from ovnkit_lab.kubelet.containers import Container


class Prober(threading.Thread):
    """Probes a container until stopped; sets its `ready`, and calls `changed` when that has changed."""

    def __init__(
        self, node_netns: str, pod_netns: str, addresses: Sequence[str], container: Container,
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(name=f"probe {container.name}", daemon=True)
        self._node_netns, self._pod_netns = node_netns, pod_netns
        self._address = addresses[0]
        self._container, self._changed = container, changed
        self._probe: dict[str, Any] = container.spec["readinessProbe"]
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop probing."""
        self._stopped.set()

    def run(self) -> None:
        """Probe periodically, and apply the thresholds."""
        namespaces.enter(self._node_netns)
        probe, streak, last = self._probe, 0, False
        self._stopped.wait(probe.get("initialDelaySeconds") or 0)
        while not self._stopped.wait(0 if streak == 0 and not last else probe.get("periodSeconds") or 10):
            good = self._container.alive and self._once(probe.get("timeoutSeconds") or 1)
            streak = streak + 1 if good == last else 1
            last = good
            needed = (probe.get("successThreshold") or 1) if good else (probe.get("failureThreshold") or 3)
            if streak >= needed and self._container.ready != good:
                self._container.ready = good
                self._changed()

    def _once(self, timeout: float) -> bool:
        if "exec" in self._probe:
            return self._command(timeout)
        action = self._probe.get("httpGet") or self._probe.get("tcpSocket")
        if not action:
            return True
        host, port = action.get("host") or self._address, self._port(action["port"])
        try:
            if "httpGet" not in self._probe:
                socket.create_connection((host, port), timeout).close()
                return True
            connection = HTTPConnection(host, port, timeout=timeout)
            headers = {item["name"]: item["value"] for item in action.get("httpHeaders") or ()}
            connection.request("GET", action.get("path") or "/", headers=headers)
            status = connection.getresponse().status
            connection.close()
            return 200 <= status < 400
        except (OSError, HTTPException):
            return False

    def _command(self, timeout: float) -> bool:
        command = ["ip", "netns", "exec", self._pod_netns, *self._probe["exec"]["command"]]
        try:
            return subprocess.run(command, capture_output=True, timeout=timeout, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        for item in self._container.spec.get("ports") or ():
            if item.get("name") == port:
                return int(item["containerPort"])
        return int(port)
