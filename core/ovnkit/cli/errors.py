"""How commands fail: one line on stderr and an exit code (1 failure, 2 configuration or usage, 4 degraded)."""

from __future__ import annotations

from typing import IO, Any

import click

EXIT_FAILURE = 1
EXIT_CONFIG = 2
EXIT_DEGRADED = 4


class Failure(click.ClickException):
    """An expected failure of a command; `code` is its exit code, `advice` a second line on how to mend it."""

    def __init__(self, message: str, code: int = EXIT_FAILURE, *, advice: str = "") -> None:
        super().__init__(" ".join(message.split()))
        self.advice = advice
        self.exit_code = code  # type: ignore[misc]  # click declares it on the class, and reads it here

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it as `ovnkit: message`."""
        click.echo(f"ovnkit: {self.message}", err=True, file=file)
        if self.advice:
            click.echo(f"ovnkit: {self.advice}", err=True, file=file)


def warn(message: str) -> None:
    """A line on stderr about something that doesn't stop the command."""
    click.echo(f"ovnkit: warning: {message}", err=True)
