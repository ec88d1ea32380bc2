"""The host sink: links, addresses, routes, rules, neighbours and sysctls of this network namespace."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from attrs import frozen
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ovnkit.api.host import ROUTE_PROTOCOL, HostItem, Link, LinkAddress, Neighbour, Route, Rule, Sysctl
from ovnkit.engine.refusals import Refusals, ReportedOwners
from ovnkit.engine.sink import Owner, Report, Sink
from ovnkit.sinks.host import apply
from ovnkit.sinks.host.actual import Key, as_item, key_of, key_of_fact, link_of, ours, satisfies
from ovnkit.sinks.host.decode import Fact
from ovnkit.sinks.host.naming import HostItemError, kernel_error, name_of
from ovnkit.sinks.host.netlink import Changes, Monitor, Watched
from ovnkit.sinks.host.sysctls import Sysctls

log = structlog.get_logger()

Post = Callable[[Callable[[], None]], None]
"""Run a function in the reconciler's thread."""

FIRST_RETRY, LAST_RETRY = 0.5, 30.0
SYSCTL_PERIOD = 30.0
"""Seconds between looks at the sysctls: the kernel tells nobody when they change."""

# What must be there before what stands on it; removal goes the other way.
_ORDER = {"links": 0, "sysctls": 1, "addresses": 2, "neighbours": 3, "routes": 4, "rules": 5}


@frozen
class Change:
    """One change for the writer. `remove` takes the item away; `index` is its link's."""

    key: Key
    item: HostItem
    index: int
    remove: bool = False


