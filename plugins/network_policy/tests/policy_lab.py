"""The cluster of the lab tests: pods that talk to each other when they are told to, see `policy_agent`."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import policy_agent
from attrs import frozen

from ovnkit_lab.testing import Json, LabHandle, wait_until

TIMEOUT = 0.5
"""Seconds after which a connection counts as refused by a policy; one that is allowed takes milliseconds."""

PLACES = {
    "red/one": "node1", "red/two": "node2", "green/one": "node1", "green/two": "node2", "blue/one": "node1",
    "hosts/one": "node1", "hosts/two": "node2",
}  # fmt: skip
OUTSIDE = "outside"
"""The host outside of the cluster, as an end of a connection."""


@frozen
class Try:
    """A connection from one end to another; ends are pods (`namespace/name`), a service, or OUTSIDE."""

    source: str
    target: str
    protocol: str = "TCP"
    port: int = 80


Verdicts = bool | list[bool]
"""Whether a connection is made: in every family, or a list of one for each."""


def _by_family(verdicts: Verdicts, answers: list[bool]) -> list[bool]:
    return verdicts if isinstance(verdicts, list) else [verdicts] * len(answers)


class Cluster:
    """Pods of three namespaces on two nodes, a pod with the host's network on each node, and a host outside.

    A namespace has the label `team` with its name, a pod the label `app` with its name; container port 8080 is
    called `web`. The pods of namespace hosts have their node's network.
    """

    def __init__(self, lab: LabHandle) -> None:
        self.lab = lab
        self.folder = Path(tempfile.mkdtemp(prefix="ovnkit-pol-"))
        self._pool = ThreadPoolExecutor(32)
        self.addresses: dict[str, list[str]] = {}
        for namespace in ("red", "green", "blue", "hosts"):
            lab.apply(self.namespace(namespace))
        self.start(*PLACES)
        fabric = lab.external("ip", "-j", "address", "show", "eth0").stdout
        outside = [each["local"] for each in json.loads(fabric)[0]["addr_info"] if each["scope"] == "global"]
        self.addresses[OUTSIDE] = [each for each in outside if (6 if ":" in each else 4) in lab.families]
        self._agent_outside()

    def namespace(self, name: str, **labels: str) -> Json:
        """The manifest of a namespace."""
        meta = {"name": name, "labels": {"team": name, **labels}}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}

    def pod(self, name: str, **labels: str) -> Json:
        """The manifest of a pod with an agent."""
        namespace, _, short = name.partition("/")
        command = (sys.executable, policy_agent.__file__, str(self._socket(name)))
        place: dict[str, Any] = {
            "namespace": namespace,
            "node": PLACES.get(name, "node1"),
            "hostNetwork": namespace == "hosts",
        }
        found = self.lab.pod(short, *command, **place)
        found["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": 8080}]
        found["metadata"]["labels"] = {"app": short, **labels}
        return found

    def start(self, *names: str, **labels: str) -> None:
        """Make pods, and wait until their agents answer."""
        self.lab.apply(*(self.pod(name, **labels) for name in names))
        for name in names:
            namespace, _, short = name.partition("/")
            wait_until(self._socket(name).exists, 60, f"{name} runs")
            wait_until(lambda found=(short, namespace): self.lab.pod_ips(*found), 60, f"{name} has addresses")  # type: ignore[misc]
            self.addresses[name] = self.lab.pod_ips(short, namespace)

    def _socket(self, name: str) -> Path:
        return self.folder / name.replace("/", "-")

    def _agent_outside(self) -> None:
        control, log = self._socket(OUTSIDE), self.folder / "outside.log"
        command = f"exec setsid {sys.executable} {policy_agent.__file__} {control} >{log} 2>&1 </dev/null &"
        self.lab.external("sh", "-c", command, check=True)
        wait_until(control.exists, 30, "the agent outside runs")

    def close(self) -> None:
        """Leave nothing behind."""
        self._ask(OUTSIDE, {"do": "exit"})
        self.lab.kubectl("delete", "namespace", "red", "green", "blue", "hosts", "--wait=false")
        self._pool.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- connections --------------------------------------------------------------------------------------------

    def _ask(self, name: str, request: Mapping[str, Any]) -> Any:
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rw") as stream:
            client.connect(str(self._socket(name)))
            json.dump(request, stream)
            stream.write("\n")
            stream.flush()
            text = stream.read()
            return json.loads(text) if text else None

    def reach(self, name: str, probes: Iterable[tuple[str, str, int]], source: str = "") -> list[bool]:
        """Whether each of (protocol, address, port) can be had from an end, if wanted with a source address."""
        request = {"do": "try", "probes": list(probes), "timeout": TIMEOUT, "source": source}
        answer: list[bool] = self._ask(name, request)
        return answer

    def _families(self, tried: Try) -> list[tuple[str, str, int]]:
        return [(tried.protocol, address, tried.port) for address in self.addresses[tried.target]]

    def differing(self, expected: Mapping[Try, Verdicts]) -> dict[Try, list[bool]]:
        """What is not as expected: the answers by family."""
        by_source: dict[str, list[Try]] = {}
        for tried in expected:
            by_source.setdefault(tried.source, []).append(tried)

        def ask(source: str) -> list[tuple[Try, list[bool]]]:
            probes = [self._families(tried) for tried in by_source[source]]
            answers = iter(self.reach(source, (probe for listed in probes for probe in listed)))
            return [
                (tried, [next(answers) for _ in listed])
                for tried, listed in zip(by_source[source], probes, strict=True)
            ]

        return {
            tried: answers
            for listed in self._pool.map(ask, by_source)
            for tried, answers in listed
            if answers != _by_family(expected[tried], answers)
        }

    def settles(self, expected: Mapping[Try, Verdicts]) -> None:
        """Wait until each connection is made or refused as expected, in every family, and stays so."""
        end = time.monotonic() + 60
        left = dict(expected)
        while found := self.differing(left):
            assert time.monotonic() < end, found
            left = {tried: expected[tried] for tried in found}
        left = dict(expected)
        while found := self.differing(left):
            # A busy machine may be late with a connection, but never makes one that is refused.
            for tried, answers in found.items():
                wanted = _by_family(expected[tried], answers)
                assert not [made for made, may in zip(answers, wanted, strict=True) if made and not may], tried
            assert time.monotonic() < end, found
            left = {tried: expected[tried] for tried in found}

    def open(self, tried: Try) -> list[int]:
        """Connections that stay open, one per family."""
        found = [self._ask(tried.source, {"do": "open", "probe": probe}) for probe in self._families(tried)]
        assert None not in found, found
        return found

    def talks(self, tried: Try, numbers: Iterable[int]) -> list[bool]:
        """Whether what is sent on open connections comes back."""
        request = {"do": "talk", "timeout": TIMEOUT}
        return [self._ask(tried.source, {**request, "number": number}) for number in numbers]

    # -- objects ------------------------------------------------------------------------------------------------

    def policy(self, name: str, spec: dict[str, Any], namespace: str = "red") -> None:
        """Apply a policy; without podSelector it is for all pods."""
        self.lab.apply(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"podSelector": {}, **spec},
            }
        )

    def service(self, name: str, pod: str, port: int, target: int) -> str:
        """A service in front of one pod; its name as an end of connections."""
        namespace, _, short = pod.partition("/")
        families = ["IPv6" if family == 6 else "IPv4" for family in self.lab.families]
        spec = {
            "selector": {"app": short},
            "ports": [{"port": port, "targetPort": target}],
            "ipFamilies": families,
            "ipFamilyPolicy": "RequireDualStack" if len(families) == 2 else "SingleStack",
        }
        meta = {"name": name, "namespace": namespace}
        self.lab.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
        end = f"service {namespace}/{name}"
        self.addresses[end] = self.lab.get("service", name, namespace)["spec"]["clusterIPs"]
        return end

    def clean(self) -> None:
        """Take away the policies and services of a test."""
        self.lab.kubectl("delete", "networkpolicy", "--all", "-A", "--wait=false")
        for end in [end for end in self.addresses if end.startswith("service ")]:
            del self.addresses[end]
            namespace, _, name = end.removeprefix("service ").partition("/")
            self.lab.kubectl("delete", "service", name, "-n", namespace, "--wait=false")
