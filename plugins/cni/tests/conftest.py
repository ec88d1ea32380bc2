"""A node in a network namespace with real Open vSwitch, and a runtime of the test's making."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from ovsdbapp.backend.ovs_idl import connection
from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

from ovnkit.api.config import CniOptions, Config, OvsPathsOptions
from ovnkit.api.hooks import Scope
from ovnkit.api.models import NODES, PODS, Pod
from ovnkit.api.models import Node as NodeView
from ovnkit.api.renderers import Role
from ovnkit.network.node import NODE_SUBNETS
from ovnkit.network.pod import ANNOTATION
from ovnkit.testing.daemons import Daemon, locate, ovsdb_server, vswitchd
from ovnkit_cni.commands import Commands
from ovnkit_cni.install import install_shim
from ovnkit_cni.server import CniServer
from ovnkit_lab.testing import lab, labs  # noqa: F401

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

NETWORK = {
    "default": {
        "ip_addresses": ["10.128.1.5/24", "fd00:10:244:2::5/64"],
        "mac_address": "0a:58:0a:80:01:05",
        "gateway_ips": ["10.128.1.1", "fd00:10:244:2::1"],
        "routes": [
            {"dest": "10.128.0.0/14", "nextHop": "10.128.1.1"},
            {"dest": "172.16.1.0/24", "nextHop": "10.128.1.1"},
            {"dest": "fd00:10:244::/48", "nextHop": "fd00:10:244:2::1"},
        ],
        "role": "primary",
    }
}

SUBNETS = json.dumps({"default": ["10.128.1.0/24", "fd00:10:244:2::/64"]})


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def until(condition: Callable[[], Any], what: str, deadline: float = 15.0) -> Any:
    end = time.monotonic() + deadline
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline} s: {what}")
        time.sleep(0.02)
    return found


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Wait for a condition, with words for what is waited for."""
    return until


def make_pod(name: str = "web", uid: str = "uid-1", **annotations: Any) -> Pod:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in annotations.items()}
    return Pod(
        namespace="shop", name=name, uid=uid, labels={}, annotations=texts, deleting=False, finalizers=(),
        resource_version="1", node="n1", host_network=False, completed=False, ready=False, addresses=(), ports=(),
    )  # fmt: skip


