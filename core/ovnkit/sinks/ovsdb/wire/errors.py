"""Errors of the OVSDB layer."""

from __future__ import annotations

from ovnkit.api.errors import OvnkitError


class ProtocolError(OvnkitError):
    """The server sent something that is not OVSDB's JSON-RPC; the connection is given up."""


class Disconnected(OvnkitError):
    """There is no connection, or it was lost; whether a transaction in flight took effect is unknown."""


class RpcError(OvnkitError):
    """The server answered a request with an error (`error` is its word: `unknown method`, `unknown database`)."""

    def __init__(self, error: str, details: str = "") -> None:
        super().__init__(f"{error}: {details}" if details else error)
        self.error = error


class TransactionError(RpcError):
    """A transaction was refused; nothing of it took effect.

    `operation` is the index of the operation that failed, or None when the whole failed at commit.
    """

    def __init__(self, error: str, details: str = "", operation: int | None = None) -> None:
        super().__init__(error, details)
        self.operation = operation

    @property
    def content(self) -> bool:
        """Whether the content is to blame, rather than the state of the server."""
        return self.error not in SERVER_FAILURES


SERVER_FAILURES = frozenset(
    {
        "not leader",
        "not owner",
        "timed out",
        "aborted",
        "canceled",
        "I/O error",
        "cluster error",
        "resources exhausted",
        "unknown database",
        "database closed",
        "permission error",
        "not supported",
        "E/O error",
    }
)
"""Errors of RFC 7047 and of ovsdb-server that say nothing about the rows in the transaction."""


class MissingSchema(OvnkitError):
    """The database of this server has no such table or column; what needs it stays off."""


class BadValue(OvnkitError):
    """A value doesn't fit the type of its column."""


class MatchRefused(OvnkitError):
    """ovn-controller could make nothing of a match that is in the database."""


class NameTaken(OvnkitError):
    """Two wanted rows have the same value in a column that must be unique; the first one stays."""


class Contested(OvnkitError):
    """Two owners want different values in one place; only one of them can have it."""


class Collected(OvnkitError):
    """A row was written and vanished at once: nothing refers to it strongly (it needs another parent)."""
