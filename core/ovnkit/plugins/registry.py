"""The plugins: found by stevedore, called through pluggy, switched by configuration, shown with their state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from importlib.metadata import entry_points
from typing import Any, Concatenate

import attrs
import structlog
from attrs import define, field

from ovnkit.api.config import Config
from ovnkit.api.errors import ConfigError, did_you_mean
from ovnkit.api.hooks import AppliedStatus, Columns, Declaration, Hooks, Privilege
from ovnkit.api.kinds import Kind
from ovnkit.api.metrics import Latency
from ovnkit.api.world import P, T
from ovnkit.config.load import core_sections
from ovnkit.plugins.calls import Calls, InvalidPlugin
from ovnkit.plugins.ordering import order

GROUP = "ovnkit.plugins"
log = structlog.get_logger()

Schema = Mapping[str, Mapping[str, Iterable[str]]]
"""Tables and their columns by database (`nb`, `sb`, `ovs`)."""


class PluginState(Enum):
    """PluginState of a plugin as `ovnkit plugins` shows it."""

    FOUND = "found"
    ENABLED = "enabled"
    DISABLED = "disabled"
    FAILED = "failed"
    MISSING = "missing"
    QUARANTINED = "quarantined"


@define
class Plugin:
    """One plugin: its state and why it is in it. `held_at_start`: its quarantine lasts until a restart."""

    name: str
    state: PluginState = PluginState.FOUND
    why: str = ""
    instance: object | None = None
    declaration: Declaration = field(factory=Declaration)
    options: type | None = None
    distribution: str = ""
    version: str = ""
    held_at_start: bool = False

    @property
    def summary(self) -> str:
        """What it is for, in a line: declared, else the first line of the class' docstring."""
        documented = inspect.getdoc(type(self.instance)) if self.instance is not None else ""
        return self.declaration.summary or (documented or "").split("\n")[0]

    def fail(self, why: str) -> None:
        """Record that it can't be used."""
        self.state, self.why = PluginState.FAILED, why


