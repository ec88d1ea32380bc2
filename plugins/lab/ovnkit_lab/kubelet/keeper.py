"""Starts ovnkit again where it has ended by itself, as a kubelet does with the pods of a network plugin."""

from __future__ import annotations

import time

from ovnkit_lab.lab import Lab, locked
from ovnkit_lab.layout import CONTROL

_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0
"""Seconds between two starts of one process, doubled each time that it has not lived for the longer one."""


class Keeper:
    """Looks after the ovnkit processes of a lab. One that was stopped on purpose has no pid file and stays so.

    A process of the role cluster ends whenever it loses its lease: when the API server was away for too long.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pauses: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def look(self) -> None:
        """Start what has ended, unless a command is at work on the lab."""
        lab = Lab.open(self._name)
        ended = [
            host for host in (CONTROL, *lab.spec.nodes) if self._has_ended(lab, host) and self._may_start(host)
        ]
        if not ended:
            return
        with locked(self._name, wait=False) as held:
            if not held or not lab.files.ready.exists():
                return
            for host in ended:
                if self._has_ended(lab, host):
                    self._start(lab, host)

    def _has_ended(self, lab: Lab, host: str) -> bool:
        daemon = lab.daemons(host)["ovnkit"]
        return not lab.is_down(host) and daemon.pid_file.exists() and not daemon.running

    def _may_start(self, host: str) -> bool:
        return time.monotonic() >= self._started.get(host, 0.0) + self._pauses.get(host, 0.0)

    def _start(self, lab: Lab, host: str) -> None:
        now = time.monotonic()
        lived = now - self._started.get(host, now - _LAST_PAUSE)
        pause = _FIRST_PAUSE if lived >= _LAST_PAUSE else self._pauses.get(host, _FIRST_PAUSE) * 2
        self._pauses[host], self._started[host] = min(pause, _LAST_PAUSE), now
        print(f"ovnkit of {host} has ended and is started again", flush=True)  # noqa: T201
        lab.daemons(host)["ovnkit"].launch()
