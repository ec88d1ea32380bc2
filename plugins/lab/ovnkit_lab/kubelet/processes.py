"""Processes of containers: starting them in a namespace, waiting for their exit, terminating them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import define, field

_KILL_DEADLINE = 10.0


@define(eq=False)
class Running:
    """A process; `exit_code` is None while it runs, and 128 plus the signal if one killed it."""

    process: subprocess.Popen[bytes]
    started: float = field(factory=time.time)
    exit_code: int | None = None
    finished: float = 0.0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its process group."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            return


class Reaper:
    """A thread that waits for the exit of any number of processes."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, tuple[Running, Callable[[], None]]] = {}
        threading.Thread(target=self._run, name="reaper", daemon=True).start()

    def watch(self, running: Running, ended: Callable[[], None]) -> None:
        """Call `ended` in the reaper's thread once the process has exited and its exit code is set."""
        descriptor = os.pidfd_open(running.process.pid)
        self._watched[descriptor] = (running, ended)
        self._poll.register(descriptor, select.EPOLLIN)

    def _run(self) -> None:
        while True:
            for descriptor, _ in self._poll.poll():
                running, ended = self._watched.pop(descriptor)
                self._poll.unregister(descriptor)
                os.close(descriptor)
                code = running.process.wait()
                running.finished = time.time()
                running.exit_code = code if code >= 0 else 128 - code
                ended()


def start(netns: str, command: Sequence[str], env: Mapping[str, str], cwd: str, log: Path) -> Running:
    """Start a command in a namespace; its output is appended to `log`. Raises OSError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["ip", "netns", "exec", netns, *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd, start_new_session=True,
        )  # fmt: skip
    return Running(process)


def end(group: Sequence[Running], grace: float, gone: threading.Condition) -> None:
    """Send SIGTERM, after `grace` seconds SIGKILL; returns when all have exited. `gone` is called for each."""
    for number, deadline in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_DEADLINE)):
        if number is signal.SIGTERM and grace <= 0:
            continue
        for running in group:
            if running.exit_code is None:
                running.signal(number)
        with gone:
            gone.wait_for(lambda: all(item.exit_code is not None for item in group), timeout=deadline)
