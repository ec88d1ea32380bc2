"""The `ovnkit` command. Sub-commands are imported when they are used; plugins add their own."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import click

from ovnkit import __version__
from ovnkit.api.hooks import Hooks
from ovnkit.cli.errors import Failure, run_told, warn

_COMMANDS = {
    "config": "ovnkit.cli.config",
    "crds": "ovnkit.cli.manifests",
    "docs": "ovnkit.cli.docs",
    "explain": "ovnkit.cli.explain",
    "plugins": "ovnkit.cli.plugins",
    "privileges": "ovnkit.cli.manifests",
    "run": "ovnkit.cli.run",
    "status": "ovnkit.cli.status",
}
"""Commands of the core and the modules that hold them under the same name."""


class Commands(click.Group):
    """The core's commands, and those of the plugins behind them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Names for `--help`."""
        return sorted({*_COMMANDS, *self._of_plugins()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """A command by name; the plugin of that name is asked before all the others."""
        if cmd_name in _COMMANDS:
            command: click.Command = getattr(import_module(_COMMANDS[cmd_name]), cmd_name)
            return command
        return self._of_plugins(only=cmd_name).get(cmd_name) or self._of_plugins().get(cmd_name)

    def _of_plugins(self, only: str | None = None) -> dict[str, click.Command]:
        """Commands of all plugins, or of one; a plugin that can't give them is a warning."""
        from ovnkit.plugins.registry import Plugins
        from ovnkit.process import logs

        if only is None and self._plugin_commands is not None:
            return self._plugin_commands
        logs.setup_quiet()
        found: dict[str, click.Command] = {}
        plugins = Plugins.discover(only)
        for plugin in plugins.all.values():
            try:
                commands = plugins.calls.call(plugin.name, Hooks.ovnkit_commands) or ()
                if not isinstance(commands, Iterable) or not all(isinstance(c, click.Command) for c in commands):
                    plugin.fail(f"ovnkit_commands: it must give commands of click, not {commands!r}")
                else:
                    found.update({command.name: command for command in commands if command.name})
            except Exception as error:
                plugin.fail(f"ovnkit_commands: {type(error).__name__}: {error}")
            if plugin.why and plugin.name == only:
                raise Failure(f"the command comes from plugin {plugin.name}, which failed: {plugin.why}")
            if plugin.why:
                warn(f"plugin {plugin.name}: {plugin.why}")
        if only is None:
            self._plugin_commands = found
        return found

    _plugin_commands: dict[str, click.Command] | None = None


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"ovnkit {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show it.")
@click.pass_context
def ovnkit(context: click.Context) -> None:
    """A Kubernetes network plugin on OVN: a small core, every feature a plugin.

    \b
    Examples:
      ovnkit run --role zone --role node --node-name worker-1
      ovnkit config show                  what is in effect, and where it was set
      ovnkit plugins                      which plugins there are, and why they run or don't
      ovnkit explain --table Logical_Switch
    """
    from ovnkit.cli.common import CommandTools

    context.obj = CommandTools()


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Expected failures are one line on stderr."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(run_told(lambda: ovnkit.main(given, prog_name="ovnkit", standalone_mode=False), given))
