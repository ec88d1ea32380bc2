"""Marks in `external_ids` by which ovnkit knows again, after a restart, what it put into a database.

- `ovnkit.io/owner` = owner path: on each row of ours whose table has `external_ids`.
- `ovnkit.io/row/UUID` = `Table path`: on the row that stands for the database (NB_Global, SB_Global,
  Open_vSwitch), for each row of ours in a table without `external_ids` (Static_MAC_Binding,
  Load_Balancer_Group). One key per row, so that a change costs one element.
- `ovnkit.io/member/COLUMN/ELEMENT` = what was there before: on a row that isn't ours (or one of ours whose
  column only members fill), for each element, map key or scalar that a member put there. The value is empty
  when there was nothing before, else `=` and the former value as JSON; it comes back when the member goes.
  An element that was there already is not entered, and so never removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ovnkit.api.identity import OWNER_KEY
from ovnkit.api.text import parse_json, print_json

PREFIX = "ovnkit.io/"
ROW_PREFIX = PREFIX + "row/"
MEMBER_PREFIX = PREFIX + "member/"
SCALAR = "*"
"""Stands for the element in the ledger key of a scalar column."""


def is_ours(key: Any) -> bool:
    """Whether a key of `external_ids` belongs to the sink rather than to a plugin or a stranger."""
    return isinstance(key, str) and (key == OWNER_KEY or key.startswith((ROW_PREFIX, MEMBER_PREFIX)))


def member_key(column: str, element: Any) -> str:
    """Ledger key of a member."""
    return f"{MEMBER_PREFIX}{column}/{element}"


def entries(external_ids: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """The ledger of a row: (column, element as text, former value as written)."""
    for key, former in external_ids.items():
        if key.startswith(MEMBER_PREFIX):
            column, _, element = key[len(MEMBER_PREFIX) :].partition("/")
            yield column, element, former


def write_former(value: Any, default: Any) -> str:
    """How a former value is written; `default` counts as nothing."""
    return "" if value is None or value == default else "=" + print_json(value)


def read_former(text: str, default: Any) -> Any:
    """A former value as it was, or `default` when there was none or the text is damaged."""
    if not text.startswith("="):
        return default
    try:
        return parse_json(text[1:])
    except ValueError:
        return default
