"""The commands that tests and users rely on: exec, node, external, env, status, logs."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from ovnkit_lab.testing import LabHandle, ovnkit_lab

pytestmark = pytest.mark.lab


@pytest.fixture
def pod(lab: LabHandle) -> Iterator[str]:
    lab.apply(lab.pod("shell", "sh", "-c", "echo started; exec sleep infinity", node="node1"))
    lab.wait_ready("shell")
    yield "default/shell"
    lab.delete("pod", "shell")


def test_exec_passes_streams_and_exit_code(lab: LabHandle, pod: str) -> None:
    result = lab.exec(pod, "sh", "-c", "tr a-z A-Z; echo aside >&2; exit 7", input="text\n")
    assert (result.stdout, result.stderr, result.returncode) == ("TEXT\n", "aside\n", 7)


def test_exec_keeps_options_and_spaces_of_the_command(lab: LabHandle, pod: str) -> None:
    result = lab.exec(pod, "printf", "%s|", "--name", "a b", "--", "-x")
    assert result.stdout == "--name|a b|--|-x|"


def test_exec_of_a_missing_command_is_127(lab: LabHandle, pod: str) -> None:
    assert lab.exec(pod, "no-such-command").returncode == 127


def test_exec_reports_death_by_signal_as_a_shell_would(lab: LabHandle, pod: str) -> None:
    assert lab.exec(pod, "sh", "-c", "kill -9 $$").returncode in (-9, 137)


def test_exec_happens_in_the_pods_network(lab: LabHandle, pod: str) -> None:
    shown = lab.exec(pod, "ip", "-o", "address", "show", "dev", "eth0").stdout
    assert lab.pod_ips("shell")[0] in shown


def test_exec_in_an_unknown_pod_says_so(lab: LabHandle) -> None:
    result = lab.exec("default/nobody", "true")
    assert result.returncode == 1
    assert "pod default/nobody is not running" in result.stderr


def test_node_has_the_tools_of_its_own_daemons(lab: LabHandle) -> None:
    assert "br-int" in lab.node("node1", "ovs-vsctl", "list-br").split()
    assert "node1" in lab.node("node1", "ovn-nbctl", "--bare", "--columns=name", "list", "Logical_Switch").split()
    assert "hostname: node2" in lab.node("node2", "ovn-sbctl", "show")


def test_node_passes_the_exit_code(lab: LabHandle) -> None:
    assert lab.run("node", "node2", "--", "sh", "-c", "exit 9", check=False).returncode == 9
    assert "no node 'node9'" in lab.run("node", "node9", "--", "true", check=False).stderr


def test_external_reaches_the_nodes_and_is_outside_the_cluster(lab: LabHandle) -> None:
    assert lab.external("ping", "-c", "1", "-W", "2", "172.18.0.11").returncode == 0
    assert lab.external("ip", "link", "show", "br-ex").returncode != 0


def test_env_gives_kubectl_and_the_databases_of_every_node(lab: LabHandle) -> None:
    env = lab.environment
    assert env["OVNKIT_LAB"] == lab.name
    assert "node1" in lab.kubectl("get", "nodes", "-o", "name")
    for node in ("NODE1", "NODE2"):
        bridges = subprocess.run(
            ["ovs-vsctl", f"--db={env[f'OVNKIT_{node}_OVS']}", "list-br"],
            env={"PATH": env["PATH"]}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "br-int" in bridges.stdout.split()
        for tool, variable in (("ovn-nbctl", "NB"), ("ovn-sbctl", "SB")):
            subprocess.run(
                [tool, f"--db={env[f'OVNKIT_{node}_{variable}']}", "show"],
                env={"PATH": env["PATH"]}, capture_output=True, check=True,
            )  # fmt: skip


@pytest.mark.parametrize("host", ["node1", "node2", "control"])
def test_ovnkit_on_a_node_is_that_nodes(lab: LabHandle, host: str) -> None:
    [process] = json.loads(lab.node(host, "ovnkit", "status", "--output", "json"))
    assert process["node"] == ("" if host == "control" else host)
    assert process["ready"]
    if host != "control":
        shown = lab.node(host, "ovnkit", "explain", "ovn_cluster_router", "--output", "json")
        assert json.loads(shown)[0]["owner"].startswith("topology/")


@pytest.mark.parametrize("host", ["node1", "control"])
def test_kubectl_works_on_a_node(lab: LabHandle, host: str) -> None:
    assert "node/node1" in lab.node(host, "kubectl", "get", "nodes", "-o", "name").split()


def test_env_says_where_the_ovnkit_of_each_node_is(lab: LabHandle) -> None:
    for node in ("NODE1", "NODE2", "CONTROL"):
        command = ["ovnkit", "status", "--config", lab.environment[f"OVNKIT_{node}_CONFIG"]]
        subprocess.run(command, env={**os.environ, **lab.environment}, capture_output=True, check=True)
    for node in lab.nodes:
        script = f'eval "$(ovnkit lab env --name {lab.name} --node {node})"; ovnkit status --output json'
        shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
        assert [item["node"] for item in json.loads(shown)] == [node]
    assert "no node 'node9'" in lab.run("env", "--node", "node9", check=False).stderr


def test_status_tells_every_daemon(lab: LabHandle) -> None:
    state = json.loads(lab.run("status", "--output", "json").stdout)
    assert state["healthy"] is True
    assert [node["name"] for node in state["nodes"]] == ["node1", "node2"]
    expected = {"ovsdb", "nb", "sb", "northd", "ovs-vswitchd", "ovn-controller", "ovnkit"}
    for node in state["nodes"]:
        assert expected <= node["daemons"].keys()
        assert all(daemon["running"] for daemon in node["daemons"].values())


def test_logs_of_daemons_and_pods(lab: LabHandle, pod: str) -> None:
    assert "ovn-installed" in lab.run("logs", "node1", "ovn-controller").stdout
    assert "starting" in lab.run("logs", "node2", "ovnkit").stdout
    assert lab.run("logs", pod).stdout == "started\n"
    assert "no daemon 'nothing'" in lab.run("logs", "node1", "nothing", check=False).stderr


def test_commands_on_a_lab_that_is_not_there_say_so() -> None:
    for arguments in (["env"], ["status"], ["exec", "a/b", "--", "true"], ["node-down", "node1"]):
        result = ovnkit_lab(arguments[0], "--name", "never-was", *arguments[1:])
        assert result.returncode == 1
        assert "there is no lab 'never-was'" in result.stderr


def test_ovnkit_is_not_the_administrator(lab: LabHandle) -> None:
    def may(*request: str) -> str:
        account = "--as=system:serviceaccount:ovn-kubernetes:ovnkit-node"
        return lab.kubectl("auth", "can-i", *request, account, check=False).strip()

    assert may("list", "pods") == "yes"
    assert may("create", "deployments") == "no"
    assert may("get", "secrets") == "no"
