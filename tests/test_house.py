"""The house itself: every plugin is found and shipped, has a page, a suite, a line in the README."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from ovnkit.api.hooks import Hooks, Scope
from ovnkit.api.renderers import Renderer, Role
from ovnkit.config.load import Override, load_config
from ovnkit.plugins.api_page import public_names
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
def test_a_plugin_is_found_checked_and_described(plugin: str) -> None:
    package = f"ovnkit_{plugin}"
    assert PROJECT["project"]["entry-points"]["ovnkit.plugins"][plugin].startswith(f"{package}.plugin:")
    folder = ROOT / "plugins" / plugin
    assert (folder / package / "py.typed").exists()
    assert (folder / "README.md").read_text().startswith(f"# {plugin}")
    assert list(folder.glob(f"tests/**/test_{plugin}*.py"))
    assert f"[{plugin}](plugins/{plugin}/README.md)" in (ROOT / "README.md").read_text()


def test_the_wheel_has_all_files_of_the_core_and_the_plugins_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = {path.parent for path in (*ROOT.glob("core/*/__init__.py"), *ROOT.glob("plugins/*/*/__init__.py"))}
    modules = {str(path.relative_to(package.parent)) for package in packages for path in package.rglob("*.py")}
    assert {name for name in shipped if name.endswith(".py")} == modules
    assert {f"{package.name}/py.typed" for package in packages} <= shipped


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


def all_renderers(layout: str) -> list[tuple[str, Renderer]]:
    """Those of all plugins with their names, in a process with all roles."""
    plugins = Plugins.discover()
    every = Override("plugins", "enabled", ",".join(PLUGINS), "test")
    zones = Override("default", "zone-mode", layout, "test")
    config = load_config(overrides=[every, zones], plugin_options=plugins.options).config
    plugins.configure(config)
    scope = Scope(frozenset(Role), "n1", "n1", layout == "per-node")
    answers = plugins.calls.each(Hooks.ovnkit_renderers, config=config, scope=scope, hooks=plugins.calls)
    assert not plugins.calls.failures
    return [(plugin, renderer) for plugin, renderers in answers for renderer in renderers]


@pytest.mark.parametrize("layout", ["per-node", "central"])
def test_a_renderer_with_keys_says_of_which_objects(layout: str) -> None:
    """Without that `ovnkit explain` names no object, and nobody gets the Event when a render fails."""
    without = {
        f"{plugin}/{renderer.name}"
        for plugin, renderer in all_renderers(layout)
        if renderer.each is not None and renderer.reports_on is None
    }
    assert without == NO_OBJECTS - ({"services/templates"} if layout == "per-node" else set())


@pytest.mark.parametrize("layout", ["per-node", "central"])
def test_renderers_of_a_role_are_in_the_module_named_after_it(layout: str) -> None:
    """`cluster.py`, `zone.py` or `node.py`, or a package of that name."""
    found = all_renderers(layout)
    assert len(found) > 40
    for plugin, renderer in found:
        package = f"ovnkit_{plugin}.{renderer.role.value}"
        assert f"{renderer.render.__module__}.".startswith(f"{package}."), f"{plugin}/{renderer.name}"


def test_plugins_import_only_public_names_of_the_api() -> None:
    """Names outside `__all__` are the core's own, and change without notice."""
    public = {}
    for path in (ROOT / "core/ovnkit/api").rglob("*.py"):
        names = public_names(ast.parse(path.read_text()))
        module = ".".join(path.relative_to(ROOT / "core").with_suffix("").parts).removesuffix(".__init__")
        public[module] = names if names is not None else frozenset()
    assert {"ovnkit.api.hooks", "ovnkit.api.matches", "ovnkit.api.matches.syntax"} <= public.keys()
    sources = [*ROOT.glob("plugins/*/ovnkit_*/**/*.py"), *ROOT.glob("tests/third_party/*/*/**/*.py")]
    assert len(sources) > 100
    found = [
        f"{path.relative_to(ROOT)}: {node.module}.{alias.name}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module in public
        for alias in node.names
        if alias.name not in public[node.module] and f"{node.module}.{alias.name}" not in public
    ]
    assert found == []


def test_the_table_of_packages_is_the_tree() -> None:
    """docs/architecture.md names each package of the core and the sinks, and nothing else."""
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.partition("## The rooms")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `ovnkit\.([a-z]+)` \| (.*?) \|", table, re.MULTILINE)
    core = ROOT / "core/ovnkit"
    assert sorted(name for name, _ in rows) == sorted(path.parent.name for path in core.glob("*/__init__.py"))
    sinks = sorted(path.parent.name for path in core.glob("sinks/*/__init__.py"))
    assert sorted(re.findall(r"`([a-z]+)`", dict(rows)["sinks"])) == sinks


def test_what_the_table_allows_is_what_the_linter_allows() -> None:
    """The order of the rows is the order of the layers: what is below may be imported, if the contract says so."""
    contracts = {contract["name"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
    layers = [line.split(" | ") for line in contracts["core layers"]["layers"]]
    page = (ROOT / "docs/architecture.md").read_text()
    named = [f"ovnkit.{name}" for name in re.findall(r"^\| `ovnkit\.([a-z]+)` \|", page, re.MULTILINE)]
    place = {name: height for height, layer in enumerate(layers) for name in layer}
    in_layers = [name for name in named if name in place]
    assert sorted(in_layers) == sorted(place)
    assert [place[name] for name in in_layers] == sorted((place[name] for name in in_layers), reverse=True)
    assert contracts["plugins import ovnkit.api and ovnkit.network"]["type"] == "forbidden"


def test_the_page_on_rows_names_what_is_there() -> None:
    """Each module and each function or class that docs/row.md names exists."""
    page = (ROOT / "docs/row.md").read_text()
    core = ROOT / "core/ovnkit"
    modules = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", page))
    assert len(modules) > 20
    assert [name for name in modules if not any((core / up / name).is_file() for up in (".", "sinks/ovsdb"))] == []
    defined = {
        node.name
        for folder in ("sinks/ovsdb", "engine")
        for path in (core / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    named = {part for text in re.findall(r"`([A-Z]\w+(?:\.\w+)?|_\w+)`", page) for part in text.split(".")}
    assert named - defined == {"Row"}


def test_the_glossary_has_no_word_that_nobody_uses() -> None:
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert len(terms) > 30
    assert terms == sorted(terms)
    sources = [*ROOT.glob("core/ovnkit/**/*.py"), *ROOT.glob("plugins/*/ovnkit_*/**/*.py")]
    text = "\n".join(path.read_text().lower() for path in sources)
    spellings = {term: (term, term.replace(" ", "_"), term.replace(" ", "")) for term in terms}
    assert [term for term in terms if not any(spelling in text for spelling in spellings[term])] == []
