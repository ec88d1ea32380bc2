"""The threads that talk to one bridge for the flow sink: they look at it, apply bundles, and hear of deletions."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping

import structlog
from attrs import frozen

from ovnkit.host import ofctl
from ovnkit.host.ofctl import Bridge, OfctlError

log = structlog.get_logger()

Post = Callable[[Callable[[], None]], None]

LOOK_PERIOD = 15.0
"""Seconds between looks at what a bridge has (upstream re-applies its flows at this interval)."""

RETRY = 1.0
"""Seconds until a bridge that did not answer is tried again."""


@frozen
class Bundle:
    """One round of changes of a bridge, and what will be there after it."""

    delete: frozenset[int]
    add: Mapping[int, str]
    delete_groups: frozenset[int]
    add_groups: Mapping[int, str]


class Worker:
    """Talks to one bridge: a thread that looks and applies, and one that hears of deletions."""

    def __init__(
        self,
        bridge: Bridge,
        post: Post,
        looked: Callable[[str, set[int] | None, int | None, set[int], str], None],
        deleted: Callable[[str, int], None],
    ) -> None:
        self._bridge = bridge
        self._post = post
        self._looked = looked
        self._deleted = deleted
        self._jobs: list[tuple[Bundle, Callable[[str], None]]] = []
        self._wake = threading.Condition()
        self._stopped = False
        self._pause = 0.0
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

    def apply(self, bundle: Bundle, done: Callable[[str], None]) -> None:
        """Apply a bundle, then `done(error or "")` in the reconciler's thread."""
        with self._wake:
            self._jobs.append((bundle, done))
            self._wake.notify_all()

    def look_soon(self, seconds: float = 0.0) -> None:
        """Look at the bridge after `seconds`."""
        with self._wake:
            self._pause = seconds
            self._wake.notify_all()

    def _work(self) -> None:
        while not self._stopped:
            with self._wake:
                if not self._jobs:
                    self._wake.wait(self._pause)
                job = self._jobs.pop(0) if self._jobs else None
            if self._stopped:
                return
            if job is None:
                self._look()
            else:
                self._apply(*job)

    def _apply(self, bundle: Bundle, done: Callable[[str], None]) -> None:
        error = ""
        try:
            ofctl.apply(
                self._bridge,
                delete=bundle.delete,
                add=bundle.add,
                delete_groups=bundle.delete_groups,
                add_groups=bundle.add_groups.values(),
            )
        except OfctlError as failure:
            error = str(failure)
        self._post(lambda: done(error))

    def _look(self) -> None:
        name = self._bridge.name
        try:
            (flows, last), groups = ofctl.cookies(self._bridge), ofctl.groups(self._bridge)
        except OfctlError as error:
            self._pause = RETRY
            message = str(error)
            self._post(lambda: self._looked(name, None, None, set(), message))
            return
        self._pause = LOOK_PERIOD
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
                self.look_soon()
                pause.wait(RETRY)