class HostSink(Sink[HostItem]):
    """Holds the node's kernel to the host items. See `ovnkit.engine.sink.Sink`.

    Routes, rules, neighbours and addresses carry our protocol number, by which leftovers of a former run are
    known; what has no such mark is never removed. An item whose link does not exist waits for it.
    """

    name = "host"
    item_types: tuple[type, ...] = (Link, LinkAddress, Route, Rule, Neighbour, Sysctl)

    def __init__(self, post: Post, report: Report) -> None:
        self._post = post
        self._reported: ReportedOwners[Key] = ReportedOwners(report)
        self._wanted: dict[Owner, tuple[HostItem, ...]] = {}
        self._claims: dict[Key, dict[Owner, HostItem]] = {}
        self._actual: dict[Key, Fact] = {}
        self._fact_keys: dict[tuple[str, str], Key] = {}
        self._links: dict[str, int] = {}
        self._waiting: dict[str, set[Key]] = {}
        self._missing: dict[str, float] = {}
        """Since when a link has been waited for (seconds since the epoch)."""
        self._dirty: set[Key] = set()
        self._in_flight: set[Key] = set()
        self._failed: Refusals[Key] = Refusals(FIRST_RETRY, LAST_RETRY, over=self._reported.over)
        self._sysctls_done: set[Key] = set()
        self._settled = False
        self._loaded = False
        self._last_error = ""
        self._writer = Writer(self._done_later, self._tick_later)
        watched = Watched(frozenset(_ORDER) - {"sysctls"}, route_protocol=ROUTE_PROTOCOL)
        self._monitor = Monitor(watched, self._changed_later, self._listed_later)

    def start(self) -> None:
        """Start the threads that look and write, in this network namespace."""
        self._monitor.start()
        self._writer.start()

    def stop(self) -> None:
        """End the threads; the host stays as it is."""
        self._monitor.stop()
        self._writer.stop()

    # -- what is wanted ---------------------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[HostItem]) -> None:
        """From now on `owner` wants exactly these items."""
        before = {key_of(item): item for item in self._wanted.get(owner, ())}
        after = {key_of(item): item for item in items}
        for key in before.keys() | after.keys():
            if before.get(key) == after.get(key):
                continue
            claims = self._claims.setdefault(key, {})
            claims.pop(owner, None)
            if key in after:
                claims[owner] = after[key]
            if not claims:
                del self._claims[key]
            self._sysctls_done.discard(key)
            self._failed.forget(key)
            self._dirty.add(key)
        if items:
            self._wanted[owner] = tuple(items)
        else:
            self._wanted.pop(owner, None)

    def _desired(self, key: Key) -> HostItem | None:
        """What should be there. Of several owners that contradict each other the first by name wins."""
        claims = self._claims.get(key)
        return claims[min(claims, key=str)] if claims else None

    def settle(self) -> None:
        """Everything has been rendered once: leftovers of ours may go."""
        self._settled = True
        self._dirty |= {key for key, fact in self._actual.items() if ours(fact) and key not in self._claims}

    def flush(self) -> None:
        """Start applying what differs."""
        if not self._loaded:
            return
        changes = []
        for key in list(self._dirty):
            if key in self._in_flight or self._failed.is_held(key):
                continue
            self._dirty.discard(key)
            try:
                change = self._change(key)
            except Exception as error:  # of one item; the others are applied
                self._fail(key, error)
                continue
            if change is not None:
                changes.append(change)
                self._in_flight.add(key)
        if changes:
            changes.sort(
                key=lambda change: -_ORDER[change.key[0]] if change.remove else 100 + _ORDER[change.key[0]]
            )
            self._writer.put(changes)

    def _change(self, key: Key) -> Change | None:
        item = self._desired(key)
        fact = self._actual.get(key)
        if item is None:
            return self._removal(key, fact)
        if isinstance(item, Sysctl):
            return None if key in self._sysctls_done else Change(key, item, 0)
        if fact is not None and satisfies(fact, item):
            self._failed.forget(key)
            return None
        link = link_of(item)
        if link and link not in self._links:
            self._waiting.setdefault(link, set()).add(key)
            self._missing.setdefault(link, time.time())
            return None
        return Change(key, item, self._links.get(link, 0))

    def _removal(self, key: Key, fact: Fact | None) -> Change | None:
        if not self._settled:
            return None
        if key[0] == "sysctls":
            return Change(key, Sysctl(tuple(key[1].split("/")), ""), 0, remove=True)
        if fact is None or not ours(fact):
            return None
        item = as_item(fact)
        return Change(key, item, self._links.get(link_of(item), 0), remove=True) if item is not None else None

    # -- what is there (told by the monitor) ------------------------------------------------------------------

    def _changed_later(self, what: str, changes: Changes) -> None:
        self._post(lambda: self._changed(what, changes))

    def _listed_later(self) -> None:
        self._post(self._listed)

    def _listed(self) -> None:
        self._loaded = True
        self.flush()

    def _changed(self, what: str, changes: Changes) -> None:
        for fact_key, fact in changes:
            key = self._take(what, fact_key, fact)
            if key in self._claims or (fact is not None and self._settled and ours(fact)):
                self._dirty.add(key)
            if what == "links":
                self._link_changed(fact_key, fact)
        if self._loaded:
            self.flush()

    def _take(self, what: str, fact_key: str, fact: Fact | None) -> Key:
        known = self._fact_keys.get((what, fact_key))
        if fact is None:
            if known is None:
                return what, fact_key
            del self._fact_keys[what, fact_key]
            if (held := self._actual.get(known)) is not None and held.key == fact_key:
                del self._actual[known]
            return known
        key = key_of_fact(fact)
        self._fact_keys[what, fact_key] = key
        self._actual[key] = fact
        return key

    def _link_changed(self, name: str, fact: Fact | None) -> None:
        if fact is None:
            self._links.pop(name, None)
            return
        self._links[name] = fact.index
        self._missing.pop(name, None)
        self._dirty |= self._waiting.pop(name, set())
        # Sysctls of a link are lost with more than the link: an MTU below 1280 ends its IPv6, for instance.
        self._recheck_sysctls(name)

    def _recheck_sysctls(self, link: str = "") -> None:
        """Look at the sysctls again: those of a link, or all."""
        for key in self._claims:
            if key[0] == "sysctls" and (not link or link in key[1].split("/")):
                self._sysctls_done.discard(key)
                self._failed.forget(key)
                self._dirty.add(key)

    # -- what came of it (told by the writer) -----------------------------------------------------------------

    def _done_later(self, change: Change, error: Exception | None) -> None:
        self._post(lambda: self._done(change, error))

    def _done(self, change: Change, error: Exception | None) -> None:
        key = change.key
        self._in_flight.discard(key)
        if error is None:
            self._failed.forget(key)
            if key[0] == "sysctls" and not change.remove:
                self._sysctls_done.add(key)
            if self._desired(key) != (None if change.remove else change.item):
                self._dirty.add(key)
        else:
            self._fail(key, error)
        self.flush()

    def _fail(self, key: Key, error: Exception) -> None:
        news = self._failed.refuse(key, str(error))
        self._dirty.add(key)
        # A sysctl of a link that is not there yet has no file; that is no failure worth telling.
        if isinstance(error, FileNotFoundError):
            return
        item = self._desired(key)
        name, reason = name_of(item) if item is not None else " ".join(key), kernel_error(error)
        self._last_error = f"{name}: {reason}"
        if news:
            log.warning("host item failed", item=name, error=reason)
            self._reported.refused(key, self._claims.get(key, ()), HostItemError(self._last_error))

    def _tick_later(self, look: bool) -> None:
        self._post(lambda: self._tick(look))

    def _tick(self, look: bool) -> None:
        if look:
            self._recheck_sysctls()
        if self._dirty:
            self.flush()

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is to be applied or in flight. What waits for a link, or failed, doesn't count."""
        return self._loaded and not self._in_flight and all(key in self._failed for key in self._dirty)

    @property
    def ready(self) -> bool:
        """Whether the kernel has been listed once."""
        return self._loaded

    def status(self) -> dict[str, Any]:
        """See `ovnkit.engine.sink.Sink.status`."""
        waits = [
            {
                "owner": str(min(self._claims[key], key=str)),
                "item": f"{key[0]} {key[1]}",
                "wants": f"link {link}",
                "since": self._missing.get(link, time.time()),
            }
            for link, keys in sorted(self._waiting.items())
            for key in sorted(keys & self._claims.keys())
        ]
        return {
            "connected": self._loaded,
            "owned": sum(1 for key in self._claims if key in self._actual),
            "pending": len(self._dirty) + len(self._in_flight),
            "waiting": len(waits),
            "waits": waits,
            "failed": {f"{what} {key}": message for (what, key), message in self._failed.messages.items()},
            "last_error": self._last_error if self._failed else "",
        }


