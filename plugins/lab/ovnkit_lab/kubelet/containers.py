"""Containers of a pod: command, environment and status, as pure functions of the specification."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define

from kubelab.clock import timestamp
from ovnkit.api.backoff import doubled
from ovnkit_lab.kubelet.processes import Running

Json = dict[str, Any]
_PAUSE = ("sleep", "infinity")
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_INHERITED = ("PATH", "LANG", "LC_ALL", "TERM", "HOME", "TMPDIR")
BACK_OFF_START = 1.0
BACK_OFF_MAX = 30.0


@define(eq=False)
class Container:
    """A container and its current process. `ready` is the result of its readiness probe."""

    spec: Json
    running: Running | None = None
    previous: Running | None = None
    restarts: int = 0
    restart_at: float = 0.0
    ready: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        """Its name in the pod."""
        return str(self.spec["name"])

    @property
    def sidecar(self) -> bool:
        """Whether an init container is a sidecar, which keeps running beside the pod's containers."""
        return self.spec.get("restartPolicy") == "Always"

    @property
    def alive(self) -> bool:
        """Whether its process is running."""
        return self.running is not None and self.running.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """Exit code of its last process; None when there was none or it is running."""
        return self.running.exit_code if self.running else None

    def back_off(self) -> float:
        """Seconds to wait before the next start, doubled with each restart."""
        return doubled(BACK_OFF_START, BACK_OFF_MAX, self.restarts - 1) if self.restarts else 0.1


def command(spec: Json, env: Mapping[str, str]) -> list[str]:
    """The argument vector: command and args; a pause when both are left to the image."""
    words = [*(spec.get("command") or ()), *(spec.get("args") or ())]
    return [expand(str(word), env) for word in words] or list(_PAUSE)


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value; unknown names stay as they are, `$$` becomes `$`."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return env.get(match[1], match[0])

    return _REFERENCE.sub(one, text)


def environment(pod: Json, spec: Json, addresses: Sequence[str], host_addresses: Sequence[str]) -> dict[str, str]:
    """The environment: some of the machine's variables, the host name, and the container's own variables."""
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # A host name is limited to 63 characters; a kubelet cuts longer pod names, too.
    env["HOSTNAME"] = pod["spec"].get("hostname") or pod["metadata"]["name"][:63].rstrip("-.")
    for item in spec.get("env") or ():
        if "valueFrom" in item:
            path = (item["valueFrom"].get("fieldRef") or {}).get("fieldPath", "")
            env[item["name"]] = _field(pod, path, addresses, host_addresses)
        else:
            env[item["name"]] = expand(str(item.get("value") or ""), env)
    return env


def _field(pod: Json, path: str, addresses: Sequence[str], host_addresses: Sequence[str]) -> str:
    known = {
        "status.podIP": (addresses or [""])[0], "status.podIPs": ",".join(addresses),
        "status.hostIP": (host_addresses or [""])[0], "status.hostIPs": ",".join(host_addresses),
    }  # fmt: skip
    if path in known:
        return known[path]
    match = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if match:
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value) if not isinstance(value, dict) else ""


def _terminated(running: Running) -> Json:
    code = running.exit_code or 0
    return {
        "exitCode": code, "reason": "Completed" if code == 0 else "Error",
        "startedAt": timestamp(running.started), "finishedAt": timestamp(running.finished),
    }  # fmt: skip


def container_status(container: Container, restarts_again: bool) -> Json:
    """An entry of `containerStatuses`."""
    state: Json
    if container.alive and container.running:
        state = {"running": {"startedAt": timestamp(container.running.started)}}
    elif container.running and not restarts_again:
        state = {"terminated": _terminated(container.running)}
    elif container.running:
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": f"back-off {container.back_off():.0f}s"}}
    else:
        state = {"waiting": {"reason": "ContainerCreating"}}
        if container.problem:
            state["waiting"]["message"] = container.problem
    last = container.previous or (container.running if not container.alive and restarts_again else None)
    return {
        "name": container.name, "image": container.spec.get("image", ""), "imageID": "",
        "containerID": f"lab://{container.running.process.pid}" if container.running else "",
        "ready": container.alive and container.ready, "started": container.alive,
        "restartCount": container.restarts, "state": state,
        "lastState": {"terminated": _terminated(last)} if last else {},
    }  # fmt: skip


def phase(containers: Sequence[Container], policy: str, started: bool) -> str:
    """The pod's phase."""
    if not started:
        return "Pending"
    if all(item.exit_code is not None for item in containers) and policy != "Always":
        codes = [item.exit_code for item in containers]
        if not any(codes):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    return "Running"


def condition(kind: str, value: bool, reason: str = "") -> Json:
    """An entry of `conditions`, without the transition time."""
    entry: Json = {"type": kind, "status": "True" if value else "False"}
    if reason:
        entry["reason"] = reason
    return entry
