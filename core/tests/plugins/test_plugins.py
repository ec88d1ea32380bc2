"""Plugins: discovery, ordering, switching, failures with names."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from ovnkit.api.config import Config, PluginsOptions
from ovnkit.api.errors import ConfigError, Reject
from ovnkit.api.hooks import Columns, Declaration, Hooks, hookimpl
from ovnkit.plugins.calls import hook_names
from ovnkit.plugins.registry import Plugins, PluginState


def plugin(**hooks: Any) -> Any:
    """A plugin from functions by hook name; `declare` keyword arguments make a Declaration."""
    declared = hooks.pop("declare", None)
    body = {name: hookimpl(function) for name, function in hooks.items()}
    if declared is not None:
        body["ovnkit_declare"] = hookimpl(lambda self: Declaration(**declared))
    return type("Sample", (), body)()


def switched(enabled: Any = (), disabled: Any = ()) -> Config:
    return Config(plugins=PluginsOptions(tuple(enabled), tuple(disabled)))


def names(plugins: Plugins) -> list[str]:
    return [found.name for found in plugins.enabled]


def test_order_follows_needs_and_after() -> None:
    plugins = Plugins(
        {
            "a": plugin(declare={"default": True, "needs": ("c",)}),
            "b": plugin(declare={"default": True, "after": ("a", "not-installed")}),
            "c": plugin(declare={"default": True}),
        }
    )
    plugins.configure(Config())
    assert names(plugins) == ["c", "a", "b"]


def test_enabled_by_default_by_name_or_not_at_all() -> None:
    plugins = Plugins(
        {
            "default": plugin(declare={"default": True}),
            "named": plugin(declare={}),
            "other": plugin(declare={}),
            "unwanted": plugin(declare={"default": True}),
        }
    )
    plugins.configure(switched(["named"], ["unwanted"]))
    assert names(plugins) == ["default", "named"]
    assert plugins.all["other"].why == "not in [plugins] enabled"
    assert plugins.all["unwanted"].why == "by [plugins] disabled"


def test_what_cannot_be_used_here_is_off_and_says_why() -> None:
    plugins = Plugins({"a": plugin(declare={"default": True, "unavailable": "run make"}), "b": plugin(declare={})})
    plugins.configure(switched(["a", "b"]))
    assert names(plugins) == ["b"]
    assert (plugins.all["a"].state, plugins.all["a"].why) == (PluginState.DISABLED, "run make")


def test_what_needs_something_disabled_is_off_with_the_reason_along_the_chain() -> None:
    plugins = Plugins(
        {
            "a": plugin(declare={"default": True}),
            "b": plugin(declare={"default": True, "needs": ("a",)}),
            "c": plugin(declare={"default": True, "needs": ("b", "zzz")}),
        }
    )
    plugins.configure(switched(disabled=["a"]))
    assert names(plugins) == []
    assert plugins.all["b"].why == "needs a, which is disabled"
    assert plugins.all["c"].why.startswith("needs ")
    assert "zzz, which is not installed" in plugins.all["c"].why


def test_cycle_is_reported_and_others_run() -> None:
    plugins = Plugins(
        {
            "a": plugin(declare={"default": True, "needs": ("b",)}),
            "b": plugin(declare={"default": True, "after": ("a",)}),
            "c": plugin(declare={"default": True}),
        }
    )
    plugins.configure(Config())
    assert names(plugins) == ["c"]
    assert "cycle" in plugins.all["a"].why
    assert "a -> b" in plugins.all["a"].why or "b -> a" in plugins.all["a"].why


def test_names_nobody_installed_are_shown() -> None:
    plugins = Plugins({})
    plugins.configure(switched(["ghost"], ["phantom"]))
    assert plugins.missing == ["ghost", "phantom"]
    assert plugins.all["ghost"].state is PluginState.MISSING
    assert "[plugins] enabled" in plugins.all["ghost"].why
    assert "[plugins] disabled" in plugins.all["phantom"].why


def test_load_failure_is_recorded_and_others_load(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("broken", "nowhere.at_all:Plugin", "ovnkit.plugins"),
        EntryPoint("fine", "ovnkit.api.errors:OvnkitError", "ovnkit.plugins"),
    ]
    monkeypatch.setattr("stevedore.ExtensionManager.list_entry_points", lambda self: entries)
    plugins = Plugins.discover()
    assert plugins.all["broken"].state is PluginState.FAILED
    assert "No module named 'nowhere'" in plugins.all["broken"].why
    assert plugins.all["fine"].state is PluginState.FOUND


def test_a_distribution_reinstalled_with_another_entry_point_is_seen_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In processes of their own: one process reads the entry points once."""
    home = tmp_path / "acme-1.0.dist-info"
    home.mkdir()
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    script = "from ovnkit.plugins.registry import Plugins; print(*Plugins.discover().all)"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("before", "after"):
        (home / "entry_points.txt").write_text(f"[ovnkit.plugins]\n{name} = builtins:object\n")
        # the same moment but for a minute: files are often made anew that soon
        moment = 1_800_000_000 + (0 if name == "before" else 50)
        for path in (home / "entry_points.txt", home, tmp_path):
            os.utime(path, (moment, moment))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert {"before", "after"} & set(done.stdout.split()) == {name}


