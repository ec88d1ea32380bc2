"""`ovnkit status`: what the processes on this node are doing."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click

from ovnkit.api.terminal import print_table
from ovnkit.cli.common import config_options, echo_json, load, output_option
from ovnkit.cli.errors import EXIT_DEGRADED, EXIT_FAILURE, Failure


@click.command()
@config_options
@output_option("table", "json")
@click.option("--socket", metavar="PATH", help="Status socket of one process (default: all on this node).")
def status(path: str | None, sets: tuple[str, ...], output: str, socket: str | None) -> None:
    """Show what the ovnkit processes on this node are doing.

    Exit code: 0 all are ready, 1 one is not, 4 all are, but something wanted is not in effect (degraded): an
    object is wrong, a plugin failed or is in quarantine, a database refuses rows, or something has waited for more
    than a minute.

    \b
    Examples:
      ovnkit status
      ovnkit status --output json | jq '.[].failures'
    """
    from ovnkit.status.read import find_running

    _plugins, loaded = load(path, sets)
    try:
        running = find_running(loaded.config, socket)
    except OSError as error:
        raise Failure(f"{socket}: {error.strerror or error}") from None
    except ValueError as error:
        raise Failure(f"{socket}: what answers is no ovnkit: {error}") from None
    if not running:
        where = loaded.config.ovspaths.ovn_run_dir
        raise Failure(f"no running ovnkit found in {where} (needs root; --socket PATH names one elsewhere)")
    if output == "json":
        echo_json(running)
    else:
        for process in running:
            show(process)
    if not all(process["ready"] for process in running):
        sys.exit(EXIT_FAILURE)
    sys.exit(EXIT_DEGRADED if any(process.get("degraded") for process in running) else 0)


def show(state: dict[str, Any]) -> None:
    """Print what a process' /status tells."""
    where = f"node {state['node']}, zone {state['zone']}" if state["node"] else f"zone {state['zone'] or '-'}"
    degraded = state.get("degraded", ())
    click.echo(
        f"ovnkit {state['version']}, pid {state['pid']}, {'+'.join(state['roles'])}, {where}: "
        f"{'not ready' if not state['ready'] else 'degraded' if degraded else 'ready'}"
    )
    for reason in (*state["not_ready"], *degraded):
        click.echo(f"  - {reason}")
    for role, lease in state["leases"].items():
        click.echo(
            f"  lease of role {role}: {'held' if lease['leading'] else 'held by ' + (lease['holder'] or 'nobody')}"
        )
    sinks = state["sinks"]
    columns = ("owned", "pending", "waiting", "held_back")
    print_table(
        ("sink", "ready", "owned", "pending", "waiting", "held back", "last error"),
        [
            (
                name,
                "yes" if sink["ready"] else "no",
                *(sink.get(key, 0) for key in columns),
                sink.get("last_error"),
            )
            for name, sink in sinks.items()
        ],
    )
    waits = [wait for sink in sinks.values() for wait in sink.get("waits", ())]
    if waits:
        print_table(
            ("owner", "what waits", "for", "since"),
            [(wait["owner"], wait["item"], wait["wants"], moment(wait["since"])) for wait in waits],
        )
    more = sum(sink.get("waiting", 0) for sink in sinks.values()) - len(waits)
    if more > 0:
        click.echo(f"  and {more} more wait")
    if state["failures"]:
        print_table(
            ("owner", "what", "message", "since"),
            [
                (failure["owner"], failure["what"], failure["message"], moment(failure["since"]))
                for failure in state["failures"]
            ],
        )


def moment(seconds: float) -> str:
    """A time since the epoch as RFC 3339 writes it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
