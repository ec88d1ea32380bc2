"""A reconciler's thread for tests: runs posted functions until a condition holds."""

from __future__ import annotations

import contextlib
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.live import LiveSet
from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.session import Session
from ovnkit.sinks.ovsdb.sink import OvsdbSink
from ovnkit.testing.ovsdb import OvsdbServer

DEADLINE = 30.0


class Loop:
    """Runs what is posted, in the test's thread; keeps timers until `advance`."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def post(self, function: Callable[[], None]) -> None:
        self.queue.put(function)

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        self.timers.append((seconds, function))

    def advance(self) -> None:
        """Let all timers expire."""
        timers, self.timers = self.timers, []
        for _, function in timers:
            function()

    def until(self, condition: Callable[[], Any], what: str = "", timeout: float = DEADLINE) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                while True:
                    self.queue.get_nowait()()
            except queue.Empty:
                pass
            if condition():
                return
            left = deadline - time.monotonic()
            assert left > 0, f"not within {timeout} s: {what or condition}"
            with contextlib.suppress(queue.Empty):
                self.queue.get(timeout=min(left, 0.05))()

    def drop(self) -> None:
        """Forget everything posted, as a crash does."""
        self.queue = queue.SimpleQueue()
        self.timers = []


class Live:
    """Contents of live sets, by the set's namespace."""

    def __init__(self) -> None:
        self.contents: dict[Any, Content] = {}

    def __call__(self, live_set: LiveSet) -> Content:
        return self.contents.setdefault(live_set.namespaces, Content())


class Content:
    def __init__(self) -> None:
        self._values: set[Any] = set()
        self.watchers: list[Callable[[Collection[Any], Collection[Any]], None]] = []

    @property
    def values(self) -> Collection[Any]:
        return self._values

    def subscribe(self, changed: Callable[[Collection[Any], Collection[Any]], None]) -> Callable[[], None]:
        self.watchers.append(changed)
        return lambda: self.watchers.remove(changed)

    def change(self, added: Collection[Any] = (), removed: Collection[Any] = ()) -> None:
        self._values |= set(added)
        self._values -= set(removed)
        for watcher in list(self.watchers):
            watcher(added, removed)


class Rig:
    """A sink on a real server."""

    def __init__(self, endpoint: str, db: str = "nb", database: str = "OVN_Northbound", **options: Any) -> None:
        self.loop = Loop()
        self.live = Live()
        self.reports: list[tuple[Owner, Exception | None]] = []
        session_options = {k: options.pop(k) for k in ("methods", "tls", "needs") if k in options}
        self.session = Session(db, endpoint, database=database, post=self.post, **session_options)
        self.sink = OvsdbSink(
            db,
            self.session,
            post=self.post,
            report=lambda owner, error: self.reports.append((owner, error)),
            live=self.live,
            later=self.loop.later,
            **options,
        )

    def post(self, function: Callable[[], None]) -> None:
        self.loop.post(function)

    def start(self, *, settle: bool = True) -> Rig:
        self.session.start()
        if settle:
            self.sink.settle()
        return self

    def want(self, name: str, *items: Any) -> Owner:
        owner = Owner("test", "things", name)
        self.sink.want(owner, items)
        return owner

    def sync(self) -> None:
        """Wait for everything that others have written before: updates come before a later reply."""
        answers: list[Any] = [Exception()]
        while answers[-1] is not None:
            count = len(answers)
            self.loop.until(lambda: self.sink.ready, f"ready: {self.sink.status()}")
            self.session.transact([], lambda _, error: answers.append(error))
            self.loop.until(lambda count=count: len(answers) > count, "reply")  # type: ignore[misc]

    def quiet(self) -> None:
        """Wait until the sink has nothing left to do."""
        self.sink.flush()
        self.sync()
        self.loop.until(lambda: self.sink.ready and self.sink.idle, f"idle: {self.sink.status()}")

    def stop(self) -> None:
        self.session.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="ovnkit-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def nb(folder: Path) -> Iterator[OvsdbServer]:
    with OvsdbServer(folder / "nb") as server:
        server.transact("OVN_Northbound", [{"op": "insert", "table": "NB_Global", "row": {}}])
        yield server


@pytest.fixture
def rigs() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(endpoint: str, *, settle: bool = True, **options: Any) -> Rig:
        rig = Rig(endpoint, **options)
        made.append(rig)
        return rig.start(settle=settle)

    yield make
    for rig in made:
        rig.stop()
