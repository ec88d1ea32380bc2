"""`ovnkit explain`: whose a row is, and what it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ovnkit.api.terminal import print_table
from ovnkit.cli.common import config_options, echo_json, load, output_option
from ovnkit.cli.errors import Failure

if TYPE_CHECKING:
    from ovnkit.status.explain import Explained


@click.command()
@click.argument("row", required=False)
@click.option("--table", help="All rows of a table, or the table in which to look for ROW.")
@click.option("--db", type=click.Choice(("nb", "sb", "ovs")), default="nb", show_default=True, help="Database.")
@config_options
@output_option("table", "json")
def explain(
    row: str | None, table: str | None, db: str, path: str | None, sets: tuple[str, ...], output: str
) -> None:
    """Tell of ROW (a UUID, the beginning of one, or a name) who owns it, for which object, and what it is for.

    \b
    Examples:
      ovnkit explain ovn_cluster_router
      ovnkit explain --table Address_Set
      ovnkit explain 5f0c2a8e --output json
    """
    from attrs import asdict

    from ovnkit.process.databases import named_tables
    from ovnkit.status.explain import explain_row, read_rows, subjects

    if row is None and table is None:
        raise click.UsageError("name a ROW, or a --table")
    plugins, loaded = load(path, sets)
    records, ledger = read_rows(loaded.config, db, [table] if table else named_tables(plugins, db))
    matching = [
        record
        for record in records
        if row is None or record.values.get("name") == row or (len(row) >= 4 and record.uuid.startswith(row))
    ]
    if not matching:
        where = f"table {table} of {db}" if table else f"{db}"
        raise Failure(f"no row {row!r} in {where}" if row else f"{where} is empty or doesn't exist")
    kinds = subjects(plugins, loaded.config)
    found = [explain_row(plugins, kinds, record, ledger) for record in matching]
    if output == "json":
        echo_json([asdict(item) for item in found])
    else:
        _table(found)


def _table(found: list[Explained]) -> None:
    print_table(
        ("table", "row", "owner", "object", "what for"),
        [
            (item.table, item.name or item.uuid, item.owner or "(not ovnkit's)", item.object, item.sentence)
            for item in sorted(found, key=lambda item: (item.table, item.name))
        ],
    )
