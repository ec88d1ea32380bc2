"""Rows of a meter: a rate in packets per second, and what is above it dropped."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.identity import RowId
from ovnkit.api.items import Row, Slot


def meter_rows(row: RowId, name: str, rate: int, *, fair: bool = True) -> Iterable[Row]:
    """The Meter `name` and its band, of the render that `row` belongs to.

    A `fair` one counts for each of its users (ACLs) alone; else they share the rate. Both count on each chassis.
    """
    yield Row("Meter", row.name, {"name": name, "unit": "pktps", "fair": fair})
    yield Row(
        "Meter_Band", f"{row.name}-band", {"action": "drop", "rate": rate}, parent=Slot("Meter", row, "bands")
    )
