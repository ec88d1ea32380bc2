"""`ovnkit status`: what the processes on this node are doing."""

from __future__ import annotations

import sys
from typing import Any

import click

from ovnkit.cli.common import config_options, echo_json, load, output_option, print_table
from ovnkit.cli.errors import Failure


@click.command()
@config_options
@output_option("table", "json")
@click.option("--socket", metavar="PATH", help="Status socket of one process (default: all on this node).")
def status(path: str | None, sets: tuple[str, ...], output: str, socket: str | None) -> None:
    """Show what the ovnkit processes on this node are doing. Exit code 1 unless all are ready.

    \b
    Examples:
      ovnkit status
      ovnkit status --output json | jq '.[].troubles'
    """
    from ovnkit.kernel.status import find_running

    _plugins, loaded = load(path, sets)
    try:
        running = find_running(loaded.config, socket)
    except (OSError, ValueError) as error:
        raise Failure(f"{socket}: {error}") from None
    if not running:
        where = loaded.config.ovspaths.ovn_run_dir
        raise Failure(f"no running ovnkit found in {where} (needs root; --socket PATH names one elsewhere)")
    if output == "json":
        echo_json(running)
    else:
        for process in running:
            show(process)
    sys.exit(0 if all(process["ready"] for process in running) else 1)


def show(state: dict[str, Any]) -> None:
    """Print what a process' /status tells."""
    from rich.markup import escape
    from rich.table import Table

    where = f"node {state['node']}, zone {state['zone']}" if state["node"] else f"zone {state['zone'] or '-'}"
    click.echo(
        f"ovnkit {state['version']}, pid {state['pid']}, {'+'.join(state['roles'])}, {where}: "
        f"{'ready' if state['ready'] else 'not ready'}"
    )
    for reason in state["not_ready"]:
        click.echo(f"  - {reason}")
    for role, lease in state["leases"].items():
        click.echo(
            f"  lease of role {role}: {'held' if lease['leading'] else 'held by ' + (lease['holder'] or 'nobody')}"
        )
    table = Table("sink", "ready", "owned", "pending", "held back", "last error")
    for name, sink in state["sinks"].items():
        numbers = (str(sink.get(key, 0)) for key in ("owned", "pending", "held_back"))
        table.add_row(name, "yes" if sink["ready"] else "no", *numbers, escape(sink.get("last_error", "")))
    print_table(table)
    if state["troubles"]:
        troubles = Table("owner", "what", "message")
        for trouble in state["troubles"]:
            troubles.add_row(escape(trouble["owner"]), trouble["what"], escape(trouble["message"]))
        print_table(troubles)
