"""Starts ovnkit again where it has ended by itself, as a kubelet does with the pods of a network plugin."""

from __future__ import annotations

from ovnkit_lab import health
from ovnkit_lab.lab import Lab
from ovnkit_lab.labs import locked
from ovnkit_lab.layout import CONTROL

_FIRST_PAUSE, _LAST_PAUSE = 1.0, 20.0
"""Seconds between two starts of one process, doubled each time that it has ended soon after the last one. Waiting
for the next start takes less than `SETTLED`: it is no sign of health."""


class Keeper:
    """Looks after the ovnkit processes of a lab. One that was stopped on purpose has no pid file and stays so.

    A process of the role cluster ends whenever it loses its lease: when the API server was away for too long.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def look(self) -> None:
        """Start what has ended, unless a command is at work on the lab."""
        lab = Lab.open(self._name)
        ended = [
            host for host in (CONTROL, *lab.spec.nodes) if self._has_ended(lab, host) and _may_start(lab, host)
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

    def _start(self, lab: Lab, host: str) -> None:
        daemon = lab.daemons(host)["ovnkit"]
        path = lab.files.restarts(host)
        record = health.restarts(path).once_more(daemon.last_words())
        health.note(path, record)
        print(f"ovnkit of {host} has ended and is started again", flush=True)  # noqa: T201
        daemon.launch()


def _may_start(lab: Lab, host: str) -> bool:
    record = health.restarts(lab.files.restarts(host))
    return not record.in_a_row or record.lived >= min(_FIRST_PAUSE * 2.0 ** (record.in_a_row - 1), _LAST_PAUSE)
