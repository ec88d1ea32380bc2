"""CNI ADD, fifty at once and one at a time: `python -m bench.cni`, or `make bench-cni`.

A lab of one node whose kubelet is stopped; this takes its place. The pods have their addresses and logical switch
ports already, as a kubelet finds them, and are plugged by executing the CNI binary as a container runtime does.
The floor plugs the same pods in the same run by the least that a script would do: `ip` for the pair, the address
and the route, one `ovs-vsctl` for the port, and then OVN's flows, which no plugin can do without.
"""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import click
from attrs import frozen

from bench.latencies import p50, p99, until
from bench.rawdb import Monitor
from bench.report import Row, show
from bench.rig import Usage
from ovnkit.network.pod import ANNOTATION, PodNetwork, parse
from ovnkit_lab import namespaces
from ovnkit_lab.kubelet.cni import Runtime, Sandbox
from ovnkit_lab.lab import Lab
from ovnkit_lab.layout import CONTROL
from ovnkit_lab.testing import LabHandle, LabPool

T = TypeVar("T")
NODE, NAMESPACE = "node1", "default"
PATIENCE = 60.0
"""Seconds that pods may take to get their addresses, and OVN for its flows."""
MTU = 1400
BY_HAND = """
set -e
ip -batch - <<END
link add {link} mtu {mtu} type veth peer name eth0 address {mac} mtu {mtu} netns {netns}
link set {link} up
END
ip -n {netns} -batch - <<END
link set eth0 up
address add {address} dev eth0
route add default via {gateway}
END
nsenter --net=/run/netns/{netns} ethtool -K eth0 tx off >/dev/null
{vsctl} --no-wait add-port br-int {link} \\
    -- set interface {link} external_ids:iface-id={port} external_ids:iface-id-ver={uid}
"""


@frozen
class Pod:
    """A pod to plug: its object, what its annotation says, and its network namespace."""

    name: str
    uid: str
    network: PodNetwork
    netns: str


@frozen
class Took:
    """Seconds for one pod: by hand until the port's row is there, and OVN's flows; then those of the commands."""

    row: float
    flows: float
    add: float
    delete: float
    cpu: float
    """CPU seconds of the node's ovnkit for ADD."""


class Node:
    """The node of a lab, and pods that nobody plugs but this."""

    def __init__(self, handle: LabHandle, count: int) -> None:
        self._handle, self._lab = handle, Lab.open(handle.name)
        self._lab.daemons(CONTROL)["kubelet"].stop()
        spec, files = self._lab.spec, self._lab.files
        self._netns = spec.netns(NODE)
        self._cni = Runtime(self._netns, files.cni_conf(NODE), files.cni_bin(NODE))
        socket = files.ovs(NODE) / "db.sock"
        self._vsctl = [str(files.bin / "ovs-vsctl"), f"--db=unix:{socket}"]
        self._flows = Monitor(socket, {"Interface": ["name", "external_ids"]}, _installed, "Open_vSwitch")
        self.pods = self._make(count)

    def _make(self, count: int) -> list[Pod]:
        names = [f"bench-{number}" for number in range(count)]
        self._handle.apply(*(self._handle.pod(name, namespace=NAMESPACE, node=NODE) for name in names))
        found: dict[str, Pod] = {}

        def all_have_addresses() -> bool:
            for item in self._handle.get("pods", namespace=NAMESPACE)["items"]:
                name, uid = item["metadata"]["name"], item["metadata"]["uid"]
                network = parse((item["metadata"].get("annotations") or {}).get(ANNOTATION))
                if network is not None:
                    found[name] = Pod(name, uid, network, self._lab.spec.netns(f"pod-{name}"))
            return found.keys() >= set(names)

        until(all_have_addresses, PATIENCE, pause=0.2)
        for pod in found.values():
            namespaces.add_namespace(pod.netns, namespaces.POD_SETTINGS)
        self._rest()
        return [found[name] for name in names]

    def _rest(self) -> None:
        """Return when OVN has nothing left to do."""
        self._handle.node(NODE, "ovn-nbctl", "--wait=hv", "sync")

    def _usage(self) -> float:
        return Usage.of(self._lab.daemons(NODE)["ovnkit"].pid).cpu

    def plug(self, pods: Sequence[Pod]) -> list[Took]:
        """Plug these pods at once by hand, take them off, and once more through the CNI."""
        by_hand = self._by_hand(pods)
        sandboxes = [Sandbox(uuid.uuid4().hex * 2, pod.netns, NAMESPACE, pod.name, pod.uid) for pod in pods]
        before = self._usage()
        add = _at_once(self._add, list(zip(pods, sandboxes, strict=True)))
        self._rest()
        cpu = (self._usage() - before) / len(pods)
        delete = _at_once(lambda sandbox: self._cni.call("DEL", sandbox), sandboxes)
        self._rest()
        seconds = zip(by_hand, add, delete, strict=True)
        return [Took(*raw, begun.seconds, ended.seconds, cpu) for raw, begun, ended in seconds]

    def _by_hand(self, pods: Sequence[Pod]) -> list[tuple[float, float]]:
        links = [f"raw{uuid.uuid4().hex[:8]}" for _ in pods]
        spans = _at_once(self._plug_by_hand, list(zip(pods, links, strict=True)))
        until(lambda: self._flows.first.keys() >= set(links), PATIENCE)
        namespaces.ip_batch(self._netns, [f"link del {link}" for link in links])
        removals = [word for link in links for word in ("--", "del-port", "br-int", link)]
        subprocess.run([*self._vsctl, *removals], check=True)
        self._rest()
        first = self._flows.first
        return [(span.seconds, first[link] - span.began) for span, link in zip(spans, links, strict=True)]

    def _plug_by_hand(self, item: tuple[Pod, str]) -> None:
        pod, link = item
        script = BY_HAND.format(
            link=link, mtu=MTU, mac=pod.network.mac_address, netns=pod.netns, vsctl=" ".join(self._vsctl),
            address=pod.network.ip_addresses[0], gateway=pod.network.gateway_ips[0],
            port=f"{NAMESPACE}_{pod.name}", uid=pod.uid,
        )  # fmt: skip
        subprocess.run(["nsenter", f"--net=/run/netns/{self._netns}", "--", "sh", "-c", script], check=True)

    def _add(self, item: tuple[Pod, Sandbox]) -> None:
        pod, sandbox = item
        said = [address["address"] for address in self._cni.call("ADD", sandbox)["ips"]]
        if said != [str(address) for address in pod.network.ip_addresses]:
            raise RuntimeError(f"{pod.name} got {said}")