class Plugins:
    """All plugins of this process. Use `discover`, then `configure`."""

    def __init__(self, instances: Mapping[str, object]) -> None:
        self.all: dict[str, Plugin] = {}
        self._order: tuple[str, ...] = ()
        self._disabled: tuple[str, ...] = ()
        self.calls = Calls(self.active)
        for name in instances:
            self._add(name, instances[name])

    @classmethod
    def discover(cls, only: str | None = None) -> Plugins:
        """Load the plugins of every installed distribution, or only one by name; failures are recorded."""
        from stevedore import ExtensionManager, NamedExtensionManager

        failed: dict[str, str] = {}

        def on_failure(_manager: Any, entry_point: Any, error: BaseException) -> None:
            failed[entry_point.name] = f"loading {entry_point.value}: {type(error).__name__}: {error}"

        # Its cache on disk knows the time of a file to two minutes: it would go on with what has been reinstalled.
        ExtensionManager.ENTRY_POINT_CACHE[GROUP] = list(entry_points(group=GROUP))
        extensions: ExtensionManager[Any]
        if only is None:
            extensions = ExtensionManager(GROUP, invoke_on_load=True, on_load_failure_callback=on_failure)
        else:
            extensions = NamedExtensionManager(
                GROUP,
                [only],
                invoke_on_load=True,
                on_load_failure_callback=on_failure,
                warn_on_missing_entrypoint=False,
            )
        found: dict[str, object] = {}
        twice: dict[str, str] = {}
        for extension in extensions:
            if extension.name in found:
                twice[extension.name] = _twice(extension.name)
            found[extension.name] = extension.obj
        plugins = cls({name: found[name] for name in sorted(found) if name not in twice})
        for name, why in (failed | twice).items():
            plugins.all[name] = Plugin(name)
            plugins.all[name].fail(why)
        return plugins

    def _add(self, name: str, instance: object) -> None:
        plugin = self.all[name] = Plugin(name, instance=instance)
        try:
            self.calls.register(name, instance)
        except InvalidPlugin as error:
            plugin.fail(str(error))
            return
        options = self._ask(plugin, Hooks.ovnkit_options)
        if options is not None and name in core_sections():
            plugin.fail(f"it has options, but section [{name}] of the configuration is the core's")
        elif options is not None and not attrs.has(options):
            plugin.fail(f"ovnkit_options gave {options!r}, which is no attrs class")
        else:
            plugin.options = options

    def _ask(
        self, plugin: Plugin, hook: Callable[Concatenate[Any, P], T | None], *args: P.args, **arguments: P.kwargs
    ) -> T | None:
        """A hook without which the plugin can't be used: raising takes it out."""
        answer, error = self.calls.attempt(plugin.name, hook, *args, **arguments)
        if error is not None:
            plugin.fail(f"{hook.__name__}: {type(error).__name__}: {error}")
        return answer

    # -- what configuration needs -------------------------------------------------------------------------

    @property
    def options(self) -> dict[str, type]:
        """The classes of the plugins' options by section."""
        return {plugin.name: plugin.options for plugin in self.all.values() if plugin.options is not None}

    @property
    def broken(self) -> dict[str, str]:
        """Plugins that couldn't be loaded, and why; their sections can't be checked."""
        return {plugin.name: plugin.why for plugin in self.all.values() if plugin.state is PluginState.FAILED}

    def configure(self, config: Config) -> None:
        """Decide which plugins run; raises ConfigError if one of them can't work with the configuration."""
        self._disabled = config.plugins.disabled
        self._name_missing(config)
        for plugin in self._usable():
            declared = self._ask(plugin, Hooks.ovnkit_declare, config=config)
            plugin.declaration = declared if isinstance(declared, Declaration) else Declaration()
            if declared is not None and (problem := _problem(declared)):
                plugin.fail(f"ovnkit_declare: {problem}")
        wanted = {plugin.name: plugin for plugin in self._usable() if self._wanted(plugin, config)}
        absent = {
            name: "missing"
            if p.state is PluginState.MISSING
            else "failed"
            if p.state is PluginState.FAILED
            else "disabled"
            for name, p in self.all.items()
            if name not in wanted
        }
        decided = order({name: plugin.declaration for name, plugin in wanted.items()}, absent)
        for name, why in decided.off.items():
            wanted[name].state, wanted[name].why = PluginState.DISABLED, why
        for name in decided.names:
            wanted[name].state, wanted[name].why = PluginState.ENABLED, ""
        self._order = decided.names
        for plugin in self.enabled:
            self._ask(plugin, Hooks.ovnkit_check_config, config=config)

    def _usable(self) -> list[Plugin]:
        return [
            plugin for plugin in self.all.values() if plugin.state not in (PluginState.FAILED, PluginState.MISSING)
        ]

    def _name_missing(self, config: Config) -> None:
        for name in dict.fromkeys((*config.plugins.enabled, *config.plugins.disabled)):
            if name not in self.all:
                key = "enabled" if name in config.plugins.enabled else "disabled"
                hint = did_you_mean(
                    name, (p.name for p in self.all.values() if p.state is not PluginState.MISSING)
                )
                why = f"named in [plugins] {key}, but not installed{hint}"
                self.all[name] = Plugin(name, PluginState.MISSING, why)

    def _wanted(self, plugin: Plugin, config: Config) -> bool:
        if plugin.name in config.plugins.disabled:
            plugin.state, plugin.why = PluginState.DISABLED, "by [plugins] disabled"
            return False
        if plugin.declaration.unavailable:
            plugin.state, plugin.why = PluginState.DISABLED, plugin.declaration.unavailable
            return False
        if plugin.name in config.plugins.enabled or plugin.declaration.default:
            return True
        plugin.state, plugin.why = PluginState.DISABLED, "not in [plugins] enabled"
        return False

    # -- what runs ----------------------------------------------------------------------------------------

    @property
    def missing(self) -> list[str]:
        """Names in the configuration that nobody installed."""
        return [plugin.name for plugin in self.all.values() if plugin.state is PluginState.MISSING]

    @property
    def enabled(self) -> list[Plugin]:
        """The plugins that run, each after those it needs."""
        return [self.all[name] for name in self._order if self.all[name].state is PluginState.ENABLED]

    def active(self) -> Sequence[str]:
        """Names of the plugins that hooks are called on; one in quarantine still gets them (it must stop)."""
        return [
            name for name in self._order if self.all[name].state in (PluginState.ENABLED, PluginState.QUARANTINED)
        ]

    def quarantine(self, name: str, why: str) -> None:
        """Show a plugin that keeps failing as quarantined."""
        plugin = self.all[name]
        if plugin.state is PluginState.ENABLED:
            log.error("plugin is quarantined", plugin=name, reason=why)
        plugin.state, plugin.why = PluginState.QUARANTINED, why

    def require(
        self, hook: Callable[Concatenate[Any, P], T | None], *args: P.args, **arguments: P.kwargs
    ) -> list[tuple[str, T]]:
        """`each` for a hook that plugins need at start: one that raises is quarantined."""
        answers = []
        for plugin in self.enabled:
            try:
                answer, error = self.calls.attempt(plugin.name, hook, *args, **arguments)
            except ConfigError:
                raise
            except Exception as deliberate:
                answer, error = None, deliberate
            if error is not None:
                plugin.held_at_start = True
                self.quarantine(plugin.name, f"{hook.__name__}: {type(error).__name__}: {error}")
            elif answer is not None:
                answers.append((plugin.name, answer))
        return answers

    @property
    def silent(self) -> frozenset[str]:
        """Plugins that failed, or need one that did: what they wrote before must stay as it is.

        Disabling such a plugin by name removes what it wrote.
        """
        failed = (PluginState.FAILED, PluginState.QUARANTINED)
        wanted = {name: plugin for name, plugin in self.all.items() if name not in self._disabled}
        silent = {name for name, plugin in wanted.items() if plugin.state in failed}
        while more := {
            name
            for name, plugin in wanted.items()
            if name not in silent
            and plugin.state is PluginState.DISABLED
            and silent.intersection(plugin.declaration.needs)
        }:
            silent |= more
        return frozenset(silent)

    def check_schema(self, schema: Schema) -> None:
        """Switch off the plugins that write tables or columns which a connected database lacks.

        Databases that aren't in `schema` are not looked at: this process doesn't write them.
        """
        lacking = {
            plugin.name: lacks for plugin in self.enabled if (lacks := _lacks(plugin.declaration.columns, schema))
        }
        left = {plugin.name: plugin.declaration for plugin in self.enabled if plugin.name not in lacking}
        decided = order(left, dict.fromkeys(lacking, "disabled"))
        for name, why in {**lacking, **decided.off}.items():
            self.all[name].state, self.all[name].why = PluginState.DISABLED, why
            log.error("plugin is off", plugin=name, reason=why)
        self._order = decided.names

    def look_up_distributions(self) -> None:
        """Fill in which distribution each plugin comes from (slow: reads installed metadata)."""
        for entry_point in entry_points(group=GROUP):
            plugin = self.all.get(entry_point.name)
            if plugin is not None and entry_point.dist is not None:
                plugin.distribution, plugin.version = entry_point.dist.name, entry_point.dist.version


