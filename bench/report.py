"""The rows of the result, as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import click
import orjson
from attrs import asdict, frozen

from ovnkit.api.terminal import print_table, styled


@frozen
class Row:
    """One figure. `budget` bounds the ratio of `value` to `floor`, or the value where there is no floor.

    `unit` is s, ms, MB, % or empty.
    """

    load: str
    case: str
    value: float
    unit: str
    floor: float | None = None
    budget: float | None = None
    note: str = ""
    upstream: float | None = None
    """What upstream takes, for the peer load."""

    @property
    def measured(self) -> float:
        """What the budget bounds."""
        return self.value / self.floor if self.floor else self.value

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None without one."""
        return None if self.budget is None else self.measured <= self.budget

    def within(self, margin: float) -> bool:
        """Whether the budget times a margin is kept."""
        return self.budget is None or self.measured <= self.budget * margin


def machine() -> dict[str, Any]:
    """Where and under which load it was measured."""
    return {"cpus": os.cpu_count(), "load_average": os.getloadavg(), "python": platform.python_version()}


def show(rows: Sequence[Row], output: str) -> None:
    """Write the rows to standard output."""
    if output == "json":
        found = [{**asdict(row), "ratio": row.measured if row.floor else None, "met": row.met} for row in rows]
        click.echo(orjson.dumps({"machine": machine(), "rows": found}, option=orjson.OPT_INDENT_2))
        return
    cells = [
        (
            row.load,
            row.case,
            f"{row.value:,.4g} {row.unit}",
            f"{row.floor:,.4g} {row.unit}" if row.floor else "-",
            f"{row.measured:.2f}" if row.floor else "-",
            "-" if row.budget is None else f"{row.budget:g}{' x' if row.floor else ' ' + row.unit}",
            {True: "yes", False: styled("no", "red"), None: "-"}[row.met],
            "-" if row.upstream is None else f"{row.upstream:,g} {row.unit}",
            row.note,
        )
        for row in rows
    ]
    print_table(("load", "case", "took", "floor", "ratio", "budget", "met", "upstream", "note"), cells)
    click.echo("load average {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()))
