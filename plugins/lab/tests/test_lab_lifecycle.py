"""Labs come and go whole: what `up` makes, `down` takes away, whatever happened in between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ovnkit_lab.testing import LabHandle, LabPool, ovnkit_lab, wait_until

pytestmark = pytest.mark.lab


def traces(name: str) -> dict[str, list[str]]:
    """All that a lab of this name has on the machine."""
    processes = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                text = (directory / "cmdline").read_bytes() + (directory / "environ").read_bytes()
            except OSError:
                continue
            if f"ovnlab-{name}.".encode() in text or f"/ovnkit-lab/{name}/".encode() in text:
                processes.append(directory.name)
    namespaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()
    return {
        "processes": processes,
        "namespaces": [item for item in namespaces if item.startswith(f"ovnlab-{name}.")],
        "files": [str(path) for path in Path("/run/ovnkit-lab").glob(f"{name}*")],
    }


def links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


NOTHING: dict[str, list[str]] = {"processes": [], "namespaces": [], "files": []}


def test_down_leaves_no_process_namespace_link_or_file() -> None:
    name, before = f"d{os.getpid()}", links()
    ovnkit_lab("up", "--name", name, "--nodes", "1", check=True)
    try:
        assert all(traces(name).values())
        assert links() - before
    finally:
        ovnkit_lab("down", "--name", name, check=True)
    assert traces(name) == NOTHING
    assert links() - before == set()


def test_down_of_a_lab_that_is_not_there_succeeds() -> None:
    assert ovnkit_lab("down", "--name", "never-was").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--ovn", "/nowhere"], "--ovn /nowhere: no such directory"),
        (["--ovn", "/var/empty-root"], "no such directory"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_up_fails_with_the_cause_in_one_line_and_leaves_nothing(arguments: list[str], cause: str) -> None:
    name = f"f{os.getpid()}"
    result = ovnkit_lab("up", "--name", name, *arguments)
    assert result.returncode != 0
    assert cause in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert traces(name) == NOTHING


def test_up_with_a_root_without_ovn_names_the_program(tmp_path: Path) -> None:
    result = ovnkit_lab("up", "--name", f"r{os.getpid()}", "--ovn", str(tmp_path))
    assert result.returncode != 0
    assert f"not found in {tmp_path}" in result.stderr.splitlines()[-1]


def test_up_with_a_wrong_key_in_the_configuration_names_it_and_leaves_nothing(tmp_path: Path) -> None:
    name, config = f"k{os.getpid()}", tmp_path / "wrong.toml"
    config.write_text("[default]\nmtuu = 9\n")
    result = ovnkit_lab("up", "--name", name, "--config", str(config))
    assert result.returncode != 0
    assert "mtuu" in result.stderr.splitlines()[-1]
    assert traces(name) == NOTHING


def test_up_tells_the_cause_and_not_what_follows_from_it(tmp_path: Path) -> None:
    name, config = f"c{os.getpid()}", tmp_path / "small.toml"
    config.write_text('[default]\ncluster-subnets = ["10.244.0.0/24/25"]\n')
    result = ovnkit_lab("up", "--name", name, "--nodes", "3", "--config", str(config))
    assert result.returncode == 1
    said = result.stderr.splitlines()[-1]
    assert said.startswith("ovnkit: not Ready: node")
    assert said.endswith("no IPv4 node subnet left")
    assert "ovn-k8s-mp0" not in said
    assert traces(name) == NOTHING


def test_an_up_killed_half_way_is_recognised_and_replaced() -> None:
    name = f"h{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "ovnkit_lab", "up", "--name", name, "--nodes", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: traces(name)["processes"], what="a daemon of the lab runs")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert traces(name)["namespaces"]
        result = ovnkit_lab("up", "--name", name, "--nodes", "1", check=True)
        assert "removing what is left of an earlier lab" in result.stderr
        assert ovnkit_lab("status", "--name", name).returncode == 0
    finally:
        ovnkit_lab("down", "--name", name, check=True)
    assert traces(name) == NOTHING


@pytest.mark.parametrize(
    ("command", "seen", "signals"),
    [
        ("up", "namespaces", [signal.SIGTERM]),
        ("up", "processes", [signal.SIGTERM]),
        ("up", "processes", [signal.SIGINT] * 3),
        ("demo", "processes", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]),
    ],
)
def test_an_interrupted_command_leaves_nothing_and_says_one_line(
    command: str, seen: str, signals: list[signal.Signals]
) -> None:
    name = f"i{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "ovnkit_lab", command, "--name", name, "--nodes", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: traces(name)[seen], what="the lab has begun")
        for number in signals:
            os.killpg(process.pid, number)
            time.sleep(0.2)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + signals[0]
        assert said.splitlines()[-1] == f"ovnkit: interrupted; lab {name} was removed"
        assert "Aborted" not in said
        assert "Traceback" not in said
        assert traces(name) == NOTHING
    finally:
        process.kill()
        ovnkit_lab("down", "--name", name)


def test_list_tells_which_labs_there_are(lab: LabHandle) -> None:
    found = {item["name"]: item for item in json.loads(ovnkit_lab("list", "--output", "json").stdout)}
    assert found[lab.name] == {
        "name": lab.name, "state": "up", "nodes": 2, "zones": "per-node", "ipFamily": "ipv4",
    }  # fmt: skip
    assert lab.name in ovnkit_lab("list", check=True).stdout


def test_two_labs_side_by_side_do_not_see_each_other(labs: LabPool) -> None:
    with labs.lend() as first, labs.lend(nodes=1) as second:
        for each in (first, second):
            each.apply(each.pod("same", node="node1"))
        for each in (first, second):
            each.wait_ready("same")
        for each in (first, second):
            assert each.pod_ips("same")[0].startswith("10.244.0."), "the same subnets in both"
        first.delete("pod", "same")
        assert second.exec("same", "true").returncode == 0
        assert first.exec("same", "true").returncode != 0
        second.delete("pod", "same")


def test_a_second_up_of_the_same_lab_is_refused(lab: LabHandle) -> None:
    result = ovnkit_lab("up", "--name", lab.name)
    assert result.returncode == 1
    assert "is up already" in result.stderr
    assert lab.run("status").returncode == 0