class Writer:
    """Applies changes in a thread of its own. `done(change, error)` and `tick(look)` are called there.

    A tick comes twice a second while something has failed lately, and every `SYSCTL_PERIOD` with `look` true.
    """

    def __init__(self, done: Callable[[Change, Exception | None], None], tick: Callable[[bool], None]) -> None:
        self._done = done
        self._tick = tick
        self._queue: queue.SimpleQueue[list[Change] | None] = queue.SimpleQueue()
        self._sysctls = Sysctls()
        self._thread = threading.Thread(target=self._run, name="host-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(5)

    def put(self, changes: list[Change]) -> None:
        """Apply these, in this order."""
        self._queue.put(changes)

    def _run(self) -> None:
        look = time.monotonic() + SYSCTL_PERIOD
        failing = 0.0
        with IPRoute() as ip:
            while True:
                now = time.monotonic()
                try:
                    timeout = FIRST_RETRY if now < failing else max(0.0, look - now)
                    changes = self._queue.get(timeout=timeout)
                except queue.Empty:
                    due = time.monotonic() >= look
                    look = time.monotonic() + SYSCTL_PERIOD if due else look
                    self._tick(due)
                    continue
                if changes is None:
                    return
                if self._apply_all(ip, changes):
                    failing = time.monotonic() + 2 * LAST_RETRY

    def _apply_all(self, ip: IPRoute, changes: Iterable[Change]) -> bool:
        failed = False
        for change in changes:
            error: Exception | None = None
            try:
                self._apply(ip, change)
            except (NetlinkError, OSError, ValueError) as found:
                error = found
            except Exception as found:
                log.exception("host writer", item=str(change.item))
                error = found
            failed |= error is not None
            self._done(change, error)
        return failed

    def _apply(self, ip: IPRoute, change: Change) -> None:
        if isinstance(change.item, Sysctl):
            (self._sysctls.restore if change.remove else self._sysctls.write)(change.item)
        elif change.remove:
            apply.remove(ip, change.item, change.index)
        else:
            apply.apply(ip, change.item, change.index)
