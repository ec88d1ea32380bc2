"""Restarts ovnkit processes that have exited, as a kubelet restarts the pods of a network plugin."""

from __future__ import annotations

from ovnkit.api.backoff import doubled
from ovnkit_lab import health
from ovnkit_lab.lab import Lab
from ovnkit_lab.labs import locked
from ovnkit_lab.layout import CONTROL

_FIRST_PAUSE, _LAST_PAUSE = 1.0, 20.0
"""Seconds between two starts of a process, doubled each time that it exits soon after the last one.

The pause is shorter than `SETTLED`, so that waiting is not taken for a sign of health.
"""


class Supervisor:
    """Watches the ovnkit processes of a lab. One that was stopped on purpose has no pid file, and stays stopped.

    A process of the role cluster exits when it loses its Lease: when the API server was away for too long.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def sync(self) -> None:
        """Restart what has exited, unless a command is changing the lab."""
        lab = Lab.open(self._name)
        exited = [
            host for host in (CONTROL, *lab.spec.nodes) if self._has_exited(lab, host) and _may_start(lab, host)
        ]
        if not exited:
            return
        with locked(self._name, wait=False) as held:
            if not held or not lab.files.ready.exists():
                return
            for host in exited:
                if self._has_exited(lab, host):
                    self._start(lab, host)

    def _has_exited(self, lab: Lab, host: str) -> bool:
        daemon = lab.daemons(host)["ovnkit"]
        return not lab.is_down(host) and daemon.pid_file.exists() and not daemon.running

    def _start(self, lab: Lab, host: str) -> None:
        daemon = lab.daemons(host)["ovnkit"]
        path = lab.files.restarts(host)
        record = health.load_restarts(path).restarted(daemon.last_words())
        health.save_restarts(path, record)
        print(f"ovnkit of {host} has exited and is restarted", flush=True)  # noqa: T201
        daemon.launch()


def _may_start(lab: Lab, host: str) -> bool:
    record = health.load_restarts(lab.files.restarts(host))
    return not record.in_a_row or record.lived >= doubled(_FIRST_PAUSE, _LAST_PAUSE, record.in_a_row - 1)
