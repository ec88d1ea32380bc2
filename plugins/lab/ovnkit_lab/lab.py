"""A lab: bringing it up, its daemons, and what can be done to its nodes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from kubelab.client import ApiError
from kubelab.objects import is_true
from ovnkit.testing.daemons import Daemon, DaemonError, OvnInstall
from ovnkit_lab import access, control_plane, health, layout, namespaces, pki, settings, stack
from ovnkit_lab.interrupts import Interrupted, undisturbed
from ovnkit_lab.layout import CONTROL, Files, LabError, LabSpec

Say = Callable[[str], None]
_READY_DEADLINE = 120.0
_STEP = 0.1
_CAUSES = 3
"""How many causes are told; more than the first few rarely tell more."""
_FLOWS_SECONDS = 10.0
"""How long ovn-controller may take to write its flows to a switch that was restarted."""
_WARM_UP_SECONDS = 5
"""How long nodes may take to hear of each other; a switch that starts needs a moment for its flows."""


class Lab:
    """A lab that exists, or that is being created."""

    def __init__(self, spec: LabSpec, say: Say = lambda _text: None) -> None:
        self.spec = spec
        self.files = Files(spec.name)
        self._say = say

    @classmethod
    def open(cls, name: str, say: Say = lambda _text: None) -> Lab:
        """The lab of this name; raises LabError when there is none."""
        return cls(layout.load(name), say)

    @cached_property
    def install(self) -> OvnInstall:
        """The lab's OVN."""
        return OvnInstall(Path(self.spec.ovn_root))

    def host(self, name: str) -> str:
        """The name of a node or of the control host; raises LabError for any other."""
        known = (*self.spec.nodes, CONTROL)
        if name not in known:
            raise LabError(f"lab {self.spec.name} has no node {name!r}; it has {', '.join(known)}")
        return name

    # -- daemons ------------------------------------------------------------------------------------------

    def daemons(self, host: str) -> dict[str, Daemon]:
        """The daemons of a node or of `control` in starting order, by the names that `restart` and `logs` take."""
        if host == CONTROL:
            central = stack.central_daemons(self.spec, self.install, CONTROL)
            python = [sys.executable, "-m"]
            return {
                **control_plane.daemons(self.spec),
                **central,
                "ovnkit": self._ovnkit(CONTROL),
                "kubelet": self._own("kubelet", [*python, "ovnkit_lab.kubelet", self.spec.name]),
                **control_plane.managers(self.spec),
                **control_plane.controllers(self.spec),
            }
        host = self.host(host)
        return {**stack.node_daemons(self.spec, self.install, host), "ovnkit": self._ovnkit(host)}

    def _ovnkit(self, host: str) -> Daemon:
        command = [*access.ovnkit_command(), "run", "--config", str(self.files.config(host))]
        for role in self.spec.roles(host):
            command += ["--role", role]
        if host != CONTROL:
            command += ["--node-name", host]
        scripts = str(Path(sys.executable).parent)
        path = f"{self.files.bin}:{scripts}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
        return Daemon(
            name=f"ovnkit of {host}", command=command, netns=self.spec.netns(host),
            log=self.files.log(host) / "ovnkit.log", pid_file=self.files.host(host) / "ovnkit.daemon",
            env={**stack.tool_environment(self.spec, host), "PATH": path, "KUBECONFIG": ""},
        )  # fmt: skip

    def _own(self, name: str, command: list[str]) -> Daemon:
        # Namespaces that the kubelet adds must be visible to the whole machine: it shares the mounts.
        return Daemon(
            name=name, command=command, netns=self.spec.netns(CONTROL), share_mounts=True,
            env={"PYTHONUNBUFFERED": "1"},
            log=self.files.log(CONTROL) / f"{name}.log", pid_file=self.files.host(CONTROL) / f"{name}.daemon",
        )  # fmt: skip

    # -- up -----------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Bring everything up and return when all nodes are Ready. Raises LabError or DaemonError."""
        spec = self.spec
        spec.save()
        self._say(f"fabric and {len(spec.nodes)} nodes of lab {spec.name} ({spec.ip_family}, zones {spec.zones})")
        for host in spec.hosts:
            namespaces.add_namespace(spec.netns(host))
        namespaces.build_fabric(spec)
        self.files.log(CONTROL).mkdir(parents=True, exist_ok=True)
        settings.write_configs(spec)
        stack.write_tools(spec, self.install)
        with ThreadPoolExecutor(4) as pool:
            roles, crds = pool.submit(access.roles_of, spec), pool.submit(access.crds_of, spec)
            jobs = [
                pool.submit(self._start_control, roles, crds),
                *(pool.submit(self._start_stack, node) for node in spec.nodes),
            ]
            try:
                wait(jobs)
            except Interrupted:
                self._abandon(pool, jobs)
                raise
            for job in jobs:
                job.result()
        self._say("ovnkit on every host")
        for host in (CONTROL, *spec.nodes):
            self.daemons(host)["ovnkit"].launch()
        self.wait_nodes()
        self.warm_up()
        self.files.ready.touch()

    def _abandon(self, pool: Executor, jobs: Sequence[Future[None]]) -> None:
        """End all jobs soon: kill what they wait for, as often as they start it."""
        pool.shutdown(wait=False, cancel_futures=True)
        with undisturbed():
            while not all(job.done() for job in jobs):
                namespaces.kill_all(self.spec.netns(host) for host in self.spec.hosts)
                time.sleep(_STEP)

    def _start_control(self, roles: Future[access.Roles], crds: Future[list[dict[str, Any]]]) -> None:
        spec = self.spec
        self._say("certificates and the Kubernetes API")
        pki.make(spec)
        daemons = self.daemons(CONTROL)
        for name, daemon in daemons.items():
            if name not in ("ovnkit", "kubelet", "controllers", *control_plane.managers(spec)):
                daemon.start()
        control_plane.wait_ready(spec, daemons["apiserver"], self._say)
        token = pki.token(spec, pki.ADMIN)
        pki.write_kubeconfig(spec, self.files.kubeconfig, pki.machine_url(spec), pki.ADMIN, token)
        pki.write_kubeconfig(spec, self.files.fabric_kubeconfig, pki.fabric_url(spec), pki.ADMIN, token)
        api = control_plane.client(spec)
        control_plane.write_credentials(spec)
        for name in ("kubelet", "controllers", *control_plane.managers(spec)):
            if name in daemons:
                daemons[name].launch()
        access.grant(spec, api, roles.result())
        access.define(api, crds.result())
        access.advertise(spec, api)

    def _start_stack(self, node: str) -> None:
        self._say(f"Open vSwitch and OVN of {node}")
        stack.start_node(self.spec, self.install, node)

    def wait_nodes(self, deadline: float = _READY_DEADLINE) -> None:
        """Wait until every node that isn't down is Ready; raises LabError with the cause when that fails."""
        api = control_plane.client(self.spec)
        end = time.monotonic() + deadline
        said: set[str] = set()
        patience = health.Patience()
        while True:
            try:
                items = {item["metadata"]["name"]: item for item in api.get("/api/v1/nodes")["items"]}
            except ApiError:
                items = {}
            waiting = {
                node for node in self.spec.nodes
                if not self.is_down(node) and not (node in items and is_true(items[node], "Ready"))
            }  # fmt: skip
            if not waiting:
                return
            if waiting != said:
                self._say(f"waiting for {', '.join(sorted(waiting))} to be Ready")
                said = waiting
            self._check_alive()
            if patience.over(partial(self._states, waiting)) or time.monotonic() > end:
                raise LabError(f"not Ready: {', '.join(sorted(waiting))}: {self._cause(waiting)}")
            time.sleep(_STEP)

    def _check_alive(self) -> None:
        """Raise DaemonError when a daemon that must run has exited."""
        for host in (CONTROL, *self.spec.nodes):
            if self.is_down(host):
                continue
            for daemon in self.daemons(host).values():
                if daemon.pid_file.exists() and not daemon.running:
                    raise DaemonError(f"{daemon.name} exited: {daemon.last_words()} (log: {daemon.log})")

    def _cause(self, nodes: set[str]) -> str:
        """Why these nodes aren't Ready, from the status of ovnkit there and on the control host."""
        found = health.causes(self._states(nodes))
        return "; ".join(found[:_CAUSES]) or self.daemons(min(nodes))["ovnkit"].last_words()

    def _states(self, nodes: set[str]) -> dict[str, dict[str, Any]]:
        return health.states(self.files, (CONTROL, *sorted(nodes)))

    def warm_up(self) -> None:
        """Let all nodes resolve each other: userspace tunnels drop what they send to an unknown neighbour."""
        address = {node: str(self.spec.addresses(node)[0].ip) for node in self.spec.nodes}
        running = [
            subprocess.Popen(
                [
                    "ip", "netns", "exec", self.spec.netns(node),
                    "ping", "-c", "1", "-i", "0.2", "-w", str(_WARM_UP_SECONDS), address[other],
                ],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for node in self.spec.nodes for other in self.spec.nodes
            if node != other and not self.is_down(node) and not self.is_down(other)
        ]  # fmt: skip
        for process in running:
            process.wait()

    # -- nodes and daemons ---------------------------------------------------------------------------------------

    def is_down(self, host: str) -> bool:
        """Whether a node was taken down."""
        return self.files.down_marker(host).exists()

    def node_down(self, node: str) -> None:
        """Power a node off: disconnect its cable and kill its daemons."""
        daemons = self.daemons(node)
        self.files.down_marker(node).touch()
        namespaces.set_link(self.spec, node, up=False)
        for daemon in daemons.values():
            daemon.kill()

    def node_up(self, node: str) -> None:
        """Power a node on again: cable, daemons, addresses; returns when the node is Ready."""
        daemons = self.daemons(node)
        namespaces.set_link(self.spec, node, up=True)
        stack.start_node(self.spec, self.install, node)
        daemons["ovnkit"].launch()
        self.files.down_marker(node).unlink(missing_ok=True)
        self.wait_nodes()
        self.warm_up()

    def restart(self, host: str, name: str) -> str:
        """Restart a daemon of a host, and return the host it runs on: that of a shared one is `control`."""
        daemons = self.daemons(host)
        if name not in daemons:
            control = self.daemons(CONTROL)
            if name not in control:
                raise LabError(f"{host} has no daemon {name!r}; it has {', '.join(daemons)}")
            host, daemons = CONTROL, control
        self._say(f"restarting {name} of {host}")
        flows = self._flow_count(host) if name == "ovs-vswitchd" else 0
        daemon = daemons[name]
        daemon.restart()
        if name == "ovs-vswitchd":
            stack.restore_host(self.spec, host)
            self._await_flows(host, flows)
            self.warm_up()
        if name == "ovnkit":
            self.files.restarts(host).unlink(missing_ok=True)
            self._say(f"waiting for ovnkit of {host} to be ready")
            health.wait_ready(self.files, host, daemon)
        if name in ("apiserver", "etcd"):
            control_plane.wait_ready(self.spec, daemons["apiserver"], self._say)
        if name in ("etcd", "kubelet", "controllers", *control_plane.managers(self.spec)):
            health.wait_alive(daemon)
        return host

    def _flow_count(self, host: str) -> int:
        """The number of flows of a node's integration bridge; 0 when no switch answers."""
        said = self.run_in(
            host, ["ovs-ofctl", "-O", "OpenFlow15", "dump-aggregate", "br-int"], capture=True
        ).stdout
        found = re.search(rb"flow_count=(\d+)", said)
        return int(found[1]) if found else 0

    def _await_flows(self, host: str, before: int) -> None:
        """Wait, for a limited time, until ovn-controller has written about as many flows as there were before."""
        self._say(f"waiting for the flows of {host}")
        end = time.monotonic() + _FLOWS_SECONDS
        while self._flow_count(host) < before * 0.9 and time.monotonic() < end:
            time.sleep(_STEP)

    def run_in(
        self, host: str, command: list[str], *, netns: str = "", capture: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on a host (or in `netns`), with the host's tools and this process' standard streams."""
        env = {**os.environ, **stack.tool_environment(self.spec, host), "KUBECONFIG": str(self.files.kubeconfig)}
        env["PATH"] = f"{self.files.bin}:{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        return subprocess.run(
            ["ip", "netns", "exec", netns or self.spec.netns(host), *command],
            env=env, capture_output=capture, check=False,
        )  # fmt: skip
