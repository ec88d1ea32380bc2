"""A lab for tests, driven through its command line alone, as a user would. Import the fixtures in a conftest."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, field, frozen

from kubelab.objects import is_true
from ovnkit_lab.settings import toml_value

T = TypeVar("T")
Json = dict[str, Any]
MAX_LABS = 6
"""Labs that one session keeps up; each costs about 100 MB per node, and 2 % of a core while nobody uses it."""
CLEAN_SECONDS = 15.0
"""How long what was deleted may take to go."""
KINDS = "namespaces,pods,services,endpointslices,networkpolicies,egressfirewalls,deployments,daemonsets"


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

    def delete_services(self) -> None:
        """Delete all services and EndpointSlices in the namespace default, but for those of the API server."""
        for kind in ("service", "endpointslice"):
            names = [item["metadata"]["name"] for item in self.get(kind)["items"]]
            others = [name for name in names if name != "kubernetes"]
            if others:
                self.kubectl("delete", kind, *others, "--ignore-not-found", "--wait=false")


@frozen
class Layout:
    """What tells labs apart: labs of one layout are lent to one test after the other.

    `config` is a configuration as sorted keys with their values, so that texts which mean the same are one layout.
    """

    nodes: int = 2
    zones: str = "per-node"
    ip_family: str = "ipv4"
    config: tuple[tuple[str, str], ...] = ()
    ovn: str = ""

    def __str__(self) -> str:
        settings = ", ".join(f"{key} = {value}" for key, value in self.config)
        nodes, ovn = f"{self.nodes} nodes" if self.nodes > 1 else "1 node", f", OVN of the {self.ovn}"
        return f"{self.ip_family}, {self.zones}, {nodes}{ovn if self.ovn else ''}" + (
            f"; {settings}" if settings else ""
        )


STANDARD = {"gateway": {"mode": "shared", "nodeport": True}}
"""What a shared lab has unless its users ask for something else."""


def layout(
    *, nodes: int = 2, zones: str = "per-node", ip_family: str = "ipv4", config: str = "", ovn: str = ""
) -> Layout:
    """The layout of a lab; `config` is the text of a configuration file, beyond `STANDARD`."""
    wanted = tomllib.loads(config)
    merged = {
        section: {**STANDARD.get(section, {}), **wanted.get(section, {})} for section in {*STANDARD, *wanted}
    }
    found = {
        f"{section}.{key}": toml_value(value) for section, keys in merged.items() for key, value in keys.items()
    }
    return Layout(nodes, zones, ip_family, tuple(sorted(found.items())), ovn)


@define
class _Lent:
    """A lab that is up."""

    handle: LabHandle
    clean: frozenset[str]
    users: int = 0


class LabPool:
    """Labs by layout, brought up when they are first asked for, lent to one test after the other.

    A lab that comes back with things in it that weren't there at first is taken down, and whoever left them fails.
    When there are too many, the one that was lent the longest ago makes room.
    """

    def __init__(self) -> None:
        self.brought_up: list[tuple[Layout, float]] = []
        """Every layout that was brought up, and in how many seconds."""
        self.lent = 0
        self._labs: dict[Layout, _Lent] = {}

    @contextmanager
    def lend(
        self, *, nodes: int = 2, zones: str = "per-node", ip_family: str = "ipv4", config: str = "", ovn: str = ""
    ) -> Iterator[LabHandle]:
        """A lab of this layout, which must be as it was when it is given back."""
        wanted = layout(nodes=nodes, zones=zones, ip_family=ip_family, config=config, ovn=ovn)
        lab = self._lab(wanted)
        lab.users += 1
        try:
            yield lab.handle
        except BaseException:
            self._down(wanted)  # nobody knows in what state it is
            raise
        finally:
            lab.users -= 1
        if lab.users:
            return  # somebody else still has things in it
        left = self._left(lab)
        if left:
            self._down(wanted)
            pytest.fail(f"left in the lab ({wanted}): {', '.join(left)}", pytrace=False)

    @contextmanager
    def own(
        self, *, nodes: int = 2, zones: str = "per-node", ip_family: str = "ipv4", config: str = "", ovn: str = ""
    ) -> Iterator[LabHandle]:
        """A lab of one's own, for tests that restart or break daemons or nodes; it goes down afterwards."""
        wanted = layout(nodes=nodes, zones=zones, ip_family=ip_family, config=config, ovn=ovn)
        self._make_room()
        handle = self._up(wanted)
        try:
            yield handle
        finally:
            ovnkit_lab("down", "--name", handle.name, check=True)

    def close(self) -> None:
        """Take every lab down that nobody uses any more: each suite's fixture calls this, in any order."""
        for key, lab in list(self._labs.items()):
            if not lab.users:
                self._down(key)

    def report(self) -> list[str]:
        """Which labs were brought up, how often and in what time: lines for the end of a test run."""
        layouts = Counter(str(made) for made, _ in self.brought_up)
        seconds = {name: sum(took for made, took in self.brought_up if str(made) == name) for name in layouts}
        return [
            f"{self.lent} times lent, {len(self.brought_up)} brought up in {sum(seconds.values()):.0f} s",
            *(f"{count} x {name}: {seconds[name]:.0f} s" for name, count in layouts.most_common()),
        ]

    def _lab(self, wanted: Layout) -> _Lent:
        self.lent += 1
        found = self._labs.pop(wanted, None)
        if found is None:
            self._make_room()
            handle = self._up(wanted)
            found = _Lent(handle, inventory(handle))
        self._labs[wanted] = found
        return found

    def _left(self, lab: _Lent) -> list[str]:
        """What a lab has that it hadn't at first, when that has had time to go."""
        end = time.monotonic() + CLEAN_SECONDS
        while (now := inventory(lab.handle)) != lab.clean and time.monotonic() < end:
            time.sleep(0.3)
        return [*sorted(now - lab.clean), *(f"{name} is gone" for name in sorted(lab.clean - now))]

    def _make_room(self) -> None:
        for key, lab in list(self._labs.items()):
            if len(self._labs) >= MAX_LABS and not lab.users:
                self._down(key)

    def _up(self, wanted: Layout) -> LabHandle:
        begun = time.monotonic()
        name = f"t{os.getpid()}-{len(self.brought_up) + 1}"
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "ovnkit.toml")
            path.write_text("\n".join(f"{key} = {value}" for key, value in wanted.config))
            arguments = ["--nodes", str(wanted.nodes), "--zones", wanted.zones, "--ip-family", wanted.ip_family]
            arguments += ["--ovn", wanted.ovn, "--config", str(path)]
            ovnkit_lab("up", "--name", name, *arguments, check=True)
        handle = LabHandle(
            name=name, families={"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}[wanted.ip_family],
            per_node_zones=wanted.zones == "per-node",
            nodes=tuple(f"node{number + 1}" for number in range(wanted.nodes)), environment=exports(name),
        )  # fmt: skip
        self.brought_up.append((wanted, time.monotonic() - begun))
        return handle

    def _down(self, key: Layout) -> None:
        lab = self._labs.pop(key, None)
        if lab is not None:
            ovnkit_lab("down", "--name", lab.handle.name, check=True)


def inventory(lab: LabHandle) -> frozenset[str]:
    """What tests may have left in a lab: objects, and what the plugins have in the northbounds."""
    listed = lab.kubectl("get", KINDS, "-A", "-o", "name", "--show-kind", "--ignore-not-found")
    objects = {line for line in listed.split() if not line.startswith("event")}
    rows = set()
    for zone in lab.nodes if lab.per_node_zones else lab.nodes[:1]:
        for table in ("Port_Group", "Address_Set", "Load_Balancer", "Logical_Switch_Port", "ACL", "QoS"):
            columns = "--columns=name" if table not in ("ACL", "QoS") else "--columns=external_ids"
            text = lab.node(zone, "ovn-nbctl", "--no-leader-only", "--bare", columns, "list", table)
            rows |= {f"{table} {line} of {zone}" for line in text.splitlines() if line.strip()}
    return frozenset(objects | rows)


def exports(name: str) -> dict[str, str]:
    """The variables that `ovnkit lab env` exports, as a shell understands them."""
    text = ovnkit_lab("env", "--name", name, check=True).stdout
    names = [line.removeprefix("export ").partition("=")[0] for line in text.splitlines()]
    shown = "\n".join(f'printf "%s\\0" "{variable}=${variable}"' for variable in names)
    result = subprocess.run(["sh", "-c", f"{text}\n{shown}"], capture_output=True, text=True, check=True)
    return dict(item.split("=", 1) for item in result.stdout.split("\0") if item)


LABS = LabPool()
"""One for all suites of a session: each conftest that imports the fixtures defines them anew."""


@pytest.fixture(scope="session")
def labs() -> Iterator[LabPool]:
    """Labs by their layout, shared by the whole session."""
    try:
        yield LABS
    finally:
        LABS.close()


@pytest.fixture(scope="module")
def lab(labs: LabPool, request: pytest.FixtureRequest) -> Iterator[LabHandle]:
    """A lab of two nodes, lent to the module; parametrize it indirectly with the arguments of `LabPool.lend`."""
    with labs.lend(**getattr(request, "param", {})) as lent:
        yield lent
