"""Whether what an example promises is so: connections that come about or don't, lines that commands print."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from attrs import evolve, frozen

from ovnkit.api.terminal import print_table, styled
from ovnkit_lab import control_plane
from ovnkit_lab.connections import Connection, Outcome, endpoint, pod_namespaces, try_all
from ovnkit_lab.example import Example, Reach, Show
from ovnkit_lab.lab import Lab
from ovnkit_lab.layout import EXTERNAL, LabError
from ovnkit_lab.progress import Reporter

_DEADLINE = 30.0
"""Seconds until all connections must be as promised, and then until all lines must be there."""


@frozen
class Tried:
    """A connection, whether it should come about, and what happened last."""

    connection: Connection
    wanted: bool
    outcome: Outcome | None = None

    @property
    def holds(self) -> bool:
        """Whether it is as promised."""
        return self.outcome is not None and self.outcome.ok == self.wanted


@frozen
class Printed:
    """A command, and what it printed last."""

    promise: Show
    output: str = ""

    @property
    def line(self) -> str:
        """The first line that matches, else nothing."""
        return next((line for line in self.output.splitlines() if self.promise.matches.search(line)), "")


@frozen
class Checked:
    """All promises of an example, each with what came of it."""

    tried: Sequence[Tried]
    printed: Sequence[Printed]

    def show(self) -> tuple[int, int]:
        """Print the tables; how many promises don't hold, of how many."""
        _show_tried(self.tried)
        _show_printed(self.printed)
        failed = sum(not item.holds for item in self.tried) + sum(not item.line for item in self.printed)
        return failed, len(self.tried) + len(self.printed)


def check(lab: Lab, example: Example, reporter: Reporter) -> Checked:
    """Try until all promises of an example hold, or time is up."""
    reporter.say("trying connections")
    tried = [
        Tried(connection, promise.reaches)
        for promise in example.reach
        for connection in _connections(lab, promise)
    ]
    end = time.monotonic() + _DEADLINE
    while pending := [place for place, item in enumerate(tried) if not item.holds]:
        outcomes = try_all([tried[place].connection for place in pending], attempts=1)
        for place, outcome in zip(pending, outcomes, strict=True):
            tried[place] = evolve(tried[place], outcome=outcome)
        if time.monotonic() > end:
            break
    reporter.say("running the commands that show it")
    end = time.monotonic() + _DEADLINE
    return Checked(tried, [_print_until_it_matches(lab, promise, end) for promise in example.show])


def _connections(lab: Lab, promise: Reach) -> Iterator[Connection]:
    netns = _netns(lab, promise.source)
    for address in _addresses(lab, promise.target):
        yield Connection(netns, promise.source, promise.target, "", promise.protocol, address, promise.port)


def _netns(lab: Lab, place: str) -> str:
    if "/" not in place:
        return lab.spec.netns(place)
    found = pod_namespaces(lab).get(place)
    if not found:
        raise LabError(f"there is no pod {place}")
    return found


def _addresses(lab: Lab, target: str) -> list[str]:
    """Those of a pod, of a service or of a host."""
    if "/" not in target:
        return [str(interface.ip) for interface in lab.spec.addresses(target)]
    service, name = target.startswith("service "), target.removeprefix("service ")
    namespace, _, name = name.partition("/")
    kind = "services" if service else "pods"
    found = control_plane.client(lab.spec).get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")
    if service:
        return list(found["spec"]["clusterIPs"])
    return [item["ip"] for item in found["status"]["podIPs"]]


def _print_until_it_matches(lab: Lab, promise: Show, end: float) -> Printed:
    while True:
        printed = Printed(promise, _run(lab, promise))
        if printed.line or time.monotonic() > end:
            return printed
        time.sleep(0.5)


def _run(lab: Lab, promise: Show) -> str:
    if "/" in promise.on:
        where = ["exec", promise.on]
    else:
        where = ["external"] if promise.on == EXTERNAL else ["node", promise.on]
    command = [sys.executable, "-m", "ovnkit_lab", *where, "--", *promise.command]
    env = {**os.environ, "OVNKIT_LAB": lab.spec.name}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)
    return done.stdout + done.stderr


def _show_tried(tried: Sequence[Tried]) -> None:
    rows = []
    for item in tried:
        to, outcome = item.connection, item.outcome
        result = outcome.text if outcome else "not tried"
        rows.append((
            to.source, to.target, endpoint(to.address, to.port), to.protocol,
            "yes" if item.wanted else "no", styled(result, "green" if item.holds else "red"),
        ))  # fmt: skip
    if rows:
        print_table(("from", "to", "address", "protocol", "should reach it", "result"), rows)


def _show_printed(printed: Sequence[Printed]) -> None:
    rows = []
    for item in printed:
        command, *more = shlex.join(item.promise.command).splitlines()
        last = item.output.strip().splitlines()[-1:] or ["nothing"]
        result = styled(item.line, "green") if item.line else styled(
            f"no line matches {item.promise.matches.pattern}; the last one is {last[0]}", "red")  # fmt: skip
        rows.append((item.promise.on, f"{command} …" if more else command, result))
    if rows:
        print_table(("on", "command", "prints"), rows)
