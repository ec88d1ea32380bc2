"""Questions to OVN's daemons on their control sockets (ovs-appctl(8)), without a process for each."""

from __future__ import annotations

import socket
from pathlib import Path

from ovnkit.api.text import parse_json, print_json

DEADLINE = 2.0
"""Seconds a daemon gets to answer; it takes under a millisecond unless it is at work on much."""


class NotRunningError(Exception):
    """Nobody listens on any control socket of the daemon."""


class SilentError(Exception):
    """Somebody listens, and doesn't answer as it should."""


def sockets(run_dir: str, daemon: str) -> list[Path]:
    """The control sockets of a daemon; those of former processes among them."""
    folder = Path(run_dir)
    return [*folder.glob(f"{daemon}.ctl"), *sorted(folder.glob(f"{daemon}.*.ctl"))]


def ask(run_dir: str, daemon: str, command: str) -> str:
    """What the daemon answers to a command; raises NotRunningError, SilentError."""
    for path in sockets(run_dir, daemon):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(DEADLINE)
                sock.connect(str(path))
                return _ask(sock, command)
        except (ConnectionRefusedError, FileNotFoundError):
            continue
        except (OSError, ValueError) as error:
            raise SilentError(str(error)) from None
    raise NotRunningError(daemon)


def _ask(sock: socket.socket, command: str) -> str:
    sock.sendall(print_json({"id": 0, "method": command, "params": []}).encode())
    data = b""
    while piece := sock.recv(1 << 16):
        data += piece
        try:
            answer = parse_json(data)
        except ValueError:
            continue
        if answer.get("error"):
            raise ValueError(str(answer["error"]))
        return str(answer["result"]).strip()
    raise ValueError("the connection was closed")
