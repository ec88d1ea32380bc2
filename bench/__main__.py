"""Command line: `python -m bench`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from bench.cases import PEER, Cases
from bench.load import Load
from bench.report import Row, show
from bench.sinks import sinks
from bench.zones import zone_scale
from ovnkit.process import logs
from ovnkit.testing import ovsdb

ISSUE = Load("large", nodes=100, pods=10_000, policies=1_000, services=2_000)
QUICK = Load("quick", nodes=10, pods=600, policies=60, services=100, apps=60)
APART = frozenset({"sinks", "zone scale"})
"""Groups that need neither of the loads."""
MARGIN = 10.0
"""A quick run may miss a budget by this factor: that much no noise of a machine explains."""


def _rows(load: Load, repeat: int, quick: bool, only: tuple[str, ...]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="ovnkit-bench-") as folder:
        cases = Cases(Path(folder), load, repeat=repeat, quick=quick)
        try:
            for row in cases.run(only):
                click.echo(f"{row.load}: {row.case}: {row.value:.4g} {row.unit}", err=True)
                yield row
        finally:
            cases.close()


@click.command()
@click.option("--load", "names", multiple=True, type=click.Choice(["large", "peer"]), help="Only this load.")
@click.option("--scale", default=1.0, show_default=True, help="Factor for the number of everything.")
@click.option("--repeat", default=3, show_default=True, help="Starts of which the median counts.")
@click.option(
    "--case", "only", multiple=True, help="Only these groups: pods, policies, endpoints, idle, sinks, zone scale."
)
@click.option(
    "--zones", default="100,500,1000", show_default=True, help="Cluster sizes for the zone scale; empty: none."
)
@click.option("--quick", is_flag=True, help=f"A small load, once; exit code 1 beyond {MARGIN:g} times a budget.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def main(
    names: tuple[str, ...], scale: float, repeat: int, only: tuple[str, ...], zones: str, quick: bool, output: str
) -> None:
    """Measure ovnkit's control plane: each row a ratio to a floor measured in the same run."""
    logs.setup_quiet()
    if not ovsdb.available():
        raise click.ClickException("needs ovsdb-server")
    if quick:
        sys.exit(_guard(QUICK.scaled(scale), only, output))
    rows: list[Row] = []
    chosen = [load for load in (ISSUE, PEER) if not names or load.name in names]
    try:
        for load in () if only and APART.issuperset(only) else chosen:
            rows += _rows(load.scaled(scale), repeat, False, only)
        if not only or "sinks" in only:
            rows += sinks()
        if zones and (not only or "zone scale" in only):
            rows += zone_scale([max(2, round(int(size) * scale)) for size in zones.split(",")])
    finally:
        show(rows, output)


def _guard(load: Load, only: tuple[str, ...], output: str) -> int:
    """The exit code of a quick run: 1 when something is far too slow, twice in a row."""
    for last in (False, True):
        rows = list(_rows(load, 1, True, only))
        bad = [row for row in rows if not row.within(MARGIN)]
        if last or not bad:
            show(rows, output)
        for row in bad:
            again = "" if last else "; once more"
            text = f"{row.case}: {row.measured:.1f}, more than {MARGIN:g} times its budget {row.budget:g}{again}"
            click.echo(text, err=True)
        if not bad:
            return 0
    return 1


if __name__ == "__main__":
    main()
