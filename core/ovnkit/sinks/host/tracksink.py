"""The conntrack sink: connections on ways that no longer exist are forgotten, so that clients find new ones, and
those that were made before there was a way."""

from __future__ import annotations

import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from ovnkit.api.host import Tracked, TrackedFront, TrackedPath
from ovnkit.api.text import Address
from ovnkit.engine.sink import Owner, Sink
from ovnkit.sinks.host import kerneltrack, ofctl
from ovnkit.sinks.host.ofctl import Bridge

log = structlog.get_logger()

Later = Callable[[float, Callable[[], None]], object]

DELAYS = (0.2, 1.0, 4.0, 10.0)
"""Seconds after which connections are forgotten. More than once: until ovn-controller has taken a way out of the
flows, or put it there, and Open vSwitch out of its caches, a client that sends often comes back on the old one."""

Front = tuple[int, Address, int]
"""IP's number of a protocol, address and port."""

Way = tuple[Front, tuple[Address, int] | None]
"""From where, and to which target (None: to all)."""

_LINE = re.compile(
    r"(?P<protocol>tcp|udp|sctp),orig=\(src=[^,]+,dst=(?P<address>[^,]+),sport=\d+,dport=(?P<port>\d+)\),"
    r"reply=\(src=(?P=address),dst=[^,]+,sport=(?P=port),dport=\d+\)(?:,zone=(?P<zone>\d+))?"
)
"""A connection, as Open vSwitch prints it, that goes where it was sent to."""

_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


class TrackSink(Sink[Tracked]):
    """Forgets connections, those of Open vSwitch and the kernel's: on paths that nobody wants any more, and when a
    front appears those to it that nobody has translated.

    See `ovnkit.engine.sink.Sink`. What came and went while no process ran is not known here. `later` runs a
    function in the reconciler's thread. `host_zones` are the conntrack zones of the external bridge: what goes
    where it was sent to has at most its source translated there, and its answers need that.
    """

    name = "conntrack"
    item_types: tuple[type, ...] = (TrackedPath, TrackedFront)

    def __init__(
        self,
        later: Later,
        bridge: Bridge,
        delays: Sequence[float] = DELAYS,
        *,
        host_zones: range = range(64000, 64005),
    ) -> None:
        self._later = later
        self._bridge = bridge
        self._delays = delays
        self._host_zones = host_zones
        self._owned: dict[Owner, frozenset[Tracked]] = {}
        self._wanted: Counter[Tracked] = Counter()
        self._paths: Counter[Front] = Counter()
        """How many paths there are from each address and port."""
        self._gone: set[TrackedPath] = set()
        self._new: set[TrackedFront] = set()
        self._settled = False
        self._jobs: queue.SimpleQueue[tuple[set[Way], set[Front]] | None] = queue.SimpleQueue()
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
        fronts = {_front(front) for front in new if front in self._wanted}
        if ways or fronts:
            self._jobs.put((ways, fronts))
            if self._thread.ident is None:
                self._thread.start()

    def _way(self, path: TrackedPath) -> Way:
        front = _front(path)
        return front, (path.target, path.target_port) if self._paths[front] else None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            ways, fronts = job
            for front, target in sorted(ways, key=str):
                self._try(self._forget_way, front, target)
            if fronts:
                self._try(self._forget_untranslated, fronts)

    def _try(self, what: Callable[..., None], *arguments: object) -> None:
        try:
            what(*arguments)
            self.flushes_total += 1
            self.last_error = ""
        except Exception as error:  # of one job; the others are done all the same
            self.last_error = str(error)
            log.debug("connections can't be forgotten", error=self.last_error)

    def _forget_way(self, front: Front, target: tuple[Address, int] | None) -> None:
        ofctl.run(self._bridge, "ct-flush", *_words(front, target))
        number, address, port = front
        kerneltrack.forget(number, address, port, (str(target[0]), target[1]) if target is not None else None)

    def _forget_untranslated(self, fronts: set[Front]) -> None:
        """Look first: most fronts have no such connection, and those in the host's zones are as they should be."""
        stale = set()
        known = {(number, str(address), port): (number, address, port) for number, address, port in fronts}
        for found in _LINE.finditer(ofctl.conntrack(self._bridge.run_dir)):
            number, zone = _NUMBERS[found["protocol"].upper()], int(found["zone"] or 0)
            front = known.get((number, found["address"], int(found["port"])))
            if front is not None and zone not in self._host_zones:
                stale.add((zone, front))
        for zone, front in sorted(stale, key=str):
            ofctl.run(self._bridge, "ct-flush", f"zone={zone}", *_words(front, front[1:]))
        for number, address, port in fronts:
            # Who has been answered there without a translation has found somebody else: the node itself.
            kerneltrack.forget(number, address, port, (str(address), port), unanswered=True)


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
