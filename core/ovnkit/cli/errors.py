"""How commands fail: one line on stderr that says what and where, and an exit code (see `EXIT_FAILURE` and below).

With `--output json` a failure is also told as JSON on stdout: `{"error": ..., "advice": ..., "exit_code": ...}`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any

import click

from ovnkit.api.errors import ConfigError, OvnkitError, did_you_mean

EXIT_FAILURE = 1
EXIT_CONFIG = 2
EXIT_DEGRADED = 4
EXIT_INTERRUPTED = 130


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


def run_told(command: Callable[[], Any], arguments: Sequence[str]) -> int:
    """Run a command; whatever ends it that can be expected is told in one line. Returns the exit code."""
    _open_closed_streams()
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # Whoever read the output has had enough.
        _discard_output()
        return EXIT_FAILURE
    except (click.Abort, KeyboardInterrupt):
        failure = Failure("interrupted", EXIT_INTERRUPTED)
    except (click.ClickException, OvnkitError, OSError) as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # not in every click: a group without a command
            click.echo(error.ctx.get_help(), err=True)  # type: ignore[union-attr]
            return EXIT_CONFIG
        failure = _as_failure(error)
    try:
        failure.show()
        if wants_json(arguments):
            # what the caller reads is JSON whatever happens
            content = {"error": failure.message, "advice": failure.advice, "exit_code": failure.exit_code}
            from ovnkit.cli.common import echo_json

            echo_json(content)
        sys.stdout.flush()
    except OSError:
        # nobody reads it, or there is no room for it: the exit code still tells
        _discard_output()
    return failure.exit_code


def _open_closed_streams() -> None:
    """Where standard output or error was closed by whoever started this (`>&-`), what is written goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the process)


def _discard_output() -> None:
    """What is still buffered must not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line, up to a `--`, asks for output in JSON."""
    words = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    for option in ("--output", "-o"):
        if f"{option}=json" in words or (option in words and words[words.index(option) + 1 :][:1] == ["json"]):
            return True
    return "-ojson" in words


def _as_failure(error: click.ClickException | OvnkitError | OSError) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, click.UsageError):
        return _usage(error)
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), error.exit_code)
    if isinstance(error, OvnkitError):
        advice = getattr(error, "advice", "")
        return Failure(str(error), EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILURE, advice=advice)
    return _system(error)


_NO_COMMAND = re.compile(r"No such command '(.*?)'")


def _group(error: click.UsageError) -> click.Group | None:
    command = error.ctx.command if error.ctx is not None else None
    return command if isinstance(command, click.Group) else None


def _usage(error: click.UsageError) -> Failure:
    """A wrong command line: which command, what about it, and what was probably meant."""
    words = error.ctx.command_path.split()[1:] if error.ctx is not None else []
    text = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        known = [name for item in error.ctx.command.params for name in item.opts] if error.ctx is not None else []
        text = f"no such option {error.option_name!r}{did_you_mean(error.option_name, known)}"
    elif (group := _group(error)) is not None and (match := _NO_COMMAND.match(text)) is not None:
        assert error.ctx is not None
        text = f"no such command {match[1]!r}{did_you_mean(match[1], group.list_commands(error.ctx))}"
    elif text[:1].isupper() and not text[1:2].isupper():
        text = text[0].lower() + text[1:]
    advice = f"see {' '.join(('ovnkit', *words))} --help"
    return Failure(f"{' '.join(words)}: {text} ({advice})" if words else f"{text} ({advice})", error.exit_code)


def _system(error: OSError) -> Failure:
    """What the operating system refuses. A file name without a folder is a program that was to be run."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    reason = os.strerror(error.errno) if error.errno else str(error)
    folder, _, program = name.rpartition("/")
    if isinstance(error, FileNotFoundError) and program and folder in ("", *os.get_exec_path()):
        return Failure(f"{program}: command not found: install it, or add its folder to PATH")
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return Failure(f"{name}: {reason}: run it as root" if name else f"{reason}: run it as root")
    return Failure(f"{name}: {reason}" if name else reason)
