"""The manual's page on the API, and what the API gives to plugins' authors."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ovnkit.api.commands import config_options, tools
from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.models import NODES, PODS
from ovnkit.api.renderers import Role
from ovnkit.cli.main import Commands, ovnkit
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.reconciler import Reconciler
from ovnkit.network import rows
from ovnkit.network.node import NODE_SUBNETS, parse_node_subnets
from ovnkit.plugins.api_page import page
from ovnkit.plugins.registry import Plugins
from ovnkit.process.runtime import PluginRuntime
from ovnkit.testing import ovsdb
from ovnkit.testing.harness import make_server
from ovnkit.testing.manifests import objects, ready_node
from ovnkit.testing.objects import node, pod

ROOT = Path(__file__).parents[3]


def test_the_manuals_page_is_what_the_docstrings_say() -> None:
    assert (ROOT / "docs" / "api.md").read_text() == page(), "run: ovnkit docs api > docs/api.md"


def test_the_page_has_every_module_and_what_is_public_in_it() -> None:
    text = page()
    for package, least in (("api", 15), ("network", 10)):
        modules = [path.stem for path in (ROOT / "core/ovnkit" / package).glob("[a-z]*.py")]
        assert len(modules) > least
        assert [name for name in modules if f"## `ovnkit.{package}.{name}`" not in text] == []
    assert "- `pod_port(pod: str) -> RowId`: Logical_Switch_Port of a pod on the default network" in text
    assert "- `class Reject(OvnkitError)`: The object is wrong, and only its author can mend it." in text
    assert "_HASH" not in text
    assert "SelectorIndex" in text
    assert "most_selective" not in text, "it is not in `__all__`"


def test_a_running_plugin_lists_what_has_been_observed() -> None:
    reconciler = Reconciler(Inbox())
    scope = Scope(frozenset({Role.NODE}), "n1", "n1", True)
    runtime = PluginRuntime(Config(), scope, Plugins({}).calls, reconciler, None)
    assert (runtime.list(PODS), runtime.keys(PODS)) == ((), frozenset())
    reconciler.observe(NODES, [("n1", node("n1")), ("n2", node("n2"))])
    reconciler.observe(PODS, [(key, pod(key, "n1")) for key in ("a/p", "b/p")])
    assert [found.name for found in runtime.list(NODES)] == ["n1", "n2"]
    assert runtime.keys(PODS) == {"a/p", "b/p"}
    assert runtime.keys(PODS, "namespace", "b") == {"b/p"}
    assert [found.key for found in runtime.list(PODS, "namespace", "a")] == ["a/p"]


def test_groups_have_the_names_that_ovn_kubernetes_gives_them() -> None:
    assert rows.namespace_port_group_name("default") == "a5680351521869907322"
    assert rows.namespace_address_set_name("default", 4) == "a4322231855293774466"


@pytest.mark.parametrize(
    ("family", "versions"), [("ipv4", [4]), ("ipv6", [6]), ("dual", [4, 6])], ids=["ipv4", "ipv6", "dual"]
)
def test_a_ready_node_has_the_subnets_of_a_family(family: str, versions: list[int]) -> None:
    made = ready_node("n1", family)
    assert [net.version for net in parse_node_subnets(made["metadata"]["annotations"][NODE_SUBNETS])] == versions
    assert len(made["status"]["addresses"]) == len(versions)
    assert NODES.view(made).name == "n1"
    assert objects("") == []


@pytest.mark.skipif(not ovsdb.available(), reason="needs ovsdb-server")
def test_a_command_of_a_plugin_reads_the_configuration_and_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    @config_options
    def groups(path: str | None, sets: tuple[str, ...]) -> None:
        config = tools().config(path, sets)
        click.echo(f"mtu {config.default.mtu}")
        for row in tools().rows(config, "nb", "Address_Set", ("name", "addresses")):
            click.echo(f"{row['name']}: {','.join(sorted(row['addresses']))}")

    monkeypatch.setattr(Commands, "_of_plugins", lambda _self, only=None: {"groups": groups})
    server = make_server(tmp_path / "db")
    try:
        server.transact(
            "OVN_Northbound",
            [{"op": "insert", "table": "Address_Set", "row": {"name": "a", "addresses": "192.0.2.1"}}],
        )
        address = f"ovnnorth.address={server.endpoint}"
        done = CliRunner().invoke(ovnkit, ["groups", "--set", "default.mtu=1300", "--set", address])
    finally:
        server.stop()
    assert (done.exit_code, done.output) == (0, "mtu 1300\na: 192.0.2.1\n")
