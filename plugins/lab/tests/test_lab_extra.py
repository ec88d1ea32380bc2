"""What is there without the extra `ovnkit[lab]`: everything but the lab, which says what to install."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ovnkit_lab import plugin

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from ovnkit.cli.main import main
main(sys.argv[1:])
"""
HINT = "pip install 'ovnkit[lab]'"


def without_extra(*arguments: str, absent: tuple[str, ...] = plugin._NEEDED) -> subprocess.CompletedProcess[str]:
    """`ovnkit` in an installation where modules can't be imported."""
    command = [sys.executable, "-c", WITHOUT.format(absent=absent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def row(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    (found,) = [item for item in json.loads(done.stdout) if item["name"] == "lab"]
    return dict(found)


def test_what_is_looked_for_is_what_the_extra_installs() -> None:
    extra, always = (
        {re.split("[><=]", requirement)[0] for requirement in requirements}
        for requirements in (PROJECT["optional-dependencies"]["lab"], PROJECT["dependencies"])
    )
    assert {name.rpartition(".")[2] for name in plugin._NEEDED} == extra
    assert extra.isdisjoint(always)
    assert plugin.unavailable() == ""


@pytest.mark.parametrize("arguments", [(), ("up", "--nodes", "2"), ("--help",)])
def test_the_command_says_what_to_install(arguments: tuple[str, ...]) -> None:
    done = without_extra("lab", *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert HINT in line
    assert "uvicorn" in line
    assert done.stdout == ""


@pytest.mark.parametrize("absent", [plugin._NEEDED, ("uvloop",), ("google",)])
def test_plugins_says_why_the_lab_is_not_there(absent: tuple[str, ...]) -> None:
    listed = row(without_extra("plugins", "--output", "json", "--set", "plugins.enabled=lab", absent=absent))
    assert listed["state"] == "disabled"
    assert HINT in listed["why"]
    assert row(without_extra("plugins", "--output", "json", absent=()))["why"] == "not in [plugins] enabled"


@pytest.mark.parametrize("command", [("--help",), ("config", "show"), ("crds",), ("privileges", "--role", "zone")])
def test_the_rest_works(command: tuple[str, ...]) -> None:
    done = without_extra(*command)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout


def test_the_processes_of_a_cluster_import_nothing_of_the_extra() -> None:
    """All that `ovnkit run` can import, the plugins' modules included."""
    program = WITHOUT.partition("from ovnkit")[0].format(absent=plugin._NEEDED) + (
        "import importlib, pkgutil, ovnkit\n"
        "import ovnkit_cni, ovnkit_egress_firewall, ovnkit_gateway, ovnkit_management_port, ovnkit_multicast\n"
        "import ovnkit_network_policy, ovnkit_pods, ovnkit_policy_logging, ovnkit_services, ovnkit_topology\n"
        "for name, package in list(sys.modules.items()):\n"
        "    if name.startswith('ovnkit') and '.' not in name:\n"
        "        for module in pkgutil.walk_packages(package.__path__, f'{name}.'):\n"
        "            if '.testing' not in module.name and '__main__' not in module.name:\n"
        "                importlib.import_module(module.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
