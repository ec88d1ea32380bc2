"""`ovnkit plugins`: which plugins there are, their state, and why."""

from __future__ import annotations

from typing import Any

import click

from ovnkit.api.terminal import print_table, styled
from ovnkit.cli.common import config_options, echo_json, load, output_option

_STYLES = {"enabled": "green", "disabled": "dim", "failed": "red", "missing": "red", "quarantined": "yellow"}


@click.command()
@config_options
@output_option("table", "json")
@click.option("--socket", metavar="PATH", help="Status socket of the running process (default: looked for).")
def plugins(path: str | None, sets: tuple[str, ...], output: str, socket: str | None) -> None:
    """List the installed plugins: name, distribution, state, why, what each needs.

    The state is that of the running process where one can be reached (`live`), else what the configuration
    gives.

    \b
    Examples:
      ovnkit plugins
      ovnkit plugins --output json | jq '.[] | select(.state != "enabled")'
    """
    from ovnkit.status.read import find_running, plugin_rows

    found, loaded = load(path, sets)
    found.look_up_distributions()
    rows = plugin_rows(found, find_running(loaded.config, socket))
    if output == "json":
        echo_json(rows)
    else:
        _table(rows)


def _table(rows: list[dict[str, Any]]) -> None:
    print_table(
        ("plugin", "version", "state", "why", "needs", "what it does"),
        [
            (
                row["name"],
                f"{row['distribution']} {row['version']}".strip(),
                styled(row["state"], _STYLES.get(row["state"], "")),
                row["why"],
                ", ".join(row["needs"]),
                row["summary"],
            )
            for row in rows
        ],
    )
