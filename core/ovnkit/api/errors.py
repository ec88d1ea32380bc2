"""The errors a plugin raises on purpose; anything else that escapes a plugin counts as its bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "HostError",
    "OvnkitError",
    "Reject",
    "Retry",
    "did_you_mean",
]


class OvnkitError(Exception):
    """Base of every error ovnkit raises on purpose."""


class Reject(OvnkitError):
    """The object is wrong, and only its author can mend it.

    The core turns it into an Event on the object (type Warning), a log line and a metric, and renders again
    when anything the renderer read has changed. There is no timed retry.

    `reason` is the CamelCase word of the Event; `message` says where and why, in one line.
    """

    def __init__(self, message: str, *, reason: str = "InvalidObject") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Retry(OvnkitError):
    """The world isn't ready yet: render again when something that was read changes, or after `after` seconds.

    `after` is None when only a change can help (the usual case: what is missing was read, so it is tracked).
    """

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.after = after


class ConfigError(OvnkitError):
    """The configuration is wrong; the text names the key and the file. The process exits with code 2."""


class HostError(OvnkitError):
    """The host is not fit for what the plugin does; `advice` is one line on how to mend it.

    Raised in `ovnkit_check_host`: the process ends with exit code 1.
    """

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class Exhausted(Reject):
    """A pool has no address, subnet or id left."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="Exhausted")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that doesn't exist: the one that was probably meant, if any is like it."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
