"""Nodes that fail and daemons that restart."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnkit_lab.testing import LabHandle, LabPool, wait_until

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(labs: LabPool) -> Iterator[LabHandle]:
    """A lab of its own: its daemons and nodes are killed here."""
    with labs.own() as made:
        yield made


@pytest.fixture
def pair(lab: LabHandle) -> Iterator[tuple[str, str]]:
    """A pod on node1 and the address of one on node2, which is behind a Service."""
    far = lab.pod("far", node="node2")
    far["metadata"]["labels"] = {"app": "far"}
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "far"},
        "spec": {"selector": {"app": "far"}, "ports": [{"port": 80}]},
    }  # fmt: skip
    lab.apply(lab.pod("near", node="node1"), far, service)
    lab.wait_ready("near", "far")
    yield "near", lab.pod_ips("far")[0]
    lab.delete("service", "far")
    lab.delete("pod", "near", "far")


def node_ready(lab: LabHandle, node: str) -> str:
    conditions = lab.get("node", node)["status"]["conditions"]
    return next(str(item["status"]) for item in conditions if item["type"] == "Ready")


def endpoint_ready(lab: LabHandle) -> list[bool]:
    slices = lab.get("endpointslices")["items"]
    return [
        endpoint["conditions"]["ready"] for item in slices
        if item["metadata"]["labels"].get("kubernetes.io/service-name") == "far" for endpoint in item["endpoints"]
    ]  # fmt: skip


def test_a_node_that_is_down_is_not_ready_and_comes_back(lab: LabHandle, pair: tuple[str, str]) -> None:
    near, address = pair
    wait_until(lambda: lab.pings(near, address), what="the pods reach each other")
    lab.run("node-down", "node2")
    try:
        wait_until(lambda: node_ready(lab, "node2") == "Unknown", what="node2 is lost")
        wait_until(lambda: endpoint_ready(lab) == [False], what="its endpoint is not ready")
        assert not lab.pings(near, address)
        assert lab.run("status", check=False).returncode == 1
    finally:
        lab.run("node-up", "node2")
    assert node_ready(lab, "node2") == "True"
    wait_until(lambda: lab.pings(near, address), what="the pods reach each other again")
    wait_until(lambda: endpoint_ready(lab) == [True], what="its endpoint is ready again")


DAEMONS = ["ovs-vswitchd", "ovn-controller", "northd", "nb", "sb", "ovsdb", "ovnkit", "apiserver"]


def process_of(lab: LabHandle, host: str, daemon: str) -> int:
    state = json.loads(lab.run("status", "--output", "json", check=False).stdout)
    hosts = {"control": state["control"], **{node["name"]: node for node in state["nodes"]}}
    return int(hosts[host]["daemons"][daemon]["pid"])


@pytest.mark.parametrize("daemon", DAEMONS)
def test_traffic_and_new_pods_survive_the_crash_of(lab: LabHandle, pair: tuple[str, str], daemon: str) -> None:
    near, address = pair
    host = "control" if daemon == "apiserver" else "node2"
    before = process_of(lab, host, daemon)
    os.kill(before, signal.SIGKILL)
    if daemon != "apiserver":
        lab.apply(lab.pod("meanwhile", node="node2"))
    lab.run("restart", "node2", daemon)
    assert process_of(lab, host, daemon) not in (0, before)
    try:
        if daemon == "apiserver":
            lab.apply(lab.pod("meanwhile", node="node2"))
        wait_until(lambda: lab.pings(near, address), what="old pods reach each other")
        lab.wait_ready("meanwhile", deadline=60)
        fresh = lab.pod_ips("meanwhile")[0]
        wait_until(lambda: lab.pings(near, fresh), what="a new pod is reached")
        wait_until(lambda: lab.run("status", check=False).returncode == 0, 60, what="all is well")
    finally:
        lab.delete("pod", "meanwhile")


def test_packets_pass_when_a_restart_of_the_switch_returns(lab: LabHandle, pair: tuple[str, str]) -> None:
    near, address = pair
    lab.run("restart", "node2", "ovs-vswitchd")
    said = lab.exec(near, "ping", "-c", "3", "-i", "0.2", "-W", "2", address).stdout
    assert " 3 received" in said


@pytest.mark.parametrize("host", ["control", "node1"])
def test_an_ovnkit_that_ends_by_itself_is_started_again(lab: LabHandle, host: str) -> None:
    before = process_of(lab, host, "ovnkit")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: process_of(lab, host, "ovnkit") not in (0, before), 60, what=f"another ovnkit on {host}")
    wait_until(lambda: lab.run("status", check=False).returncode == 0, 60, what="all is well")


def test_restart_fails_when_the_daemon_ends_and_status_tells_the_crash_loop(lab: LabHandle) -> None:
    config = Path(lab.environment["OVNKIT_NODE2_CONFIG"])
    good = config.read_text()

    def ovnkit() -> dict[str, Any]:
        state = json.loads(lab.run("status", "--output", "json", check=False).stdout)
        return dict(state["nodes"][1]["daemons"]["ovnkit"])

    try:
        config.write_text(good + "[default]\n")
        result = lab.run("restart", "node2", "ovnkit", check=False)
        assert result.returncode == 1
        assert "exited while starting" in result.stderr.splitlines()[-1]
        assert "not valid TOML" in result.stderr.splitlines()[-1]
        wait_until(lambda: ovnkit()["crashLoop"], 60, what="status tells the crash loop")
        assert "not valid TOML" in ovnkit()["lastWords"]
        shown = lab.run("status", check=False)
        assert shown.returncode == 1
        assert "crash loop" in shown.stdout
    finally:
        config.write_text(good)
        lab.run("restart", "node2", "ovnkit")
    assert not ovnkit()["crashLoop"]
    assert json.loads(lab.node("node2", "ovnkit", "status", "--output", "json"))[0]["ready"]
    assert lab.run("status", check=False).returncode == 0


@pytest.mark.parametrize("daemon", ["kubelet", "controllers"])
def test_other_daemons_are_alive_when_their_restart_returns(lab: LabHandle, daemon: str) -> None:
    before = process_of(lab, "control", daemon)
    lab.run("restart", "control", daemon)
    assert process_of(lab, "control", daemon) not in (0, before)


def test_restart_of_an_unknown_daemon_names_the_known_ones(lab: LabHandle) -> None:
    result = lab.run("restart", "node1", "httpd", check=False)
    assert result.returncode == 1
    assert "ovn-controller" in result.stderr
