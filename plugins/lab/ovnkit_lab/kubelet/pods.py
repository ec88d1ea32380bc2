"""The life of a pod: sandbox, containers, status. Each pod has a thread, like a kubelet's pod worker."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from attrs import field, frozen

from kubelab.client import ApiError, Client
from ovnkit_lab import namespaces
from ovnkit_lab.kubelet import containers as model
from ovnkit_lab.kubelet.cni import CniError, Runtime, Sandbox
from ovnkit_lab.kubelet.containers import Container
from ovnkit_lab.kubelet.probes import Prober
from ovnkit_lab.kubelet.processes import Reaper, end, start
from ovnkit_lab.kubelet.status import StatusWriter
from ovnkit_lab.layout import LabError, LabSpec, pod_directory

Json = dict[str, Any]
log = structlog.get_logger()
_LEAST_GRACE = 2.0
"""Seconds that a sidecar gets to end when its pod's others have used up the grace period, as of a kubelet."""
_SANDBOX_BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0)


@frozen(eq=False)
class NodeContext:
    """What the pods of a node share. While `is_up()` is false, nothing is done for them."""

    spec: LabSpec
    node: str
    client: Client
    cni: Runtime
    reaper: Reaper
    is_up: Callable[[], bool]
    pods_dir: Path
    log_dir: Path
    host_addresses: Sequence[str] = field(factory=tuple)