def test_two_distributions_with_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [EntryPoint("twin", "ovnkit.api.errors:OvnkitError", "ovnkit.plugins")] * 2
    monkeypatch.setattr("stevedore.ExtensionManager.list_entry_points", lambda self: entries)
    assert "several installed distributions" in Plugins.discover().all["twin"].why


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ({"needs": ["topology"]}, "it must give a Declaration, not dict: {'needs': ['topology']}"),
        (Declaration(needs="topology"), "needs must be a tuple of str, not 'topology'"),  # type: ignore[arg-type]
        (Declaration(kinds=("pods",)), "kinds must be a tuple of Kind, not ('pods',)"),  # type: ignore[arg-type]
        (Declaration(columns=(("nb", "ACL"),)), "columns must be a tuple of Columns, not (('nb', 'ACL'),)"),  # type: ignore[arg-type]
        (Declaration(privileges={"pods": "get"}), "privileges must be a tuple of Privilege, not {'pods': 'get'}"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_no_declaration_is_told_to_its_author(declared: Any, why: Any) -> None:
    plugins = Plugins({"a": plugin(ovnkit_declare=lambda self: declared), "b": plugin()})
    plugins.configure(switched(["a", "b"], []))
    assert (plugins.all["a"].state, plugins.all["a"].why) == (PluginState.FAILED, f"ovnkit_declare: {why}")
    assert plugins.all["b"].state is PluginState.ENABLED


def test_what_fits_no_hook_is_told_with_what_was_meant() -> None:
    found = Plugins(
        {
            "hook": plugin(ovnkit_decalre=lambda self: None),
            "argument": plugin(ovnkit_health=lambda self, runtim: None),
            "none": plugin(ovnkit_options=lambda self, weather: None),
        }
    )
    assert {name: seen.why for name, seen in found.all.items()} == {
        "hook": "there is no hook 'ovnkit_decalre'; did you mean 'ovnkit_declare'?",
        "argument": "ovnkit_health: the hook has no argument 'runtim'; did you mean 'runtime'?",
        "none": "ovnkit_options: the hook has no argument 'weather'; it has none",
    }


def test_what_pluggy_would_pass_over_or_stumble_on_is_told_too() -> None:
    class Unmarked:
        def ovnkit_declare(self: Any) -> Declaration:
            return Declaration(default=True)

    class WithoutSelf:
        @hookimpl
        def ovnkit_declare() -> Declaration:  # type: ignore[misc]
            return Declaration(default=True)

    class Property:
        @property
        def runtime(self: Any) -> object:
            raise RuntimeError("not started")

    class OfTheSpecification(Hooks):
        @hookimpl
        def ovnkit_declare(self: Any, config: Config) -> Declaration:
            return Declaration(default=True)

    kinds = (Unmarked, WithoutSelf, Property, OfTheSpecification)
    found = Plugins({kind.__name__: kind() for kind in kinds})
    found.configure(Config())
    assert {name: seen.why for name, seen in found.all.items()} == {
        "Unmarked": "ovnkit_declare is not marked with @hookimpl: it would never be called",
        "WithoutSelf": "ovnkit_declare: it is a method, its first argument is self",
        "Property": "not in [plugins] enabled",
        "OfTheSpecification": "",
    }
    assert [plugin.name for plugin in found.enabled] == ["OfTheSpecification"]


def test_unknown_hook_and_wrong_argument_are_failures() -> None:
    plugins = Plugins(
        {
            "unknown": plugin(ovnkit_make_coffee=lambda self: None),
            "wrong": plugin(ovnkit_health=lambda self, weather: None),
        }
    )
    assert plugins.all["unknown"].state is PluginState.FAILED
    assert "ovnkit_make_coffee" in plugins.all["unknown"].why
    assert plugins.all["wrong"].state is PluginState.FAILED
    assert "weather" in plugins.all["wrong"].why


def test_options_must_be_attrs_and_not_a_core_section() -> None:
    @frozen
    class Options:
        pass

    plugins = Plugins(
        {
            "cni": plugin(ovnkit_options=lambda self: Options),
            "dicty": plugin(ovnkit_options=lambda self: dict),
            "good": plugin(ovnkit_options=lambda self: Options),
        }
    )
    assert plugins.options == {"good": Options}
    assert "section [cni]" in plugins.all["cni"].why
    assert "no attrs class" in plugins.all["dicty"].why


def boom(*_arguments: Any, **_more: Any) -> None:
    raise RuntimeError("boom")


def test_declaring_that_raises_fails_only_that_plugin() -> None:
    plugins = Plugins(
        {"bad": plugin(ovnkit_declare=lambda self: boom()), "good": plugin(declare={"default": True})}
    )
    plugins.configure(Config())
    assert names(plugins) == ["good"]
    assert plugins.all["bad"].why == "ovnkit_declare: RuntimeError: boom"


def test_check_config_may_refuse_the_configuration() -> None:
    def refuse(self: Any, config: Any) -> None:
        raise ConfigError("[x] y: no")

    plugins = Plugins({"picky": plugin(declare={"default": True}, ovnkit_check_config=refuse)})
    with pytest.raises(ConfigError, match=r"\[x\] y: no"):
        plugins.configure(Config())


def decorated() -> Any:
    return Plugins(
        {
            "a": plugin(
                declare={"default": True}, ovnkit_port_options=lambda self, pod: {"from": "a", "pod": pod}
            ),
            "b": plugin(declare={"default": True}, ovnkit_port_options=lambda self, world: boom()),
            "c": plugin(declare={"default": True}, ovnkit_port_options=lambda self: None),
            "d": plugin(declare={"default": True}, ovnkit_port_options=lambda self: {"from": "d"}),
        }
    )


def test_each_names_the_plugins_and_one_that_raises_stops_nobody() -> None:
    plugins = decorated()
    plugins.configure(Config())
    answers = plugins.calls.each(Hooks.ovnkit_port_options, world=None, pod="web")
    assert answers == [("a", {"from": "a", "pod": "web"}), ("d", {"from": "d"})]
    assert plugins.calls.failures[("b", "ovnkit_port_options")] == 1


def test_disabled_plugins_are_not_asked() -> None:
    plugins = decorated()
    plugins.configure(switched(disabled=["a"]))
    assert [name for name, _ in plugins.calls.each(Hooks.ovnkit_port_options, world=None, pod="web")] == ["d"]


def test_reject_passes_through_to_the_caller() -> None:
    def reject(self: Any) -> None:
        raise Reject("bad annotation")

    plugins = Plugins({"a": plugin(declare={"default": True}, ovnkit_port_options=reject)})
    plugins.configure(Config())
    with pytest.raises(Reject, match="bad annotation"):
        plugins.calls.each(Hooks.ovnkit_port_options, world=None, pod=None)  # type: ignore[arg-type]
    assert not plugins.calls.failures


def test_first_takes_the_first_answer_in_plugin_order() -> None:
    plugins = Plugins(
        {
            "a": plugin(declare={"default": True, "after": ("b",)}, ovnkit_plug_pod=lambda self: "a"),
            "b": plugin(declare={"default": True}, ovnkit_plug_pod=lambda self: None),
            "c": plugin(declare={"default": True}, ovnkit_plug_pod=lambda self: "c"),
        }
    )
    plugins.configure(Config())
    found = plugins.calls.first(Hooks.ovnkit_plug_pod, runtime=None, interface=None, request=None)  # type: ignore[arg-type]
    assert found == ("c", "c")  # type: ignore[comparison-overlap]  # b, c, then a: it comes after b


def test_renderers_that_raise_quarantine_the_plugin() -> None:
    def explode(self: Any) -> Any:
        yield from ()
        boom()

    plugins = Plugins({"bad": plugin(declare={"default": True}, ovnkit_renderers=explode)})
    plugins.configure(Config())
    assert plugins.require(Hooks.ovnkit_renderers, config=None, scope=None, hooks=None) == []  # type: ignore[arg-type]
    assert plugins.all["bad"].state is PluginState.QUARANTINED
    assert plugins.all["bad"].why == "ovnkit_renderers: RuntimeError: boom"


def test_missing_column_switches_the_plugin_off_and_what_needs_it() -> None:
    plugins = Plugins(
        {
            "tiers": plugin(
                declare={"default": True, "columns": (Columns("nb", "ACL", ("match", "tier"), since="23.06"),)}
            ),
            "policy": plugin(declare={"default": True, "needs": ("tiers",)}),
            "flows": plugin(declare={"default": True, "columns": (Columns("ovs", "Nowhere", ("x",)),)}),
        }
    )
    plugins.configure(Config())
    plugins.check_schema({"nb": {"ACL": ["match"]}})
    assert names(plugins) == ["flows"], "a database that isn't connected says nothing"
    assert plugins.all["tiers"].why == "needs OVN ≥ 23.06: ACL.tier"
    assert plugins.all["policy"].why == "needs tiers, which is disabled"


def test_missing_optional_column_is_no_reason() -> None:
    columns = (Columns("nb", "ACL", ("match",)), Columns("nb", "ACL", ("tier",), since="23.06", optional=True))
    plugins = Plugins({"tiers": plugin(declare={"default": True, "columns": columns})})
    plugins.configure(Config())
    plugins.check_schema({"nb": {"ACL": ["match"]}})
    assert names(plugins) == ["tiers"]


def test_silent_are_those_that_failed_and_those_that_need_them() -> None:
    plugins = Plugins(
        {
            "a": plugin(ovnkit_declare=lambda self: boom()),
            "b": plugin(declare={"default": True, "needs": ("a",)}),
            "c": plugin(declare={"default": True, "needs": ("b",)}),
            "d": plugin(declare={"default": True}),
            "e": plugin(declare={"default": True, "needs": ("f",)}),
            "f": plugin(declare={"default": True}),
            "g": plugin(ovnkit_declare=lambda self: boom()),
        }
    )
    plugins.configure(switched(disabled=["f", "g"]))
    assert plugins.silent == {"a", "b", "c"}


def test_hooks_are_few_and_documented() -> None:
    specs = hook_names()
    assert 0 < len(specs) < 20
    assert all(spec.__doc__ for spec in specs.values())
