"""The conntrack sink: connections on ways that no longer exist are forgotten, so that clients find new ones, and
those that were made before there was a way."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from ovnkit.api.host import Address, TrackedFront, TrackedPath
from ovnkit.api.sinks import Owner, Sink
from ovnkit.host import kerneltrack, ofctl
from ovnkit.host.ofctl import Bridge

log = structlog.get_logger()

Later = Callable[[float, Callable[[], None]], object]

DELAYS = (0.2, 1.0, 4.0, 10.0)
"""Seconds after which connections are forgotten. More than once: until ovn-controller has taken a way out of the
flows, or put it there, and Open vSwitch out of its caches, a client that sends often comes back on the old one."""

Front = tuple[int, Address, int]
"""IP's number of a protocol, address and port."""

Way = tuple[Front, tuple[Address, int] | None]
"""From where, and to which target (None: to all; the address and port itself: not translated)."""

Tracked = TrackedPath | TrackedFront

_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


class TrackSink(Sink):
    """Forgets connections, those of Open vSwitch and the kernel's: on paths that nobody wants any more, and when a
    front appears those to it that nobody has translated.

    See `ovnkit.api.sinks.Sink`. What came and went while no process ran is not known here. `later` runs a function
    in the reconciler's thread.
    """

    name = "conntrack"
    item_types: tuple[type, ...] = (TrackedPath, TrackedFront)

    def __init__(self, later: Later, bridge: Bridge, delays: Sequence[float] = DELAYS) -> None:
        self._later = later
        self._bridge = bridge
        self._delays = delays
        self._owned: dict[Owner, frozenset[Tracked]] = {}
        self._wanted: Counter[Tracked] = Counter()
        self._paths: Counter[Front] = Counter()
        """How many paths there are from each address and port."""
        self._gone: set[TrackedPath] = set()
        self._new: set[TrackedFront] = set()
        self._settled = False
        self._jobs: queue.SimpleQueue[frozenset[Way] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="conntrack", daemon=True)
        self.flushes_total = 0
        self.last_error = ""

    # -- what the kernel calls --------------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[Tracked]) -> None:
        """From now on `owner` wants exactly these paths and fronts."""
        after = frozenset(items)
        for item in after:
            _front(item)  # raises before anything is changed
        before = self._owned.pop(owner, frozenset())
        if after:
            self._owned[owner] = after
        for item in after - before:
            self._wanted[item] += 1
            if self._wanted[item] == 1:
                self._appeared(item)
        for item in before - after:
            self._wanted[item] -= 1
            if not self._wanted[item]:
                del self._wanted[item]
                self._vanished(item)

    def _appeared(self, item: Tracked) -> None:
        if isinstance(item, TrackedPath):
            self._paths[_front(item)] += 1
            self._gone.discard(item)
        elif self._settled:
            self._new.add(item)

    def _vanished(self, item: Tracked) -> None:
        if isinstance(item, TrackedFront):
            self._new.discard(item)
            return
        self._gone.add(item)
        front = _front(item)
        self._paths[front] -= 1
        if not self._paths[front]:
            del self._paths[front]

    def flush(self) -> None:
        """Have what is gone, and what was there before its front, forgotten, soon and again."""
        if self._gone or self._new:
            gone, self._gone = self._gone, set()
            new, self._new = self._new, set()
            for delay in self._delays:
                self._later(delay, lambda: self._forget(gone, new))

    def settle(self) -> None:
        """What appears from now on is new. A connection has no mark of ours, so there is nothing else to do."""
        self._settled = True

    @property
    def idle(self) -> bool:
        """Whether nothing has to be started; forgetting goes on for a while, and nobody waits for it."""
        return not self._gone and not self._new

    @property
    def ready(self) -> bool:
        """Nothing has to be loaded."""
        return True

    def status(self) -> dict[str, Any]:
        """State for `/readyz`, metrics and `ovnkit status`."""
        return {
            "connected": not self.last_error,
            "owned": len(self._wanted),
            "pending": len(self._gone) + len(self._new),
            "flushes": self.flushes_total,
            "last_error": self.last_error,
        }

    def stop(self) -> None:
        """End the thread."""
        self._jobs.put(None)

    # -- forgetting -------------------------------------------------------------------------------------------

    def _forget(self, gone: Iterable[TrackedPath], new: Iterable[TrackedFront]) -> None:
        """Of paths, what has come back meanwhile stays; an address with no way left is forgotten as a whole."""
        ways = {self._way(path) for path in gone if path not in self._wanted}
        ways |= {(_front(front), (front.address, front.port)) for front in new if front in self._wanted}
        if ways:
            self._jobs.put(frozenset(ways))
            if self._thread.ident is None:
                self._thread.start()

    def _way(self, path: TrackedPath) -> Way:
        front = _front(path)
        return front, (path.target, path.target_port) if self._paths[front] else None

    def _work(self) -> None:
        while (ways := self._jobs.get()) is not None:
            for front, target in sorted(ways, key=str):
                try:
                    ofctl.run(self._bridge, "ct-flush", *_words(front, target))
                    number, address, port = front
                    back = (str(target[0]), target[1]) if target is not None else None
                    # Who has been answered there without a translation has found somebody else: the node itself.
                    kerneltrack.forget(number, address, port, back, unanswered=target == (address, port))
                    self.flushes_total += 1
                    self.last_error = ""
                except Exception as error:  # of one way; the others are forgotten all the same
                    self.last_error = str(error)
                    log.debug("connections can't be forgotten", error=self.last_error)


def _front(item: Tracked) -> Front:
    return _NUMBERS[item.protocol], item.address, item.port


def _words(front: Front, target: tuple[Address, int] | None) -> list[str]:
    """How ovs-ofctl is told: the first packet's destination, and who answers."""
    number, address, port = front
    words = [f"{_field(address)}_dst={address},ct_nw_proto={number},ct_tp_dst={port}"]
    if target is not None:
        words.append(f"{_field(target[0])}_src={target[0]},ct_nw_proto={number},ct_tp_src={target[1]}")
    return words


def _field(address: Address) -> str:
    return "ct_nw" if address.version == 4 else "ct_ipv6"
