"""A lab for tests, driven through its command line alone, as a user would. Import the fixtures in a conftest."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import field, frozen

from kubelab.objects import is_true

T = TypeVar("T")
Json = dict[str, Any]
MAX_LABS = 2
"""Labs that one session keeps up; each costs about 100 MB per node."""


def wait_until(condition: Callable[[], T | None], deadline: float = 20.0, what: str = "") -> T:
    """Ask until the answer is true; it then. Fails the test after `deadline` seconds with the last answer."""
    end = time.monotonic() + deadline
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(
                f"{what or 'the condition'} isn't so after {deadline:.0f} s; the last answer was {answer!r}"
            )
        time.sleep(0.1)


def ovnkit_lab(
    *arguments: str, input: str | None = None, check: bool = False, timeout: float = 240,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run `ovnkit lab …`, in `env` if given; with `check` a failure fails the test with what was said.

    Tables are wide: a library may have told the terminal's width to all child processes.
    """
    command = [sys.executable, "-m", "ovnkit_lab", *arguments]
    env = {**(os.environ if env is None else env), "COLUMNS": "250"}
    result = subprocess.run(
        command, input=input, capture_output=True, text=True, check=False, timeout=timeout, env=env
    )
    if check and result.returncode:
        pytest.fail(f"{shlex.join(command[2:])}: exit code {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


@frozen
class LabHandle:
    """A lab that is up."""

    name: str
    families: tuple[int, ...] = (4,)
    per_node_zones: bool = True
    nodes: tuple[str, ...] = ("node1", "node2")
    environment: dict[str, str] = field(factory=dict)

    def run(
        self, command: str, *arguments: str, input: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`ovnkit lab COMMAND --name …`."""
        return ovnkit_lab(command, "--name", self.name, *arguments, input=input, check=check)

    def exec(
        self, pod: str, *command: str, input: str | None = None, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod (`namespace/name`, or `name` in default)."""
        return self.run("exec", pod, "--", *command, input=input, check=check)

    def node(self, node: str, *command: str, check: bool = True) -> str:
        """What a command on a node prints."""
        return self.run("node", node, "--", *command, check=check).stdout

    def external(self, *command: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command on the host outside the cluster."""
        return self.run("external", "--", *command, check=check)

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        """What kubectl prints."""
        result = subprocess.run(
            ["kubectl", *arguments], input=input, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, **self.environment},
        )  # fmt: skip
        if check and result.returncode:
            pytest.fail(f"kubectl {shlex.join(arguments)}: {result.stderr}\n{result.stdout}")
        return result.stdout

    def apply(self, *objects: Json) -> None:
        """`kubectl apply` of objects."""
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, kind: str, name: str = "", namespace: str = "default") -> Json:
        """An object, or the list of a kind; empty when it isn't there."""
        text = self.kubectl(
            "get", kind, *([name] if name else []), "-n", namespace, "-o", "json", "--ignore-not-found"
        )
        return dict(json.loads(text)) if text.strip() else {} if name else {"items": []}

    def pod(self, name: str, *command: str, namespace: str = "default", node: str = "", **spec: object) -> Json:
        """A pod's manifest: it runs `command` (default: nothing) on `node` (default: any)."""
        container: Json = {"name": "main", "image": "any"}
        if command:
            container["command"] = list(command)
        placed = {"nodeName": node} if node else {}
        return {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **placed, **spec},
        }  # fmt: skip

    def wait_ready(self, *names: str, namespace: str = "default", deadline: float = 40) -> None:
        """Return when these pods are Ready (`kubectl wait` takes 0.2 s for each)."""

        def unready() -> list[str]:
            items = self.get("pods", namespace=namespace)["items"]
            ready = {item["metadata"]["name"] for item in items if is_true(item, "Ready")}
            return sorted(set(names) - ready)

        wait_until(lambda: not unready(), deadline, what=f"{', '.join(names[:5])} being Ready")

    def pod_ips(self, name: str, namespace: str = "default") -> list[str]:
        """The addresses of a pod."""
        status = self.get("pod", name, namespace).get("status") or {}
        return [item["ip"] for item in status.get("podIPs") or ()]

    def pings(self, pod: str, address: str) -> bool:
        """Whether a pod gets an answer from an address."""
        return self.exec(pod, "ping", "-c", "1", "-W", "1", address).returncode == 0

    def delete(self, kind: str, *names: str, namespace: str = "default") -> None:
        """`kubectl delete`; returns when the objects are gone."""
        self.kubectl("delete", kind, *names, "-n", namespace, "--ignore-not-found", "--wait=false")

        def left() -> set[str]:
            items = self.get(kind, namespace=namespace)["items"]
            return {item["metadata"]["name"] for item in items} & set(names)

        wait_until(lambda: not left(), 60, what=f"{kind} {', '.join(names[:5])} being gone")


class LabFactory:
    """Brings labs up when they are first asked for, and down when the session ends or others need the room."""

    def __init__(self) -> None:
        self._labs: dict[tuple[str, ...], LabHandle] = {}
        self._count = 0

    def __call__(
        self, *, nodes: int = 2, zones: str = "per-node", ip_family: str = "ipv4", config: str = "", ovn: str = ""
    ) -> LabHandle:
        """The lab of this make. `config` is the text of a configuration file."""
        key = (str(nodes), zones, ip_family, config, ovn)
        if key in self._labs:
            self._labs[key] = handle = self._labs.pop(key)
            return handle
        while len(self._labs) >= MAX_LABS:
            self._down(next(iter(self._labs)))
        handle = self._up(nodes, zones, ip_family, config, ovn)
        self._labs[key] = handle
        return handle

    def has(self, lab: LabHandle) -> bool:
        """Whether a lab is still up: it may have made room for another before those who used it clean up."""
        return lab in self._labs.values()

    def _up(self, nodes: int, zones: str, ip_family: str, config: str, ovn: str) -> LabHandle:
        self._count += 1
        name = f"t{os.getpid()}-{self._count}"
        with tempfile.TemporaryDirectory() as directory:
            arguments = ["--nodes", str(nodes), "--zones", zones, "--ip-family", ip_family, "--ovn", ovn]
            if config:
                path = Path(directory, "ovnkit.toml")
                path.write_text(config)
                arguments += ["--config", str(path)]
            ovnkit_lab("up", "--name", name, *arguments, check=True)
        return LabHandle(
            name=name, families={"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}[ip_family],
            per_node_zones=zones == "per-node", nodes=tuple(f"node{number + 1}" for number in range(nodes)),
            environment=exports(name),
        )  # fmt: skip

    def _down(self, key: tuple[str, ...]) -> None:
        ovnkit_lab("down", "--name", self._labs.pop(key).name, check=True)

    def close(self) -> None:
        """Take every lab down."""
        for key in list(self._labs):
            self._down(key)


def exports(name: str) -> dict[str, str]:
    """The variables that `ovnkit lab env` exports, as a shell understands them."""
    text = ovnkit_lab("env", "--name", name, check=True).stdout
    names = [line.removeprefix("export ").partition("=")[0] for line in text.splitlines()]
    shown = "\n".join(f'printf "%s\\0" "{variable}=${variable}"' for variable in names)
    result = subprocess.run(["sh", "-c", f"{text}\n{shown}"], capture_output=True, text=True, check=True)
    return dict(item.split("=", 1) for item in result.stdout.split("\0") if item)


_FACTORY = LabFactory()
"""One for all suites of a session: each conftest that imports the fixture defines it anew."""


@pytest.fixture(scope="session")
def lab_factory() -> Iterator[LabFactory]:
    """Labs by their make; those of one make are shared by the session."""
    try:
        yield _FACTORY
    finally:
        _FACTORY.close()


@pytest.fixture
def lab(lab_factory: LabFactory, request: pytest.FixtureRequest) -> LabHandle:
    """A shared lab of two nodes; parametrize it indirectly with the keyword arguments of the factory."""
    return lab_factory(**getattr(request, "param", {}))