class Hooks:
    def each(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        return []

    def first(self, hook: str, **arguments: Any) -> None:
        return None


class FakeRuntime:
    """Pods are set by the test; the rest is real."""

    def __init__(self, config: Config, ovs: OvsdbIdl | None) -> None:
        self.config = config
        self.scope = Scope(frozenset({Role.NODE}), "n1", "n1", True)
        self.hooks = Hooks()
        self._ovs = ovs
        self.node = NodeView("", "n1", "", {}, {NODE_SUBNETS: SUBNETS}, False, (), "1", ())
        self._pods: dict[str, Pod] = {}
        self._changed = threading.Condition()

    def set(self, pod: Pod) -> Pod:
        with self._changed:
            self._pods[pod.key] = pod
            self._changed.notify_all()
        return pod

    def annotate(self, pod: Pod, **annotations: Any) -> Pod:
        added = {key.replace("__", "/"): value for key, value in annotations.items()}
        return self.set(evolve(pod, annotations={**pod.annotations, **added}))

    def delete(self, key: str) -> None:
        with self._changed:
            self._pods.pop(key, None)
            self._changed.notify_all()

    def get(self, kind: Any, key: str) -> Any:
        if kind is NODES:
            return self.node if key == self.node.name else None
        assert kind is PODS
        return self._pods.get(key)

    def get_pod(self, key: str) -> Pod:
        return self._pods[key]

    refresh = get

    def wait_for(self, kind: Any, key: str, timeout: float, ready: Any) -> Any:
        with self._changed:
            if not self._changed.wait_for(lambda: ready(self._pods.get(key)), timeout):
                raise TimeoutError(key)
            return self._pods.get(key)

    def ovs(self) -> Any:
        assert self._ovs is not None
        return self._ovs

    def call_soon(self, function: Any) -> None:
        raise AssertionError("not used")


@frozen
class Node:
    """A node: where things are, and how the test reaches them."""

    runtime: FakeRuntime
    commands: Commands
    shim: Path
    db: str

    def vsctl(self, *arguments: str) -> str:
        return run("ovs-vsctl", f"--db=unix:{self.db}", "--timeout=10", *arguments).strip()

    def interfaces(self) -> dict[str, Mapping[str, str]]:
        rows = json.loads(self.vsctl("--format=json", "--columns=name,external_ids", "list", "Interface"))["data"]
        return {name: dict(ids[1]) for name, ids in rows}

    def pods_plugged(self) -> set[str]:
        return {name for name, ids in self.interfaces().items() if "sandbox" in ids}

    def install(self, deadline: float = 15.0, *, but: set[str] | None = None) -> None:
        """Do what ovn-controller does: say that the flows of each new port are installed."""
        for name in until(lambda: self.pods_plugged() - (but or set()), "a port on br-int", deadline):
            self.vsctl("set", "Interface", name, "external_ids:ovn-installed=true")

    def start_cni(self, command: str, pod: str = "web", uid: str = "uid-1", **more: Any) -> subprocess.Popen[str]:
        sandbox = more.get("sandbox", "0123456789abcdef0123456789abcdef")
        config = more.get(
            "config", {"cniVersion": "1.1.0", "name": "ovn-kubernetes", "type": "ovn-k8s-cni-overlay"}
        )
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": sandbox,
            "CNI_NETNS": more.get("netns", ""),
            "CNI_IFNAME": more.get("ifname", "eth0"),
            "CNI_PATH": str(self.shim.parent),
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID={uid}",
        }
        process = subprocess.Popen(
            [str(self.shim)], env=env | more.get("env", {}), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(config if isinstance(config, str) else json.dumps(config))
            process.stdin.close()
        process.stdin = None
        return process

    def cni(self, command: str, **more: Any) -> tuple[int, Any]:
        """Exit status and decoded standard output."""
        return finish(self.start_cni(command, **more))

    def add(self, **more: Any) -> Any:
        """A successful ADD; its result."""
        before = self.pods_plugged()
        process = self.start_cni("ADD", **more)
        self.install(but=before)
        status, result = finish(process)
        assert status == 0, result
        return result


def finish(process: subprocess.Popen[str], timeout: float = 30.0) -> tuple[int, Any]:
    out, err = process.communicate(timeout=timeout)
    assert err == ""
    return process.returncode, json.loads(out) if out.strip() else None


@pytest.fixture(scope="module")
def home() -> Iterator[None]:
    """The test's thread, and all it starts, in a network namespace of its own."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if LIBC.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        run("ip", "link", "set", "lo", "up")
        yield
    finally:
        assert LIBC.setns(before, CLONE_NEWNET) == 0
        os.close(before)


@pytest.fixture(scope="module")
def switch(home: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Open vSwitch with br-int; the path of its database socket."""
    directory = tmp_path_factory.mktemp("ovs")
    install = locate("host")
    sock = directory / "db.sock"
    daemons: list[Daemon] = []
    try:
        server = ovsdb_server(
            install, directory, {"ovs": directory / "conf.db"},
            name="ovsdb-server", remotes=[f"punix:{sock}"], log_dir=directory,
        )  # fmt: skip
        daemons.append(server)
        server.start()
        run("ovs-vsctl", f"--db=unix:{sock}", "--no-wait", "init")
        switch = vswitchd(install, directory, log_dir=directory)
        daemons.append(switch)
        switch.start()
        run("ovs-vsctl", f"--db=unix:{sock}", "--timeout=10", "add-br", "br-int", "--",
            "set", "Bridge", "br-int", "datapath_type=netdev", "fail_mode=secure")  # fmt: skip
        yield str(sock)
    finally:
        for daemon in reversed(daemons):
            daemon.stop()


@pytest.fixture
def node(switch: str, tmp_path: Path) -> Iterator[Node]:
    """A node with an empty br-int and a running CNI server."""
    idl = connection.OvsdbIdl.from_server(f"unix:{switch}", "Open_vSwitch")
    link = connection.Connection(idl, timeout=10)
    cni = CniOptions(
        conf_dir=str(tmp_path / "conf"), bin_dir=str(tmp_path / "bin"), run_dir=str(tmp_path / "run"), logfile=""
    )
    config = evolve(Config(), cni=cni, ovspaths=OvsPathsOptions(ovs_run_dir=str(Path(switch).parent)))
    # ovsdbapp keeps the connection in the class; each test needs its own.
    runtime = FakeRuntime(config, type("Ovs", (OvsdbIdl,), {})(link))
    commands = Commands(runtime)  # type: ignore[arg-type]
    server = CniServer(tmp_path / "run", commands)
    server.start()
    try:
        yield Node(runtime, commands, install_shim(cni), switch)
    finally:
        server.stop()
        for name in runtime_ports(switch):
            run("ovs-vsctl", f"--db=unix:{switch}", "--timeout=10", "--if-exists", "del-port", name)
        run("ovs-vsctl", f"--db=unix:{switch}", "--", "--all", "destroy", "QoS", "--", "--all", "destroy", "Queue")
        for item in json.loads(run("ip", "-j", "link", "show", "type", "veth") or "[]"):
            subprocess.run(["ip", "link", "del", item["ifname"]], check=False, capture_output=True)
        link.stop(timeout=5)


def runtime_ports(switch: str) -> list[str]:
    return run("ovs-vsctl", f"--db=unix:{switch}", "--timeout=10", "list-ports", "br-int").split()


@frozen
class Sandbox:
    """A pod's network namespace."""

    name: str

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def ip(self, *arguments: str) -> Any:
        return json.loads(run("ip", "-n", self.name, "-j", *arguments) or "[]")

    def addresses(self, name: str = "eth0") -> set[str]:
        return {
            f"{item['local']}/{item['prefixlen']}"
            for link in self.ip("addr", "show", "dev", name)
            for item in link["addr_info"]
            if item["scope"] == "global"
        }

    def has(self, name: str) -> bool:
        return name in {link["ifname"] for link in self.ip("link", "show")}


@pytest.fixture
def sandbox_maker(home: None) -> Iterator[Callable[[], Sandbox]]:
    made: list[Sandbox] = []

    def make() -> Sandbox:
        sandbox = Sandbox(f"cnitest-{os.getpid()}-{len(made)}")
        run("ip", "netns", "add", sandbox.name)
        made.append(sandbox)
        return sandbox

    yield make
    for sandbox in made:
        subprocess.run(["ip", "netns", "del", sandbox.name], check=False)


@pytest.fixture
def sandbox(sandbox_maker: Callable[[], Sandbox]) -> Sandbox:
    return sandbox_maker()


@pytest.fixture
def pod(node: Node) -> Pod:
    return node.runtime.set(make_pod(**{ANNOTATION: NETWORK}))  # type: ignore[arg-type]
