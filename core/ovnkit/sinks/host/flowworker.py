"""The threads that talk to one bridge for the flow sink: they look at it, apply bundles, and hear of deletions."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping
from enum import Enum

import structlog
from attrs import field, frozen

from ovnkit.engine.refusals import find_refused
from ovnkit.sinks.host import ofctl
from ovnkit.sinks.host.ofctl import Bridge, OfctlError

log = structlog.get_logger()

Post = Callable[[Callable[[], None]], None]

LOOK_PERIOD = 15.0
"""Seconds between looks at what a bridge has (upstream re-applies its flows at this interval)."""

RETRY = 1.0
"""Seconds until a bridge that did not answer is tried again."""


class Verb(Enum):
    """What a bundle does, in the order in which it must."""

    ADD_GROUP = "group add"
    DELETE_FLOW = "flow delete"
    ADD_FLOW = "flow add"
    DELETE_GROUP = "group delete"


FlowChange = tuple[Verb, int]
"""One change of a bridge: what is done to which flow (by cookie) or group (by number)."""


@frozen
class Bundle:
    """One round of changes of a bridge: the lines of ovs-ofctl, in order."""

    lines: Mapping[FlowChange, str]

    def numbers(self, verb: Verb) -> set[int]:
        """Cookies or numbers of the groups to which this is done."""
        return {number for done, number in self.lines if done is verb}


@frozen
class Outcome:
    """What came of a bundle. `error` says why the bridge could not be asked (nothing is known then), `refused`
    which changes it didn't take; all others are applied."""

    error: str = ""
    refused: Mapping[FlowChange, str] = field(factory=dict)


class Worker:
    """Talks to one bridge: a thread that looks and applies, and one that hears of deletions.

    Everything is told in the reconciler's thread: `looked(name, flows, last, groups, error)` after each look,
    `deleted(name, cookie)` of each deletion, `reconnecting(name)` when the bridge has closed the connection.
    """

    def __init__(
        self,
        bridge: Bridge,
        post: Post,
        looked: Callable[[str, set[int] | None, int | None, set[int], str], None],
        deleted: Callable[[str, int], None],
        reconnecting: Callable[[str], None],
    ) -> None:
        self._bridge = bridge
        self._post = post
        self._looked = looked
        self._deleted = deleted
        self._reconnecting = reconnecting
        self._jobs: list[tuple[Bundle, Callable[[Outcome], None]]] = []
        self._wake = threading.Condition()
        self._stopped = False
        self._look_at = 0.0
        self._monitor: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start both threads."""
        for target in (self._work, self._listen):
            threading.Thread(target=target, name=f"flows-{self._bridge.name}", daemon=True).start()

    def stop(self) -> None:
        """End both threads."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if self._monitor is not None:
            self._monitor.terminate()

    def apply(self, bundle: Bundle, done: Callable[[Outcome], None]) -> None:
        """Apply a bundle, then `done(outcome)` in the reconciler's thread."""
        with self._wake:
            self._jobs.append((bundle, done))
            self._wake.notify_all()

    def look_soon(self, seconds: float = 0.0) -> None:
        """Look at the bridge within `seconds`."""
        with self._wake:
            self._look_at = min(self._look_at, time.monotonic() + seconds)
            self._wake.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if job[0] is None:
                self._look()
            else:
                self._apply(*job)

    def _next(self) -> tuple[Bundle, Callable[[Outcome], None]] | tuple[None, None] | None:
        """Wait for something to do: a bundle, or (None, None) for a look; None at the end."""
        with self._wake:
            while not self._stopped:
                if self._jobs:
                    return self._jobs.pop(0)
                pause = self._look_at - time.monotonic()
                if pause <= 0:
                    self._look_at = time.monotonic() + LOOK_PERIOD
                    return None, None
                self._wake.wait(pause)
        return None

    def _apply(self, bundle: Bundle, done: Callable[[Outcome], None]) -> None:
        outcome = self._applied(bundle)
        self._post(lambda: done(outcome))

    def _applied(self, bundle: Bundle) -> Outcome:
        def attempt(changes: Collection[FlowChange]) -> None:
            ofctl.apply(self._bridge, [bundle.lines[change] for change in changes])

        try:
            return Outcome(refused=find_refused(list(bundle.lines), attempt))
        except OfctlError as error:
            return Outcome(str(error))
        except Exception as error:
            log.exception("flows", bridge=self._bridge.name)
            return Outcome(str(error))

    def _look(self) -> None:
        name = self._bridge.name
        try:
            (flows, last), groups = ofctl.cookies(self._bridge), ofctl.groups(self._bridge)
        except OfctlError as error:
            self.look_soon(RETRY)
            message = str(error)
            self._post(lambda: self._looked(name, None, None, set(), message))
            return
        self._post(lambda: self._looked(name, flows, last, groups, ""))

    def _listen(self) -> None:
        name = self._bridge.name

        def deleted(cookie: int) -> None:
            self._post(lambda: self._deleted(name, cookie))

        def started(process: subprocess.Popen[str]) -> None:
            self._monitor = process

        pause = threading.Event()
        while not self._stopped:
            try:
                ofctl.watch(self._bridge, deleted, started)
            except OSError as error:
                log.debug("no monitor of a bridge", bridge=name, error=str(error))
            if not self._stopped:
                self._post(lambda: self._reconnecting(name))
                pause.wait(RETRY)
