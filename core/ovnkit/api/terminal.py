"""What commands print for people: tables and progress in which data comes out as it is, whatever it looks like.

The one place where consoles of rich are made. Its markup (`[red]`), its emoji codes (`:a:`, as in `fd00:a:b::/48`)
and its highlighting would alter data; they are off, for cells, titles and status lines alike.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "console",
    "print_table",
    "styled",
]

IN_A_PIPE = 220
"""Columns where there is no terminal and COLUMNS says nothing: wide enough for a line per row."""

_NARROWEST, _FRAME = 2, 3
"""Characters of a column that is as narrow as can be (some characters are two wide), and of what is around it."""


def console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """A console as wide as COLUMNS says, else as the terminal, else `IN_A_PIPE`. Styles are given by argument."""
    from rich.console import Console

    environ = dict(os.environ)
    columns = environ.get("COLUMNS", "")
    if not (columns.isascii() and columns.isdigit() and int(columns)):
        # nothing, or no width: a table of 0 columns would be an empty one
        environ.pop("COLUMNS", None)
    made = Console(stderr=stderr, file=file, markup=False, emoji=False, highlight=False, _environ=environ)
    if not made.is_terminal and "COLUMNS" not in environ:
        made.width = IN_A_PIPE
    return made


def styled(text: object, style: str = "") -> Text:
    """A text in a style (`red`, `bold`, `dim`); characters that would steer a terminal are shown as escapes."""
    from rich.text import Text

    return Text(printable(str(text)), style)


def printable(text: str) -> str:
    """The text with control characters other than line ends as escapes (`\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any] | None], *, title: str = "", right: Collection[str] = ()
) -> None:
    """Print a table. A cell is a text (of `styled`, too), a number, or None for an empty one; a row None is a line
    between the rows. Columns named in `right` are aligned to the right. Long words are folded, never cut: where
    there is no room for two characters a column, the table is wider than the console."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=styled(title) if title else None)
    for name in columns:
        table.add_column(styled(name), overflow="fold", justify="right" if name in right else "left")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(
                *(cell if isinstance(cell, Text) else styled("" if cell is None else cell) for cell in row)
            )
    made = console()
    made.width = max(made.width, len(columns) * (_NARROWEST + _FRAME) + 1)
    made.print(table)
