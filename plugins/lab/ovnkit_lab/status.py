"""The state of a lab, as data and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from attrs import asdict

from kubelab.client import ApiError
from kubelab.objects import is_true
from ovnkit.api.terminal import print_table
from ovnkit_lab import control_plane, layout
from ovnkit_lab.health import Restarts, load_restarts
from ovnkit_lab.lab import Lab
from ovnkit_lab.labs import locked
from ovnkit_lab.layout import CONTROL, Files, LabError

Json = dict[str, Any]


def snapshot(lab: Lab) -> Json:
    """A lab with its nodes, their readiness, and every daemon with its process, for JSON."""
    spec = lab.spec
    ready, pods = _from_api(lab)
    nodes: list[Json] = [
        {
            "name": node, "ready": ready.get(node, False), "down": lab.is_down(node), "pods": pods.get(node, 0),
            "addresses": [str(item.ip) for item in spec.addresses(node)], "daemons": _daemons(lab, node),
        }
        for node in spec.nodes
    ]  # fmt: skip
    control = _daemons(lab, CONTROL)
    running = all(
        item["running"] and not item["crashLoop"]
        for daemons in (control, *(node["daemons"] for node in nodes)) for item in daemons.values()
    )  # fmt: skip
    return {
        "name": spec.name, "zones": spec.zones, "ipFamily": spec.ip_family,
        "ovn": {"root": spec.ovn_root, "version": ".".join(map(str, lab.install.ovn_version)),
                "ovs": ".".join(map(str, lab.install.ovs_version))},
        "kubernetes": asdict(spec.kubernetes) if spec.kubernetes else {},
        "kubeconfig": str(lab.files.kubeconfig), "healthy": running and all(item["ready"] for item in nodes),
        "control": {"addresses": [str(item.ip) for item in spec.addresses(CONTROL)], "daemons": control},
        "nodes": nodes,
    }  # fmt: skip


def summary(name: str) -> Json:
    """A lab in short: its layout, and whether it is up, starting or incomplete."""
    try:
        spec = layout.load(name)
    except LabError:
        return {"name": name, "state": "incomplete", "nodes": 0, "zones": "", "ipFamily": ""}
    with locked(name, wait=False) as idle:
        state = "up" if Files(name).ready.exists() else "incomplete" if idle else "starting"
    return {"name": name, "state": state, "nodes": len(spec.nodes), "zones": spec.zones,
            "ipFamily": spec.ip_family}  # fmt: skip


def _daemons(lab: Lab, host: str) -> Json:
    found: Json = {}
    for name, daemon in lab.daemons(host).items():
        record = load_restarts(lab.files.restarts(host)) if name == "ovnkit" else Restarts()
        found[name] = {
            "running": daemon.running, "pid": daemon.pid, "log": str(daemon.log), "restarts": record.count,
            "crashLoop": record.looping, "lastWords": record.words if record.looping else "",
        }  # fmt: skip
    return found


def _described(name: str, daemon: Json) -> str:
    if daemon["crashLoop"]:
        return f"{name} (crash loop, restarts: {daemon['restarts']}; last words: {daemon['lastWords']})"
    again = f", restarts: {daemon['restarts']}" if daemon["restarts"] else ""
    return f"{name} ({daemon['pid']}{again})" if daemon["running"] else name


def _from_api(lab: Lab) -> tuple[dict[str, bool], dict[str, int]]:
    """Which nodes are Ready, and how many pods each has; empty when the API server doesn't answer."""
    pods: dict[str, int] = {}
    try:
        api = control_plane.client(lab.spec)
        nodes = api.get("/api/v1/nodes")["items"]
        for pod in api.get("/api/v1/pods")["items"]:
            node = pod["spec"].get("nodeName", "")
            pods[node] = pods.get(node, 0) + 1
    except (ApiError, OSError):
        return {}, {}
    return {node["metadata"]["name"]: is_true(node, "Ready") for node in nodes}, pods


def show_list(labs: Sequence[Json]) -> None:
    """Print summaries as a table."""
    columns = ("name", "state", "nodes", "zones", "ipFamily")
    print_table(
        ("name", "state", "nodes", "zones", "IP family"), [[item[key] for key in columns] for item in labs]
    )


def show(state: Json) -> None:
    """Print a snapshot as a table."""
    rows = []
    for host in (*state["nodes"], {"name": CONTROL, **state["control"]}):
        daemons = host["daemons"]
        well = {name: item["running"] and not item["crashLoop"] for name, item in daemons.items()}
        alive, dead = (
            [_described(name, item) for name, item in daemons.items() if well[name] is wanted]
            for wanted in (True, False)
        )
        if "ready" not in host:
            word = ""
        else:
            word = "down" if host["down"] else "Ready" if host["ready"] else "NotReady"
        rows.append((host["name"], word, "\n".join(host["addresses"]), host.get("pods"),
                     "\n".join(alive), "\n".join(dead)))  # fmt: skip
    click.echo(
        f"lab {state['name']}: {state['ipFamily']}, zones {state['zones']}, OVN {state['ovn']['version']}, "
        f"Open vSwitch {state['ovn']['ovs']}"
    )
    print_table(("host", "state", "addresses", "pods", "running", "not running"), rows)
