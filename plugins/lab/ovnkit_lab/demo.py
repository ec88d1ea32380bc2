"""`ovnkit lab demo`: a lab, the manifests of examples/, and a table of who reaches whom."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from ovnkit.api.terminal import print_table, styled
from ovnkit.network.names import MANAGEMENT_LINK
from ovnkit_lab import apiservers, connect, labs, settings
from ovnkit_lab.client import Client
from ovnkit_lab.controllers.world import is_true
from ovnkit_lab.lab import Lab
from ovnkit_lab.layout import LabError
from ovnkit_lab.progress import Reporter

Json = dict[str, Any]
NAMESPACE = "demo"
_PODS_DEADLINE = 60.0
_SERVER_PORTS = {"tcp": 8080, "udp": 9000, "icmp": 0}


@frozen
class Connection:
    """One try: from a namespace to an address. `names` and `where` are for the table."""

    netns: str
    source: str
    target: str
    where: str
    protocol: str
    address: str
    port: int


@click.command()
@click.option("--name", default="demo", show_default=True, help="The lab.")
@click.option("--keep", is_flag=True, help="Leave the lab up.")
@click.option("--manifests", default="", metavar="DIR", help="Instead of examples/.")
def demo(
    name: str, nodes: int, zones: str, ip_family: str, config: str, ovn: str, keep: bool, manifests: str
) -> None:
    """Bring a lab up, apply the manifests of examples/, and show who reaches whom.

    Exit code 1 when a connection fails. The lab is taken down at the end unless --keep.
    """
    directory = _manifests(manifests)
    reporter = Reporter()
    lab: Lab | None = None
    try:
        with reporter.running():
            if labs.remove(name):
                reporter.done(f"an earlier lab {name} was removed")
            text = settings.read_user_config(config)
            lab = labs.create(name, nodes, zones, ip_family, text, ovn, reporter.say)
            reporter.done(f"lab {name} is up: {nodes} nodes, {ip_family}, zones {zones}")
            results = _show_connections(lab, directory, reporter)
        failed = _print(results)
        if failed:
            raise LabError(f"{failed} of {len(results)} connections failed")
    finally:
        if keep and lab is not None:
            click.echo(f'the lab stays: eval "$(ovnkit lab env --name {name})"', err=True)
        else:
            labs.remove(name)
            reporter.done(f"lab {name} is down")


def _manifests(directory: str) -> Path:
    path = Path(directory) if directory else Path(__file__).with_name("examples")
    if not any(path.glob("*.yaml")):
        raise LabError(f"no manifests in {path}; name a directory with --manifests")
    return path


def _show_connections(lab: Lab, directory: Path, reporter: Reporter) -> list[tuple[Connection, Json]]:
    reporter.say(f"kubectl apply -f {directory.name}/")
    _apply(lab, directory)
    api = apiservers.client(lab.spec)
    pods = _wait_for_pods(api, reporter)
    reporter.done(f"{len(pods)} pods are ready")
    reporter.say("trying connections")
    return _try(list(_connections(lab, pods)))


def _apply(lab: Lab, directory: Path) -> None:
    if not shutil.which("kubectl"):
        raise LabError("kubectl is missing: install it (make setup does)")
    command = ["kubectl", "--kubeconfig", str(lab.files.kubeconfig), "apply", "-f", str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if result.returncode:
        raise LabError(f"kubectl apply: {result.stderr.strip()}")


def _wait_for_pods(api: Client, reporter: Reporter) -> list[Json]:
    """The demo's pods once as many are ready as the workloads ask for; raises LabError."""
    end = time.monotonic() + _PODS_DEADLINE
    while True:
        wanted = sum(
            (item.get("status") or {}).get("desiredNumberScheduled", 0) or item["spec"].get("replicas", 0)
            for kind in ("deployments", "daemonsets")
            for item in api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}")["items"]
        )
        pods = api.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
        waiting = [pod["metadata"]["name"] for pod in pods if not is_true(pod, "Ready")]
        if len(pods) >= wanted > 2 and not waiting:
            return list(pods)
        reporter.say(f"waiting for pods: {len(pods) - len(waiting)} of {wanted} are ready")
        if time.monotonic() > end:
            raise LabError(f"pods not ready after {_PODS_DEADLINE:.0f} s: {', '.join(waiting)}: {_why(api)}")
        time.sleep(0.25)


