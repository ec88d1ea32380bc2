"""What commands share: the options that say where the configuration is, output formats, loading."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ovnkit.api.commands import config_options
from ovnkit.cli.errors import EXIT_CONFIG, Failure, warn

if TYPE_CHECKING:
    from ovnkit.api.config import Config
    from ovnkit.config.load import Loaded, Override
    from ovnkit.plugins.registry import Plugins

__all__ = ["CommandTools", "config_options", "echo_json", "load", "output_option", "refuse_missing"]
F = TypeVar("F", bound=Callable[..., Any])


def output_option(*formats: str) -> Callable[[F], F]:
    """Add `--output` with the first of `formats` as default."""
    return click.option(
        "--output", "-o", "output", type=click.Choice(formats), default=formats[0], show_default=True
    )


def load(path: str | None, sets: tuple[str, ...], extra: tuple[Override, ...] = ()) -> tuple[Plugins, Loaded]:
    """The plugins and the effective configuration; a wrong one ends the command with exit code 2."""
    from ovnkit.api.errors import ConfigError
    from ovnkit.config.load import Override, load_config
    from ovnkit.plugins.registry import Plugins
    from ovnkit.process import logs

    logs.setup_quiet()
    plugins = Plugins.discover()
    try:
        loaded = load_config(
            path,
            environ=os.environ,
            overrides=(*map(Override.parse, sets), *extra),
            plugin_options=plugins.options,
            broken_plugins=plugins.broken,
        )
        plugins.configure(loaded.config)
    except ConfigError as error:
        raise Failure(str(error), EXIT_CONFIG) from None
    for remark in loaded.remarks:
        warn(remark)
    return plugins, loaded


def refuse_missing(plugins: Plugins) -> None:
    """End the command with exit code 2 when the configuration names plugins that nobody installed."""
    if plugins.missing:
        told = (f"{name}: {plugins.all[name].why}" for name in plugins.missing)
        raise Failure(f"[plugins]: {', '.join(told)}", EXIT_CONFIG)


def echo_json(value: object) -> None:
    """Print a value as indented JSON."""
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode())


class CommandTools:
    """See `ovnkit.api.commands.Tools`."""

    def config(self, path: str | None = None, sets: Sequence[str] = ()) -> Config:
        """The effective configuration; raises ConfigError."""
        _plugins, loaded = load(path, tuple(sets))
        return loaded.config

    def rows(self, config: Config, db: str, table: str, columns: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """The rows of a table now; raises OvnkitError when the database doesn't answer."""
        from ovnkit.status.explain import read_replica

        replica = read_replica(config, db, {table: tuple(columns)})
        return [{"_uuid": record.uuid, **record.values} for record in replica.table(table).values()]