def _twice(name: str) -> str:
    """Which distributions have a plugin of one name: whoever reads it has to remove one of them."""
    homes = (
        f"{entry_point.dist.name} {entry_point.dist.version} ({entry_point.value})"
        for entry_point in entry_points(group=GROUP, name=name)
        if entry_point.dist is not None
    )
    return f"several installed distributions have a plugin {name!r}: {', '.join(sorted(homes))}"


_DECLARED: Mapping[str, type] = {
    "needs": str, "after": str, "kinds": Kind, "columns": Columns, "crds": Mapping, "applies": AppliedStatus,
    "privileges": Privilege, "latencies": Latency,
}  # fmt: skip
"""What the fields of a Declaration hold several of."""


def _problem(declared: object) -> str:
    """What is wrong with a plugin's declaration, for its author; empty when nothing is."""
    if not isinstance(declared, Declaration):
        return f"it must give a Declaration, not {type(declared).__name__}: {declared!r}"
    for name, cls in _DECLARED.items():
        value = getattr(declared, name)
        if not isinstance(value, tuple | list) or not all(isinstance(item, cls) for item in value):
            return f"{name} must be a tuple of {cls.__name__}, not {value!r}"
    return ""


def _lacks(needs: Iterable[Columns], schema: Schema) -> str:
    found = []
    for need in needs:
        if need.optional or need.db not in schema:
            continue
        product = "Open vSwitch" if need.db == "ovs" else "OVN"
        newer = f"{product} \N{GREATER-THAN OR EQUAL TO} {need.since}" if need.since else f"a newer {product}"
        table = schema[need.db].get(need.table)
        if table is None:
            found.append(f"needs {newer}: {need.table}")
            continue
        found += [f"needs {newer}: {need.table}.{column}" for column in need.columns if column not in set(table)]
    return "; ".join(found)