def _why(api: Client) -> str:
    events = api.get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    messages = [item.get("message", "") for item in events if item.get("type") == "Warning"]
    return messages[-1] if messages else "no event says why"


def _connections(lab: Lab, pods: Sequence[Json]) -> Iterator[Connection]:
    servers = [pod for pod in pods if pod["metadata"]["labels"].get("app") == "server"]
    netns = {record["name"]: record["netns"] for record in _records(lab)}
    for client in (pod for pod in pods if pod["metadata"]["labels"].get("app") == "client"):
        name, node = client["metadata"]["name"], client["spec"]["nodeName"]
        source = f"pod {name}"
        for server in servers:
            yield from _to_server(netns[name], source, node, server)
        for other in lab.spec.nodes:
            for address in _management_addresses(lab, other):
                where = _where(node, other)
                yield Connection(netns[name], source, f"host {other}", where, "icmp", address, 0)
    for node in lab.spec.nodes:
        for server in servers:
            yield from _to_server(lab.spec.netns(node), f"host {node}", node, server)


def _to_server(netns: str, source: str, node: str, server: Json) -> Iterator[Connection]:
    target, where = f"pod {server['metadata']['name']}", _where(node, server["spec"]["nodeName"])
    for item in server["status"]["podIPs"]:
        for protocol, port in _SERVER_PORTS.items():
            yield Connection(netns, source, target, where, protocol, item["ip"], port)


def _where(node: str, other: str) -> str:
    return "same node" if node == other else "other node"


def _records(lab: Lab) -> list[Json]:
    return [json.loads(path.read_text()) for path in lab.files.pods.glob("*.json")]


def _management_addresses(lab: Lab, node: str) -> list[str]:
    command = [
        "ip",
        "-n",
        lab.spec.netns(node),
        "-j",
        "address",
        "show",
        "dev",
        MANAGEMENT_LINK,
        "scope",
        "global",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    links = json.loads(result.stdout or "[]")
    # iproute2 leaves an empty object for each address that the filter drops.
    return [item["local"] for link in links for item in link.get("addr_info") or () if item]


def _try(connections: Sequence[Connection]) -> list[tuple[Connection, Json]]:
    """Try them all, one process for each namespace they come from."""
    groups: dict[str, list[Connection]] = {}
    for connection in connections:
        groups.setdefault(connection.netns, []).append(connection)
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda netns: _try_from(netns, groups[netns]), groups)
        return [pair for group in answers for pair in group]


def _try_from(netns: str, group: Sequence[Connection]) -> list[tuple[Connection, Json]]:
    targets = [(item.protocol, item.address, item.port) for item in group]
    command = ["ip", "netns", "exec", netns, sys.executable, "-I", str(connect.__file__)]
    result = subprocess.run(
        command, input=json.dumps(targets), capture_output=True, text=True, check=False, timeout=300
    )
    if result.returncode:
        raise LabError(f"trying connections from {netns}: {result.stderr.strip()[-200:]}")
    return list(zip(group, json.loads(result.stdout), strict=True))


def _print(results: Sequence[tuple[Connection, Json]]) -> int:
    """Print the table; the number of failures."""
    rows = []
    failed = 0
    for item, answer in results:
        address = f"{item.address}" if not item.port else _endpoint(item.address, item.port)
        if answer["ok"]:
            outcome, latency = styled("ok", "green"), f"{answer['milliseconds']:.2f} ms"
        else:
            failed += 1
            outcome, latency = styled(answer["error"], "red"), ""
        rows.append((item.source, item.target, address, item.where, item.protocol, outcome, latency))
    print_table(("from", "to", "address", "", "protocol", "result", "latency"), rows, right=["latency"])
    return failed


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ip_address(address).version == 6 else f"{address}:{port}"
