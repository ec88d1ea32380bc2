"""Health of a lab's ovnkit processes: the status they report, and how often they have been restarted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cattrs
from attrs import asdict, evolve, frozen

from ovnkit.api.text import parse_json
from ovnkit.testing.cluster import fetch
from ovnkit.testing.daemons import Daemon
from ovnkit_lab.layout import Files, LabError

Json = dict[str, Any]
SETTLED = 30.0
"""Seconds after which a process that was started again counts as well."""
_LOOP = 2
"""Ends in a row, each within `SETTLED` seconds of its start, that make a crash loop."""
_READY_DEADLINE = 60.0
_ALIVE_SECONDS = 2.0
"""Seconds that a daemon which doesn't tell its readiness must live for."""
_STEP = 0.1
_REJECTED_SECONDS = 20.0
"""How long ovnkit must reject the same before nobody waits any longer: only a change would make it try again."""
_LOOK_SECONDS = 2.0


def state(files: Files, host: str) -> Json:
    """The `/status` of a host's ovnkit; empty when it doesn't answer."""
    for path in sorted(files.ovn(host).glob("ovnkit-*.sock")):
        try:
            return dict(fetch(path))
        except (OSError, ValueError):
            continue
    return {}


def wait_ready(files: Files, host: str, daemon: Daemon, deadline: float = _READY_DEADLINE) -> None:
    """Wait until an ovnkit that was just started is ready; raises LabError when it exits, or with its reasons."""
    end = time.monotonic() + deadline
    while True:
        held = state(files, host)
        pid = daemon.pid
        if not pid:
            raise LabError(f"{daemon.name} exited while starting: {daemon.last_words()} (log: {daemon.log})")
        answers = held.get("pid") == pid
        if answers and held["ready"]:
            return
        if time.monotonic() > end:
            why = "; ".join(held["not_ready"]) if answers else daemon.last_words()
            raise LabError(f"{daemon.name} is not ready after {deadline:.0f} s: {why}")
        time.sleep(_STEP)


def wait_alive(daemon: Daemon) -> None:
    """Wait until a daemon has been running for a moment; raises LabError when it exits."""
    end = time.monotonic() + _ALIVE_SECONDS
    while time.monotonic() < end:
        if not daemon.running:
            raise LabError(f"{daemon.name} exited while starting: {daemon.last_words()} (log: {daemon.log})")
        time.sleep(_STEP)


def causes(states: Mapping[str, Json]) -> list[str]:
    """Why something isn't ready, the likeliest cause first, each with the host that reports it.

    That is what was rejected or fails, else what is missing, else what waits for that.
    """
    reasons = [(host, reason) for host, held in states.items() for reason in held.get("not_ready", ())]
    return (
        _failures(states, lambda what: what != "waiting")
        or [f"{host}: {reason}" for host, reason in reasons if not reason.startswith("plugin ")]
        or [f"{host}: {reason}" for host, reason in reasons]
        or _failures(states, lambda what: what == "waiting")
    )


def _failures(states: Mapping[str, Json], wanted: Callable[[str], bool]) -> list[str]:
    found = [
        f"{host}: {failure['owner']}: {failure['message']}"
        for host, held in states.items() for failure in held.get("failures", ()) if wanted(failure["what"])
    ]  # fmt: skip
    return list(dict.fromkeys(found))


class Patience:
    """Says when waiting is no use: ovnkit has rejected the same for `_REJECTED_SECONDS`."""

    def __init__(self) -> None:
        self._rejected: list[str] = []
        self._since = self._next = time.monotonic()

    def over(self, states: Callable[[], dict[str, dict[str, Any]]]) -> bool:
        """Whether to give up; `states` is called every `_LOOK_SECONDS` at most."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _LOOK_SECONDS
        rejected = _failures(states(), lambda what: what == "rejected")
        if rejected != self._rejected:
            self._rejected, self._since = rejected, now
        return bool(rejected) and now - self._since >= _REJECTED_SECONDS


@frozen
class Restarts:
    """How often the ovnkit of a host was restarted: in all, and in a row after less than `SETTLED` seconds.

    `last` is the Unix time of the last restart, `words` the last line that was logged before it.
    """

    count: int = 0
    in_a_row: int = 0
    last: float = 0.0
    words: str = ""

    @property
    def looping(self) -> bool:
        """Whether it is in a crash loop: it exits soon after each start."""
        return self.in_a_row >= _LOOP and time.time() - self.last < SETTLED

    @property
    def lived(self) -> float:
        """Seconds since the last restart; a very long time without one."""
        return time.time() - self.last

    def restarted(self, words: str) -> Restarts:
        """The record after one more restart."""
        return evolve(
            self, count=self.count + 1, in_a_row=1 if self.lived >= SETTLED else self.in_a_row + 1,
            last=time.time(), words=words,
        )  # fmt: skip


def load_restarts(path: Path) -> Restarts:
    """Read a record; an empty one when there is no valid file."""
    try:
        return cattrs.structure(parse_json(path.read_text()), Restarts)
    except (OSError, ValueError, cattrs.BaseValidationError):
        return Restarts()


def save_restarts(path: Path, record: Restarts) -> None:
    """Write a record to a file."""
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(asdict(record)))
    partial.rename(path)


def states(files: Files, hosts: Iterable[str]) -> dict[str, Json]:
    """The `/status` of each host's ovnkit."""
    return {host: state(files, host) for host in hosts}
