"""The conntrack sink: connections on ways that no longer exist are forgotten, so that clients find new ones."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from ovnkit.api.host import Address, TrackedPath
from ovnkit.api.sinks import Owner, Sink
from ovnkit.host import kerneltrack, ofctl
from ovnkit.host.ofctl import Bridge

log = structlog.get_logger()

Later = Callable[[float, Callable[[], None]], object]

DELAYS = (0.2, 1.0, 4.0, 10.0)
"""Seconds after which a way that is gone is forgotten. More than once: until ovn-controller has taken it out of
the flows, and Open vSwitch out of its caches, a client that sends often comes back on it."""

Front = tuple[int, Address, int]
"""IP's number of a protocol, address and port."""

Way = tuple[Front, tuple[Address, int] | None]
"""From where, and to which target (None: to all)."""

_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


class TrackSink(Sink):
    """Forgets connections, those of Open vSwitch and the kernel's, on paths that nobody wants any more.

    See `ovnkit.api.sinks.Sink`. What went while no process ran is not known here. `later` runs a function in the
    reconciler's thread.
    """

    name = "conntrack"
    item_types: tuple[type, ...] = (TrackedPath,)

    def __init__(self, later: Later, bridge: Bridge, delays: Sequence[float] = DELAYS) -> None:
        self._later = later
        self._bridge = bridge
        self._delays = delays
        self._owned: dict[Owner, frozenset[TrackedPath]] = {}
        self._wanted: Counter[TrackedPath] = Counter()
        self._fronts: Counter[Front] = Counter()
        """How many paths there are from each address and port."""
        self._gone: set[TrackedPath] = set()
        self._jobs: queue.SimpleQueue[frozenset[Way] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="conntrack", daemon=True)
        self.flushes_total = 0
        self.last_error = ""

    # -- what the kernel calls --------------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[TrackedPath]) -> None:
        """From now on `owner` wants exactly these paths."""
        after = frozenset(items)
        for path in after:
            _front(path)  # raises before anything is changed
        before = self._owned.pop(owner, frozenset())
        if after:
            self._owned[owner] = after
        for path in after - before:
            if not self._wanted[path]:
                self._fronts[_front(path)] += 1
            self._wanted[path] += 1
            self._gone.discard(path)
        for path in before - after:
            self._wanted[path] -= 1
            if not self._wanted[path]:
                del self._wanted[path]
                self._gone.add(path)
                front = _front(path)
                self._fronts[front] -= 1
                if not self._fronts[front]:
                    del self._fronts[front]

    def flush(self) -> None:
        """Have what is gone forgotten, soon and again."""
        if self._gone:
            gone, self._gone = self._gone, set()
            for delay in self._delays:
                self._later(delay, lambda: self._forget(gone))

    def settle(self) -> None:
        """Nothing to do: a connection has no mark of ours."""

    @property
    def idle(self) -> bool:
        """Whether nothing has to be started; forgetting goes on for a while, and nobody waits for it."""
        return not self._gone

    @property
    def ready(self) -> bool:
        """Nothing has to be loaded."""
        return True

    def status(self) -> dict[str, Any]:
        """State for `/readyz`, metrics and `ovnkit status`."""
        return {
            "connected": not self.last_error,
            "owned": len(self._wanted),
            "pending": len(self._gone),
            "flushes": self.flushes_total,
            "last_error": self.last_error,
        }

    def stop(self) -> None:
        """End the thread."""
        self._jobs.put(None)

    # -- forgetting -------------------------------------------------------------------------------------------

    def _forget(self, gone: Iterable[TrackedPath]) -> None:
        """What has come back meanwhile stays. An address with no way left is forgotten as a whole."""
        ways = frozenset(self._way(path) for path in gone if path not in self._wanted)
        if ways:
            self._jobs.put(ways)
            if self._thread.ident is None:
                self._thread.start()

    def _way(self, path: TrackedPath) -> Way:
        front = _front(path)
        return front, (path.target, path.target_port) if self._fronts[front] else None

    def _work(self) -> None:
        while (ways := self._jobs.get()) is not None:
            for front, target in sorted(ways, key=str):
                try:
                    ofctl.run(self._bridge, "ct-flush", *_words(front, target))
                    number, address, port = front
                    back = (str(target[0]), target[1]) if target is not None else None
                    kerneltrack.forget(number, address, port, back)
                    self.flushes_total += 1
                    self.last_error = ""
                except Exception as error:  # of one way; the others are forgotten all the same
                    self.last_error = str(error)
                    log.debug("connections can't be forgotten", error=self.last_error)


def _front(path: TrackedPath) -> Front:
    return _NUMBERS[path.protocol], path.address, path.port


def _words(front: Front, target: tuple[Address, int] | None) -> list[str]:
    """How ovs-ofctl is told: the first packet's destination, and who answers."""
    number, address, port = front
    words = [f"{_field(address)}_dst={address},ct_nw_proto={number},ct_tp_dst={port}"]
    if target is not None:
        words.append(f"{_field(target[0])}_src={target[0]},ct_nw_proto={number},ct_tp_src={target[1]}")
    return words


def _field(address: Address) -> str:
    return "ct_nw" if address.version == 4 else "ct_ipv6"
