"""Signals that end a command: the first is an exception, so that what was begun is undone; others do nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None] | signal.Handlers
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal told the command to end. Not an Exception: nothing but the command itself may take it for handled.

    `text` is what the user is told; `exit_code` is what a shell gives for the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.text = "interrupted"
        self.exit_code = 128 + number


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Ignores a signal. Not SIG_IGN: of one that came with the first, Python would print a traceback."""


def block() -> None:
    """Let no signal change how this process ends: when Python ends it gives them their default actions back."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the first of the signals raise `Interrupted`; those after it are ignored to the end of the process."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, _nothing)
        raise Interrupted(number)

    # Who started this process may have decided that it doesn't hear some of them (nohup, a shell's `&`).
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    with _handled(heard, interrupt):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Do something to its end whatever signal comes; its child processes ignore them, too."""
    with _handled(_SIGNALS, signal.SIG_IGN):
        yield


@contextmanager
def _handled(numbers: Iterable[signal.Signals], handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            # One that was ignored meanwhile has come: it stays so.
            if signal.getsignal(number) is handler:
                signal.signal(number, before)
