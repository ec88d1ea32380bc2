"""What commands of plugins (hook `ovnkit_commands`) may use of the core: the configuration, and the databases.

    @click.command()
    @config_options
    def labels(path: str | None, sets: tuple[str, ...]) -> None:
        config = tools().config(path, sets)
        for row in tools().rows(config, "nb", "Address_Set", ("name", "addresses")):
            ...

Errors that are raised on purpose (`OvnkitError`, click's) end a command with one line and an exit code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import click

from ovnkit.api.config import Config

__all__ = [
    "Tools",
    "config_options",
    "tools",
]

F = TypeVar("F", bound=Callable[..., Any])


class Tools(Protocol):
    """What the core gives to commands."""

    def config(self, path: str | None = None, sets: Sequence[str] = ()) -> Config:
        """The effective configuration: a file (None: the default one), the environment, `section.key=value`s.

        Raises ConfigError.
        """

    def rows(self, config: Config, db: str, table: str, columns: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """The rows of a table now, columns as Python values, with `_uuid`; `db` is `nb`, `sb` or `ovs`.

        Raises OvnkitError when the database doesn't answer.
        """


def tools() -> Tools:
    """The tools of the command that runs."""
    found: Tools = click.get_current_context().find_root().obj
    return found


def config_options(command: F) -> F:
    """Add `--config` (argument `path`) and `--set` (`sets`), which all commands have that read a configuration."""
    command = click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Set one key of the configuration; may be repeated.",
    )(command)
    return click.option(
        "--config",
        "path",
        metavar="FILE",
        envvar="OVNKIT_CONFIG",
        help="Configuration file (default: $OVNKIT_CONFIG, else /etc/ovnkit/ovnkit.toml if present).",
    )(command)
