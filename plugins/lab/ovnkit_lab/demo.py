"""`ovnkit lab demo`: a lab, the manifests of an example, and tables of who reaches whom."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from kubelab.client import Client
from kubelab.objects import is_true
from ovnkit.api.terminal import print_table, styled
from ovnkit.network.names import MANAGEMENT_LINK
from ovnkit_lab import control_plane, labs, promises, settings
from ovnkit_lab.connections import Connection, Outcome, endpoint, pod_namespaces, try_all
from ovnkit_lab.example import ALL, DEFAULT, Name, read
from ovnkit_lab.lab import Lab
from ovnkit_lab.layout import LabError
from ovnkit_lab.progress import Reporter

Json = dict[str, Any]
NAMESPACE = "demo"
_PODS_DEADLINE = 60
_SERVER_PORTS = {"tcp": 8080, "udp": 9000, "icmp": 0}


@click.command()
@click.option("--name", default="demo", show_default=True, help="The lab.")
@click.option("--keep", is_flag=True, help="Leave the lab up.")
@click.option(
    "--example",
    type=Name(),
    default=DEFAULT,
    show_default=True,
    help="One of those in examples/.",
)
@click.option("--manifests", default="", metavar="DIR", help="Another directory, made as those in examples/ are.")
def demo(
    name: str,
    nodes: int,
    zones: str,
    ip_family: str,
    config: str,
    ovn: str,
    keep: bool,
    example: str,
    manifests: str,
) -> None:
    """Bring a lab up, apply the manifests of an example, and show who reaches whom.

    Exit code 1 when something is not as the example promises: its file expect.toml says what that is, without one
    all connections must come about. The lab is taken down at the end unless --keep.

    \b
    Examples:
      ovnkit lab demo
      ovnkit lab demo --example network_policy --ip-family dual --keep
    """
    chosen = read(Path(manifests) if manifests else ALL / example)
    text = settings.read_user_config(config or chosen.config)
    reporter = Reporter()
    lab: Lab | None = None
    try:
        with reporter.running():
            if labs.remove(name):
                reporter.done(f"an earlier lab {name} was removed")
            lab = labs.create(name, nodes, zones, ip_family, text, ovn, reporter.say)
            reporter.done(f"lab {name} is up: {nodes} nodes, {ip_family}, zones {zones}")
            reporter.say(f"kubectl apply -f {chosen.folder.name}/")
            _kubectl(lab, "apply", "-f", str(chosen.folder))
            if chosen.reach or chosen.show:
                _kubectl(
                    lab, "wait", "pods", "--all", "-A", "--for=condition=Ready", f"--timeout={_PODS_DEADLINE}s"
                )
                show: Callable[[], tuple[int, int]] = promises.check(lab, chosen, reporter).show
            else:
                show = partial(_show, _try_all_connections(lab, reporter))
        failed, tried = show()
        if failed:
            raise LabError(f"{failed} of {tried} are not as they should be")
    finally:
        if keep and lab is not None:
            click.echo(f'the lab stays: eval "$(ovnkit lab env --name {name})"', err=True)
        else:
            labs.remove(name)
            reporter.done(f"lab {name} is down")


def _try_all_connections(lab: Lab, reporter: Reporter) -> list[tuple[Connection, Outcome]]:
    api = control_plane.client(lab.spec)
    pods = _wait_for_pods(api, reporter)
    reporter.done(f"{len(pods)} pods are ready")
    reporter.say("trying connections")
    tried = list(_connections(lab, pods))
    return list(zip(tried, try_all(tried), strict=True))


def _kubectl(lab: Lab, *arguments: str) -> None:
    if not shutil.which("kubectl"):
        raise LabError("kubectl is not installed; `make setup` installs it")
    command = ["kubectl", "--kubeconfig", str(lab.files.kubeconfig), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PODS_DEADLINE + 60)
    if result.returncode:
        raise LabError(f"kubectl {arguments[0]}: {result.stderr.strip()}")


def _wait_for_pods(api: Client, reporter: Reporter) -> list[Json]:
    """Wait until as many pods are ready as the workloads ask for, and return them; raises LabError."""
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
            raise LabError(f"pods not ready after {_PODS_DEADLINE} s: {', '.join(waiting)}: {_why(api)}")
        time.sleep(0.25)


def _why(api: Client) -> str:
    events = api.get(f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    messages = [item.get("message", "") for item in events if item.get("type") == "Warning"]
    return messages[-1] if messages else "no event says why"


def _connections(lab: Lab, pods: Sequence[Json]) -> Iterator[Connection]:
    servers = [pod for pod in pods if pod["metadata"]["labels"].get("app") == "server"]
    netns = pod_namespaces(lab)
    for client in (pod for pod in pods if pod["metadata"]["labels"].get("app") == "client"):
        name, node = client["metadata"]["name"], client["spec"]["nodeName"]
        source = f"pod {name}"
        for server in servers:
            yield from _to_server(netns[f"{NAMESPACE}/{name}"], source, node, server)
        for other in lab.spec.nodes:
            for address in _management_addresses(lab, other):
                where = _where(node, other)
                yield Connection(netns[f"{NAMESPACE}/{name}"], source, f"host {other}", where, "icmp", address, 0)
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
    # iproute2 prints an empty object for each address that the filter leaves out.
    return [item["local"] for link in links for item in link.get("addr_info") or () if item]


def _show(results: Sequence[tuple[Connection, Outcome]]) -> tuple[int, int]:
    """Print the table; how many connections failed, of how many."""
    rows = [
        (
            item.source, item.target, endpoint(item.address, item.port), item.where, item.protocol,
            styled(outcome.text, "green" if outcome.ok else "red"),
            f"{outcome.milliseconds:.2f} ms" if outcome.ok else "",
        )
        for item, outcome in results
    ]  # fmt: skip
    print_table(("from", "to", "address", "", "protocol", "result", "latency"), rows, right=["latency"])
    return sum(not outcome.ok for _, outcome in results), len(results)
