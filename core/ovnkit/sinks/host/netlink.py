"""What the kernel tells over rtnetlink, as facts: dumps, then events, with a full look now and then.

Events are followed in order, each changes one fact. Where the kernel is known to be silent (IPv4 routes that go
with an address or a link that goes down), when it says that it dropped events, and every minute, everything
is dumped again and compared.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import structlog
from attrs import frozen
from pyroute2 import IPRoute

from ovnkit.api.host import RouteView
from ovnkit.sinks.host import decode
from ovnkit.sinks.host.decode import Fact
from ovnkit.sinks.host.events import Events

log = structlog.get_logger()

RESYNC = 60.0
"""Seconds between full looks."""
_SILENT = 0.05
"""Seconds after which routes are read again when some may have gone without an event."""
_RECEIVE_BUFFER = 4 << 20
_SO_RCVBUFFORCE = 33

Changes = list[tuple[str, Fact | None]]


@frozen
class Watched:
    """What a monitor follows: `links` always, and of `addresses`, `routes`, `rules`, `neighbours` those named.

    `route_protocol` narrows routes to those of one protocol number.
    """

    what: frozenset[str]
    route_protocol: int | None = None


class Monitor:
    """Follows the facts of the network namespace of the thread that calls `start`, in a thread of its own.

    `changed(what, changes)` gets each batch of (key, fact or None); `listed()` is called once after the first
    complete look, and `lost(error)` when the kernel could not be asked (it is tried again after a second).
    All three are called in the monitor's thread.
    """

    def __init__(
        self,
        watched: Watched,
        changed: Callable[[str, Changes], None],
        listed: Callable[[], None],
        lost: Callable[[Exception], None] | None = None,
    ) -> None:
        self._watched = watched
        self._what = tuple(what for what in decode.WHAT if what in watched.what | {"links"})
        self._changed = changed
        self._listed = listed
        self._lost = lost
        self._known: dict[str, dict[str, Fact]] = {what: {} for what in self._what}
        self._names: dict[int, str] = {}
        self._wake_read, self._wake_write = os.pipe()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="netlink-monitor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended or after 5 s."""
        if self._stop:
            return
        self._stop = True
        os.write(self._wake_write, b"x")
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        listed = False
        while not self._stop:
            try:
                with _event_socket(self._what) as events, IPRoute(strict_check=True) as ip:
                    self._look(ip, self._what)
                    if not listed:
                        listed = True
                        self._listed()
                    self._follow(events, ip)
            except Exception as error:
                # Whatever it was, a fresh socket and a full look make it good again.
                log.warning("netlink monitor starts over", error=str(error))
                if self._lost is not None:
                    self._lost(error)
                select.select([self._wake_read], [], [], 1.0)
        os.close(self._wake_read)
        os.close(self._wake_write)

    # -- events -----------------------------------------------------------------------------------------------

    def _follow(self, events: socket.socket, ip: IPRoute) -> None:
        reader = Events()
        full = time.monotonic() + RESYNC
        routes = float("inf")
        while not self._stop:
            left = max(0.0, min(full, routes) - time.monotonic())
            ready, _, _ = select.select([events.fileno(), self._wake_read], [], [], left)
            if events.fileno() in ready and self._receive(events, reader):
                routes = min(routes, time.monotonic() + _SILENT)
            now = time.monotonic()
            if now >= full:
                self._look(ip, self._what)
                full, routes = now + RESYNC, float("inf")
            elif now >= routes:
                self._look(ip, tuple(what for what in self._what if what in ("addresses", "routes")))
                routes = float("inf")

    def _receive(self, events: socket.socket, reader: Events) -> bool:
        """Take what there is; whether something happened with which the kernel removes routes silently."""
        batches: dict[str, dict[str, Fact | None]] = {}
        silent = False
        while True:
            try:
                data = events.recv(1 << 16)
            except BlockingIOError:
                break
            for message in reader.read(data):
                silent |= self._take(message, batches)
        for what, changes in batches.items():
            self._emit(what, changes)
        return silent

    def _take(self, message: object, batches: dict[str, dict[str, Fact | None]]) -> bool:
        what = decode.what(message)
        if what not in self._known:
            return False
        if what == "links" and self._take_link(message, batches):
            return True
        fact = decode.fact(what, message, self._names)
        if fact is None:
            return False
        # A route that replaces another tells nothing of that one, unless both have one key.
        silent = decode.replaces(message) and fact.key not in self._known[what]
        if not self._followed(fact):
            return decode.replaces(message)
        gone = decode.gone(message) or not fact.held
        batches.setdefault(what, {})[fact.key] = None if gone else fact
        return silent or self._takes_routes(fact, gone, batches.get("routes", {}))

    def _takes_routes(self, fact: Fact, gone: bool, batch: Mapping[str, Fact | None]) -> bool:
        """Whether routes may go with this fact of which the kernel says nothing: it tells of IPv6's own."""
        if fact.what == "links" and (gone or not fact.up):
            link, source = fact.key, None
        elif fact.what == "addresses" and gone:
            link, source = fact.view.link, fact.view.address.ip
        else:
            return False
        known = (*self._known.get("routes", {}).values(), *batch.values())
        routes: list[RouteView] = [route.view for route in known if route is not None]
        return any(
            (source is not None and route.source == source)
            or (route.destination.version == 4 and any(hop.link == link for hop in route.hops))
            for route in routes
        )

    def _take_link(self, message: object, batches: dict[str, dict[str, Fact | None]]) -> bool:
        """Keep the names by index; whether the link was renamed (its addresses then have other keys)."""
        fact = decode.fact("links", message, self._names)
        if fact is None:
            return False
        old = self._names.get(fact.index)
        if decode.gone(message):
            self._names.pop(fact.index, None)
            return False
        self._names[fact.index] = fact.key
        if old is None or old == fact.key:
            return False
        batch = batches.setdefault("links", {})
        batch[old] = None
        batch[fact.key] = fact
        return True

    def _followed(self, fact: Fact) -> bool:
        wanted = self._watched.route_protocol
        return fact.what != "routes" or wanted is None or fact.protocol == wanted

    # -- full looks -------------------------------------------------------------------------------------------

    def _look(self, ip: IPRoute, whats: tuple[str, ...]) -> None:
        for what in whats:
            found = {fact.key: fact for fact in self._dump(ip, what) if fact.held and self._followed(fact)}
            changes: dict[str, Fact | None] = dict.fromkeys(self._known[what].keys() - found.keys())
            changes.update(found)
            self._emit(what, changes)

    def _dump(self, ip: IPRoute, what: str) -> Iterator[Fact]:
        messages = decode.dump(ip, what, self._watched.route_protocol)
        if what == "links":
            messages = list(messages)  # a link may name one that comes after it
            self._names = {message["index"]: message.get("ifname") or "" for message in messages}
        for message in messages:
            fact = decode.fact(what, message, self._names)
            if fact is not None:
                yield fact

    def _emit(self, what: str, found: Mapping[str, Fact | None]) -> None:
        known = self._known[what]
        changes: Changes = [(key, fact) for key, fact in found.items() if known.get(key) != fact]
        for key, fact in changes:
            if fact is None:
                known.pop(key, None)
            else:
                known[key] = fact
        if changes:
            self._changed(what, changes)


def _event_socket(whats: tuple[str, ...]) -> socket.socket:
    """A netlink socket subscribed to the events of these facts."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
    events.setblocking(False)
    groups = 0
    for what in whats:
        groups |= decode.GROUPS[what]
    events.bind((0, groups))
    return events
