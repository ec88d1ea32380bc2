"""The house itself: every plugin is in each list of pyproject.toml, has a page, a suite, a line in the README."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ovnkit.api.hooks import Hooks, Scope
from ovnkit.api.renderers import Role
from ovnkit.config.load import Override, load_config
from ovnkit.plugins.registry import Plugins

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/ovnkit_*"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

WITH_TEXT_OF_THEIR_OWN = ("core/ovnkit/api/text.py", "core/ovnkit/testing/", "plugins/lab/")
"""As in pyproject.toml, where a lint rule keeps `ip_address`, `json` and the like to a few modules."""

ADDRESS_CLASS = r"(ipaddress\.)?IPv[46](Address|Interface|Network)"

NO_OBJECTS = {"network_policy/peers", "egress_firewall/name", "services/templates"}
"""Renderers whose keys name no objects: sets of pods, DNS names, chassis; several objects may ask for one."""


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_is_built_checked_and_described(plugin: str) -> None:
    package = f"ovnkit_{plugin}"
    build = PROJECT["tool"]["hatch"]["build"]
    assert PROJECT["project"]["entry-points"]["ovnkit.plugins"][plugin].startswith(f"{package}.plugin:")
    assert f"plugins/{plugin}" in build["dev-mode-dirs"]
    assert f"plugins/{plugin}/{package}" in build["targets"]["wheel"]["packages"]
    imports = PROJECT["tool"]["importlinter"]
    contracts = {contract["name"]: contract for contract in imports["contracts"]}
    assert package in imports["root_packages"]
    assert package in contracts["core never imports a plugin"]["forbidden_modules"]
    assert package in contracts["plugins do not import each other"]["modules"]
    assert package in contracts["plugins import ovnkit.api and ovnkit.network"]["source_modules"]
    folder = ROOT / "plugins" / plugin
    assert (folder / package / "py.typed").exists()
    assert (folder / "README.md").read_text().startswith(f"# {plugin}")
    assert list(folder.glob(f"tests/**/test_{plugin}*.py"))
    assert f"[{plugin}](plugins/{plugin}/README.md)" in (ROOT / "README.md").read_text()


def test_no_address_is_made_of_text_but_by_one_module() -> None:
    """`IPv6Address(text)` takes zone ids, as `ip_address` does; made of numbers and constants it is harmless."""
    found = []
    for path in [*ROOT.glob("core/ovnkit/**/*.py"), *ROOT.glob("plugins/*/ovnkit_*/**/*.py")]:
        place = str(path.relative_to(ROOT))
        if place.startswith(WITH_TEXT_OF_THEIR_OWN):
            continue
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not re.fullmatch(ADDRESS_CLASS, ast.unparse(call.func)):
                continue
            argument = call.args[0]
            numbers = isinstance(argument, ast.Call) and ast.unparse(argument.func) in ("int", "int.from_bytes")
            if not numbers and not isinstance(argument, ast.Constant | ast.Tuple):
                found.append(f"{place}:{call.lineno}: {ast.unparse(call)}")
    assert found == []


def test_a_process_without_the_node_role_imports_no_netlink() -> None:
    """It takes a sixth of the start of a small zone."""
    program = (
        "import sys\n"
        "from ovnkit.cli.common import load\n"
        "import ovnkit.process.run\n"
        "load(None, (), ())\n"
        "print(sorted(name for name in sys.modules if name in ('pyroute2', 'ovsdbapp')))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("layout", ["per-node", "central"])
def test_a_renderer_with_keys_says_of_which_objects(layout: str) -> None:
    """Without that `ovnkit explain` names no object, and nobody gets the Event when a render fails."""
    plugins = Plugins.discover()
    every = Override("plugins", "enabled", ",".join(PLUGINS), "test")
    zones = Override("default", "zone-mode", layout, "test")
    config = load_config(overrides=[every, zones], plugin_options=plugins.options).config
    plugins.configure(config)
    scope = Scope(frozenset(Role), "n1", "n1", layout == "per-node")
    answers = plugins.calls.each(Hooks.ovnkit_renderers, config=config, scope=scope, hooks=plugins.calls)
    assert not plugins.calls.failures
    without = {
        f"{plugin}/{renderer.name}"
        for plugin, renderers in answers
        for renderer in renderers
        if renderer.each is not None and renderer.reports_on is None
    }
    assert without == NO_OBJECTS - ({"services/templates"} if layout == "per-node" else set())
