"""A network namespace of one's own for a test, and a stand-in for the reconciler's thread."""

from __future__ import annotations

import ctypes
import os
import queue
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def ip() -> Callable[..., str]:
    """Run `ip`."""
    return lambda *words: run("ip", *words)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait for a condition; fails the test when it doesn't come true."""

    def wait(condition: Callable[[], object], deadline: float = 20.0) -> None:
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"not met within {deadline:g} s")
            time.sleep(0.02)

    return wait


@pytest.fixture
def netns() -> Iterator[None]:
    """This thread, and what it starts, in a new network namespace with the veth pair `va`, `vb`."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if LIBC.unshare(CLONE_NEWNET):
        os.close(home)
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        run("ip", "link", "set", "lo", "up")
        yield
    finally:
        assert LIBC.setns(home, CLONE_NEWNET) == 0
        os.close(home)


@pytest.fixture
def veth(netns: None) -> None:
    run("ip", "link", "add", "name", "va", "type", "veth", "peer", "name", "vb")
    run("ip", "link", "set", "dev", "vb", "up")


class Inbox:
    """Runs what is posted in the test's thread."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def post(self, function: Callable[[], None]) -> None:
        self.queue.put(function)

    def until(self, condition: Callable[[], object], what: str = "condition", deadline: float = 10.0) -> None:
        end = time.monotonic() + deadline
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"{what} not met within {deadline} s")
            try:
                self.queue.get(timeout=0.05)()
            except queue.Empty:
                continue

    def quiet(self, seconds: float) -> None:
        """Work until nothing has been posted for this long."""
        while True:
            try:
                self.queue.get(timeout=seconds)()
            except queue.Empty:
                return


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()