@frozen
class Span:
    """When something began (monotonic clock) and how many seconds it took."""

    began: float
    seconds: float


def _at_once(work: Callable[[T], Any], items: Sequence[T]) -> list[Span]:
    """Do it for all items at the same time, a thread each; raises what one of them raised."""
    gate = threading.Barrier(len(items))

    def one(item: T) -> Span:
        gate.wait()
        began = time.monotonic()
        work(item)
        return Span(began, time.monotonic() - began)

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(one, items))


def _installed(row: dict[str, Any]) -> str | None:
    """The name of an Interface whose flows are there."""
    return str(row["name"]) if ["ovn-installed", "true"] in row["external_ids"][1] else None


def _rows(case: str, groups: Sequence[Sequence[Took]]) -> Iterator[Row]:
    """ADD beside its floor, then DEL; `groups` are the pods that were plugged at the same time."""
    every = [took for group in groups for took in group]

    def row(name: str, value: float, floor: float | None = None, note: str = "") -> Row:
        return Row("cni", f"{case}: {name}", value * 1e3, "ms", floor * 1e3 if floor else None, note=note)

    measures: dict[str, Callable[[list[float]], float]] = {"p50": p50, "p99": p99, "slowest": max}
    for name, measure in measures.items():
        floor = measure([took.flows for took in every])
        note = f"the port's row alone: {measure([took.row for took in every]) * 1e3:.0f} ms"
        yield row(f"ADD, {name}", measure([took.add for took in every]), floor, note)
    if len(groups[0]) > 1:
        last = p50([max(took.add for took in group) for group in groups])
        floor = p50([max(took.flows for took in group) for group in groups])
        yield row("ADD, until the last is done", last, floor, f"median of {len(groups)}")
    yield row("ADD, CPU of ovnkit for each", statistics.mean(took.cpu for took in every))
    for name in ("p50", "p99"):
        yield row(f"DEL, {name}", measures[name]([took.delete for took in every]))


@click.command()
@click.option("--pods", default=50, show_default=True, help="Plugged at once.")
@click.option("--repeat", default=5, show_default=True, help="How often.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(pods: int, repeat: int, output: str) -> None:
    """Bring a lab up, plug pods at once and one by one, by hand and through the CNI, print the times."""
    rows: list[Row] = []
    with LabPool().own(nodes=1) as lab:
        node = Node(lab, pods)
        node.plug(node.pods[:1])
        rows += _rows(f"{pods} at once", [node.plug(node.pods) for _ in range(repeat)])
        rows += _rows("one at a time", [node.plug([pod]) for pod in node.pods * 2])
    show(rows, output)


if __name__ == "__main__":
    main()