class PodWorker(threading.Thread):
    """Runs a pod; `update` takes changes of its object."""

    def __init__(self, context: NodeContext, pod: Json, done: Callable[[str], None]) -> None:
        meta = pod["metadata"]
        super().__init__(name=f"pod {meta['namespace']}/{meta['name']}", daemon=True)
        self.uid = str(meta["uid"])
        self.node = context.node
        self._context, self._pod, self._done = context, pod, done
        self._wake = threading.Condition()
        self._news = self._seen = 0
        self._gone = False
        self._sandbox: Sandbox | None = None
        self._result: Json = {}
        self._addresses: tuple[str, ...] = ()
        spec = pod["spec"]
        self._policy = str(spec.get("restartPolicy") or "Always")
        self._init = [Container(item) for item in spec.get("initContainers") or ()]
        self._sidecars = [item for item in self._init if item.sidecar]
        self._containers = [Container(item) for item in spec["containers"]]
        self._probes: list[Prober] = []
        self._status = StatusWriter(context.client, pod, context.host_addresses)
        self._log = log.bind(node=context.node, kind="Pod", namespace=meta["namespace"], name=meta["name"])

    # -- changes------------------------------------------------------------------------------------------

    def update(self, pod: Json | None) -> None:
        """Take the changed object; None when it is gone."""
        with self._wake:
            if pod is None:
                self._gone = True
            else:
                self._pod = pod
            self._news += 1
            self._wake.notify_all()

    def wake(self) -> None:
        """Wake the worker: a process exited, a probe has a new result, or the node is up again."""
        with self._wake:
            self._news += 1
            self._wake.notify_all()

    @property
    def _ending(self) -> bool:
        return self._gone or "deletionTimestamp" in self._pod["metadata"]

    def _sleep(self, seconds: float | None) -> None:
        """Wait until something has changed since the last call, for `seconds` at most."""
        with self._wake:
            self._wake.wait_for(lambda: self._news != self._seen, timeout=seconds)
            self._seen = self._news

    # -- running------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the pod until its object is gone."""
        try:
            self._forget_old_sandbox()
            if self._pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                if self._set_up() and self._initialize():
                    self._supervise()
                self._stop_processes()
                self._remove_sandbox()
                while not self._ending:
                    # Again after each change: the node may have been down when the pod completed.
                    self._write_status()
                    self._sleep(None)
            while not self._ending:
                self._sleep(None)
            self._finish()
        except Exception:
            self._log.exception("pod worker failed")
        finally:
            self._done(self.uid)

    def _set_up(self) -> bool:
        """Create the sandbox, retrying until the pod is deleted; whether that succeeded."""
        attempt = 0
        while not self._ending:
            if not self._context.is_up():
                self._sleep(0.5)
                continue
            try:
                self._make_sandbox()
                return True
            except LabError as error:
                self._log.warning("sandbox failed", error=str(error))
                self._status.event("FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
                self._remove_sandbox()
                self._sleep(_SANDBOX_BACK_OFF[min(attempt, len(_SANDBOX_BACK_OFF) - 1)])
                attempt += 1
        return False

    def _make_sandbox(self) -> None:
        meta, context = self._pod["metadata"], self._context
        if self._pod["spec"].get("hostNetwork"):
            self._addresses = tuple(context.host_addresses)
            self._record(context.spec.netns(context.node))
            return
        identity = uuid.uuid4().hex * 2
        netns = context.spec.netns(f"pod-{identity[:12]}")
        self._sandbox = Sandbox(identity, netns, meta["namespace"], meta["name"], self.uid)
        namespaces.add_namespace(netns, namespaces.POD_SETTINGS)
        self._record(netns)
        self._result = context.cni.call("ADD", self._sandbox)
        addresses = [item["address"].partition("/")[0] for item in self._result.get("ips") or ()]
        if not addresses:
            raise CniError("the CNI result has no addresses")
        self._addresses = tuple(addresses)

    def _record(self, netns: str) -> None:
        """Record the sandbox in a file, for `ovnkit lab exec` and for the next kubelet process."""
        meta = self._pod["metadata"]
        content = {
            "namespace": meta["namespace"], "name": meta["name"], "node": self._context.node, "netns": netns,
            "sandbox": self._sandbox.id if self._sandbox else "",
        }  # fmt: skip
        path = self._record_path
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".new")
        partial.write_text(json.dumps(content))
        partial.rename(path)

    @property
    def _record_path(self) -> Path:
        return self._context.pods_dir / f"{self.uid}.json"

    def _forget_old_sandbox(self) -> None:
        """Remove what an earlier kubelet process left of this pod."""
        try:
            old = json.loads(self._record_path.read_text())
        except (OSError, ValueError):
            return
        if old["sandbox"]:
            self._sandbox = Sandbox(old["sandbox"], old["netns"], old["namespace"], old["name"], self.uid)
            self._remove_sandbox()
        self._record_path.unlink(missing_ok=True)

    def _initialize(self) -> bool:
        """Run the init containers in order; whether all have succeeded. Sidecars keep running."""
        begun: list[Container] = []
        for container in self._init:
            if container.sidecar:
                self._start(container)
                begun.append(container)
                continue
            while not self._ending and container.exit_code != 0:
                if container.exit_code is not None and self._policy == "Never":
                    self._write_status()
                    return False
                self._keep([*begun, container])
                self._write_status()
                self._sleep(self._next_start([*begun, container]))
        return not self._ending

    def _keep(self, group: Sequence[Container]) -> None:
        """Start the containers that should be running, each once its back-off is over."""
        for container in group:
            if not container.alive and self._wanted(container):
                self._start_when_due(container)

    def _supervise(self) -> None:
        """Keep the containers running until the pod is complete or is being deleted."""
        group = [*self._sidecars, *self._containers]
        while not self._ending:
            self._keep(group)
            # Decided before writing: a process that exits meanwhile must not complete the pod unreported.
            over = model.phase(self._containers, self._policy, True) in ("Succeeded", "Failed")
            self._write_status()
            if over:
                return
            self._sleep(self._next_start(group))

    def _wanted(self, container: Container) -> bool:
        """Whether a container that is not running should be started."""
        if container.exit_code is None or container in self._sidecars:
            return True
        if container in self._init:
            return container.exit_code != 0
        return self._policy == "Always" or (self._policy == "OnFailure" and container.exit_code != 0)

    def _start_when_due(self, container: Container) -> None:
        now = time.monotonic()
        if container.running is not None and not container.restart_at:
            container.restart_at = now + container.back_off()
        if now < container.restart_at:
            return
        if container.running is not None:
            container.previous = container.running
            container.restarts += 1
        container.restart_at = 0.0
        self._start(container)

    def _next_start(self, group: Sequence[Container]) -> float | None:
        due = [item.restart_at for item in group if item.restart_at and not item.alive]
        return max(0.01, min(due) - time.monotonic()) if due else None

    def _start(self, container: Container) -> None:
        context, spec = self._context, container.spec
        netns = self._sandbox.netns if self._sandbox else context.spec.netns(context.node)
        env = model.environment(self._pod, spec, self._addresses, context.host_addresses)
        meta = self._pod["metadata"]
        directory = context.log_dir / "pods" / f"{pod_directory(meta['namespace'], meta['name'])}_{self.uid[:8]}"
        cwd = spec.get("workingDir") or "/"
        running = start(netns, model.command(spec, env), env, cwd if Path(cwd).is_dir() else "/",
                        directory / f"{container.name}.log")  # fmt: skip
        container.running = running
        container.ready = "readinessProbe" not in spec
        context.reaper.watch(running, self.wake)
        if not container.ready and container in (*self._sidecars, *self._containers) and container.restarts == 0:
            prober = Prober(context.spec.netns(context.node), netns, self._addresses, container, self.wake)
            self._probes.append(prober)
            prober.start()

    def _write_status(self) -> None:
        if self._context.is_up():
            self._status.write(self._init, self._containers, self._policy, self._addresses, self._pod)

    # -- stopping------------------------------------------------------------------------------------------

    def _stop_processes(self) -> None:
        for prober in self._probes:
            prober.stop()
        grace = 0.0 if self._gone else float(self._pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        if self._ending:
            self._write_status()
        until = time.monotonic() + grace
        # Sidecars serve the others to their end; they go last, in the reverse order of their start.
        others = [item for item in self._init if not item.sidecar]
        for group in ([*others, *self._containers], *([item] for item in reversed(self._sidecars))):
            running = [item.running for item in group if item.running]
            end(running, min(max(until - time.monotonic(), _LEAST_GRACE), grace), self._wake)

    def _remove_sandbox(self) -> None:
        """Detach the sandbox from the network and remove it, retrying until that succeeds."""
        sandbox, attempt = self._sandbox, 0
        while sandbox is not None:
            try:
                if self._context.is_up():
                    self._context.cni.call("DEL", sandbox, self._result)
                    namespaces.kill_all([sandbox.netns])
                    namespaces.delete_namespace(sandbox.netns)
                    self._sandbox = None
                    break
            except LabError as error:
                self._log.warning("removing the sandbox failed", error=str(error))
            self._sleep(_SANDBOX_BACK_OFF[min(attempt, len(_SANDBOX_BACK_OFF) - 1)])
            attempt += 1
        self._record_path.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Delete the object for good."""
        meta = self._pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        while not self._gone:
            if self._context.is_up():
                try:
                    self._context.client.delete(
                        path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
                    )
                    return
                except ApiError as error:
                    if error.status == 409:
                        return
                    self._log.warning("deleting the pod object failed", error=str(error))
            self._sleep(0.5)
