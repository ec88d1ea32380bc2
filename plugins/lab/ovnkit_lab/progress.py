"""Progress on stderr: a live status line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ovnkit.api.terminal import console, styled

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


class Reporter:
    """Reports what is going on, and how long it took."""

    def __init__(self, on: Console | None = None) -> None:
        self._console = on or console(stderr=True)
        self._live: Status | None = None
        self._begin = time.monotonic()
        self._last = ""

    @contextmanager
    def running(self) -> Iterator[Reporter]:
        """Show the status line while the block runs."""
        if not self._console.is_terminal:
            yield self
            return
        with self._console.status(styled("…")) as self._live:
            yield self
        self._live = None

    def say(self, text: str) -> None:
        """Report what is being done now; without a terminal, in a line of its own."""
        if self._live is not None:
            self._live.update(styled(text).append(f" {self._seconds}", "dim"))
        elif text != self._last:
            self._last = text
            self._console.print(f"{self._seconds:>7} {text}", soft_wrap=True)

    def done(self, text: str) -> None:
        """Report what was done, in a line that stays on the screen."""
        self._console.print(f"{self._seconds:>7} {text}", soft_wrap=True)

    @property
    def _seconds(self) -> str:
        return f"{time.monotonic() - self._begin:.1f} s"
