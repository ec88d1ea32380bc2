"""The `ovnkit` command as a user meets it: output, one-line errors, exit codes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

OVNKIT = Path(sys.executable).parent / "ovnkit"


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OVNKIT_", "K8S_", "KUBE"))}
    return subprocess.run([OVNKIT, *arguments], env=env | environ, capture_output=True, text=True, timeout=60)


def failed(*arguments: str, code: int, **environ: str) -> str:
    done = run(*arguments, **environ)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("ovnkit: warning:", "{"))]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ovnkit: ")
    return lines[0]


def test_version_is_quick():
    best = 9.0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run("--version")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # processor time: the clock on the wall tells more of what else the machine does
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.stdout.startswith("ovnkit ")
    assert best < 0.3


def test_help_teaches_with_examples():
    for command in ((), ("run",), ("config", "show"), ("plugins",), ("explain",), ("privileges",)):
        done = run(*command, "--help")
        assert done.returncode == 0
        assert "ovnkit " in done.stdout.partition("Usage:")[2].partition("\n")[2], f"no example in {command}"


def test_config_show_says_where_values_come_from(tmp_path):
    file = tmp_path / "ovnkit.toml"
    file.write_text("[default]\nmtu = 1300\n[kubernetes]\ntoken = 'sesame'\n")
    arguments = ("config", "show", "--config", str(file), "--set", "default.zone=z", "--output", "json")
    shown = json.loads(run(*arguments, OVNKIT_GATEWAY__MODE="local").stdout)
    assert shown["sections"]["default"]["mtu"] == {"value": 1300, "origin": str(file)}
    assert shown["sections"]["default"]["zone"] == {"value": "z", "origin": "command line --set"}
    assert shown["sections"]["gateway"]["mode"]["origin"] == "environment OVNKIT_GATEWAY__MODE"
    assert shown["sections"]["default"]["cluster-subnets"]["value"] == ["10.128.0.0/14/23"]
    assert "sesame" not in json.dumps(shown)


def test_config_show_toml_can_be_used_as_the_file(tmp_path):
    text = run("config", "show", "--output", "toml", "--set", "default.mtu=1300").stdout
    file = tmp_path / "again.toml"
    file.write_text(text)
    shown = json.loads(run("config", "show", "--config", str(file), "--output", "json").stdout)
    assert shown["sections"]["default"]["mtu"] == {"value": 1300, "origin": str(file)}


def test_config_table():
    assert "v4-join-subnet" in run("config", "show").stdout


@pytest.mark.parametrize("command", [("config", "show"), ("plugins",), ("run", "--role", "zone")])
def test_wrong_configuration_is_exit_code_2(tmp_path, command):
    file = tmp_path / "ovnkit.toml"
    file.write_text("[default]\nmtuu = 1300\n")
    line = failed(*command, "--config", str(file), code=2)
    assert line == f"ovnkit: {file}: unknown key 'mtuu' in section [default]; did you mean 'mtu'?"


@pytest.mark.parametrize("key", ["enabled", "disabled"])
@pytest.mark.parametrize("command", [("config", "show"), ("run", "--role", "cluster")])
def test_a_plugin_that_is_not_installed_is_refused(command, key):
    line = failed(*command, "--set", f"plugins.{key}=ghost", code=2)
    assert line == f"ovnkit: [plugins]: named in [plugins] {key}, but not installed: ghost"


def test_run_needs_a_node_name():
    assert "--node-name" in failed("run", "--role", "node", code=2)


def test_run_without_api_server_configuration_says_so(tmp_path):
    line = failed("run", "--role", "cluster", "--kubeconfig", str(tmp_path / "none"), code=2)
    assert str(tmp_path / "none") in line


def test_plugins_json():
    rows = {row["name"]: row for row in json.loads(run("plugins", "--output", "json").stdout)}
    assert rows["topology"]["state"] == "enabled"
    assert rows["topology"]["distribution"] == "ovnkit"
    assert rows["pods"]["needs"] == ["topology"]


def test_plugins_shows_missing_and_disabled():
    done = run(
        "plugins", "--set", "plugins.enabled=ghost", "--set", "plugins.disabled=topology", "--output", "json"
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["ghost"]["state"] == "missing"
    assert rows["topology"]["state"] == "disabled"
    assert rows["pods"]["why"] == "needs topology, which is disabled"


def test_privileges_are_a_cluster_role():
    role = yaml.safe_load(run("privileges", "--role", "cluster", "--name", "net").stdout)
    assert role["kind"] == "ClusterRole"
    assert role["metadata"]["name"] == "net"
    rules = {(rule["apiGroups"][0], rule["resources"][0]): set(rule["verbs"]) for rule in role["rules"]}
    assert {"list", "watch"} <= rules["", "pods"]
    assert "patch" in rules["", "nodes"]
    assert "update" in rules["coordination.k8s.io", "leases"]


def test_status_without_a_process(tmp_path):
    line = failed("status", "--set", f"ovspaths.ovn-run-dir={tmp_path}", code=1)
    assert str(tmp_path) in line


def test_unknown_command():
    assert run("frobnicate").returncode == 2
