"""`ovnkit config`: the effective configuration and where each value came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ovnkit.api.terminal import print_table, styled
from ovnkit.cli.common import config_options, echo_json, load, output_option, refuse_missing

if TYPE_CHECKING:
    from ovnkit.config.load import Loaded


@click.group()
def config() -> None:
    """Look at the configuration.

    \b
    Examples:
      ovnkit config show
      ovnkit config show --config ovnkit.toml --set default.mtu=1300 --output toml
      OVNKIT_GATEWAY__MODE=local ovnkit config show --output json
    """


@config.command()
@config_options
@output_option("table", "toml", "json")
def show(path: str | None, sets: tuple[str, ...], output: str) -> None:
    """Print the effective configuration and where each value came from.

    From lowest to highest: built-in default, the file, OVNKIT_<SECTION>__<KEY>, --set. Secrets are hidden.

    \b
    Examples:
      ovnkit config show --output toml > ovnkit.toml
      ovnkit config show --set default.cluster-subnets=10.0.0.0/16/24 --output json
    """
    from ovnkit.config.show import rows

    plugins, loaded = load(path, sets)
    refuse_missing(plugins)
    if output == "json":
        sections: dict[str, dict[str, Any]] = {}
        for row in rows(loaded):
            sections.setdefault(row.section, {})[row.key] = {"value": row.value, "origin": str(row.origin)}
        echo_json({"file": str(loaded.path) if loaded.path else None, "sections": sections})
    elif output == "toml":
        _toml(loaded)
    else:
        _table(loaded)


def _table(loaded: Loaded) -> None:
    from ovnkit.config.load import BUILT_IN
    from ovnkit.config.show import rows

    lines: list[Sequence[Any] | None] = []
    last = ""
    for row in rows(loaded):
        first = row.section != last
        if first and lines:
            lines.append(None)
        style = "bold" if row.origin.source != BUILT_IN else "dim"
        cells = (row.section if first else "", row.key, row.text, row.origin)
        lines.append([styled(cell, style) for cell in cells])
        last = row.section
    print_table(("section", "key", "value", "from"), lines, title=f"configuration ({loaded.path or 'no file'})")


def _toml(loaded: Loaded) -> None:
    from ovnkit.config.show import rows

    last = ""
    for row in rows(loaded):
        if row.section != last:
            click.echo(f"{chr(10) if last else ''}[{row.section}]")
        click.echo(f"{row.key} = {row.text}  # {row.origin}")
        last = row.section
