"""The owner of changes that nobody asked for: removing what is not wanted."""

from __future__ import annotations

from ovnkit.engine.sink import Owner

_LEFTOVERS = ("ovnkit", "leftovers")
"""Its plugin and renderer; the key is the row."""


def leftover(uuid: str) -> Owner:
    """The owner of removals from, or of, a row that nobody wants."""
    return Owner(*_LEFTOVERS, uuid)


def is_leftover(owner: Owner) -> bool:
    """Whether an owner stands for leftovers."""
    return (owner.plugin, owner.renderer) == _LEFTOVERS
