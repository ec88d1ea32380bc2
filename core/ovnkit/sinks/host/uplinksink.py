"""The uplink sink: holds bridges over network interfaces, and gives the interfaces back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from attrs import frozen

from ovnkit.api.backoff import Backoff
from ovnkit.api.errors import OvnkitError
from ovnkit.api.host import ADDRESSES, LINKS, UplinkBridge
from ovnkit.api.kinds import Kind, Table, View
from ovnkit.engine.refusals import ReportedOwners
from ovnkit.engine.sink import Owner, Report, Sink
from ovnkit.sinks.host.naming import kernel_error
from ovnkit.sinks.host.uplinks import Uplinks

log = structlog.get_logger()

Post = Callable[[Callable[[], None]], None]

LOOK_PERIOD = 30.0
"""Seconds between looks, for what tells nobody (a route that somebody adds to the interface)."""
FIRST_RETRY, LAST_RETRY = 0.5, 30.0


@frozen
class _Order:
    """What the worker is to see to. Until `settled`, bridges that nobody wants are held as they are."""

    wanted: frozenset[UplinkBridge] = frozenset()
    settled: bool = False


class UplinkSink(Sink[UplinkBridge]):
    """Holds the items `UplinkBridge`. See `ovnkit.engine.sink.Sink`.

    Bridges that ovnkit made earlier are completed at start, before anything else is known: a host that a crash
    left between two interfaces may not reach its API server.
    """

    name = "uplinks"
    item_types: tuple[type, ...] = (UplinkBridge,)

    def __init__(self, post: Post, report: Report, run_dir: str) -> None:
        self._post = post
        self._reported: ReportedOwners[str] = ReportedOwners(report)
        self._wanted: dict[Owner, tuple[UplinkBridge, ...]] = {}
        self._order = _Order()
        self._given: _Order | None = None
        self._done: _Order | None = None
        self._made: dict[str, str] = {}
        self._errors: dict[str, str] = {}
        self._lost = "not looked yet"
        self._worker = Worker(Uplinks(run_dir), self._looked)

    def start(self) -> None:
        """Start the thread that looks and acts, in this network namespace."""
        self._worker.start()

    def stop(self) -> None:
        """End the thread; bridges stay as they are."""
        self._worker.stop()

    def want(self, owner: Owner, items: Sequence[UplinkBridge]) -> None:
        """From now on `owner` wants exactly these bridges."""
        if items:
            self._wanted[owner] = tuple(items)
        else:
            self._wanted.pop(owner, None)
        wanted = frozenset(item for mine in self._wanted.values() for item in mine)
        self._order = _Order(wanted, self._order.settled)

    def settle(self) -> None:
        """Everything has been rendered once: what nobody wants is undone."""
        self._order = _Order(self._order.wanted, True)

    def flush(self) -> None:
        """Start doing what is new."""
        if self._given != self._order:
            self._given = self._order
            self._worker.give(self._order)

    def observed_changed(self, kind: Kind[View], key: str) -> None:
        """An interface, address or bridge that matters has changed: look again."""
        if kind in (LINKS, ADDRESSES) or (isinstance(kind.source, Table) and kind.source.table == "Bridge"):
            names = {*self._made, *self._made.values()}
            if key.partition("/")[0] in names:
                self._worker.look_soon()

    def _looked(self, order: _Order, made: dict[str, str], errors: dict[str, str], lost: str) -> None:
        """Called in the worker's thread with what came of an order."""
        self._post(lambda: self._take(order, made, errors, lost))

    def _take(self, order: _Order, made: dict[str, str], errors: dict[str, str], lost: str) -> None:
        self._lost = lost
        if lost:
            return
        self._done, self._made = order, made
        for bridge, error in errors.items():
            if self._errors.get(bridge) == error:
                continue
            log.error("uplink bridge failed", bridge=bridge, error=error)
            owners = [own for own, items in self._wanted.items() if any(item.bridge == bridge for item in items)]
            self._reported.refused(bridge, owners, OvnkitError(error))
        for bridge in self._errors.keys() - errors.keys():
            self._reported.over(bridge)
        self._errors = errors

    @property
    def idle(self) -> bool:
        """Whether the last order has been seen to. What failed is tried again, and doesn't count."""
        return self._done == self._order

    @property
    def ready(self) -> bool:
        """Whether Open vSwitch has told which bridges there are."""
        return not self._lost

    def status(self) -> dict[str, Any]:
        """See `ovnkit.engine.sink.Sink.status`."""
        return {
            "connected": self.ready,
            "owned": len(self._made),
            "pending": 0 if self.idle else 1,
            "failed": self._errors,
            "last_error": self._lost or next(iter(self._errors.values()), ""),
        }


class Worker:
    """Makes and undoes bridges in a thread of its own. `looked(order, made, errors, lost)` is called there:
    bridges made by name, what failed by bridge, and why Open vSwitch could not be asked (empty: it could)."""

    def __init__(
        self, uplinks: Uplinks, looked: Callable[[_Order, dict[str, str], dict[str, str], str], None]
    ) -> None:
        self._uplinks = uplinks
        self._looked = looked
        self._order = _Order()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="uplinks", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread once it has finished what it is at."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def give(self, order: _Order) -> None:
        """See to this from now on."""
        self._order = order
        self._wake.set()

    def look_soon(self) -> None:
        """Look again."""
        self._wake.set()

    def _run(self) -> None:
        backoff = Backoff(FIRST_RETRY, LAST_RETRY, jitter=0)
        while not self._stopped:
            self._wake.clear()
            order = self._order
            errors: dict[str, str] = {}
            lost = ""
            try:
                errors = self._see_to(order)
                made = self._uplinks.made()
            except (OvnkitError, OSError) as error:
                made, lost = {}, str(error)
            self._looked(order, made, errors, lost)
            failed = bool(lost or errors)
            nothing = order.settled and not made and not order.wanted
            if failed:
                self._wake.wait(backoff.next())
            else:
                backoff.reset()
                self._wake.wait(None if nothing else LOOK_PERIOD)
            if failed and not self._stopped and self._order == order:
                time.sleep(FIRST_RETRY)  # events may come by the hundred; what fails must not spin

    def _see_to(self, order: _Order) -> dict[str, str]:
        """Do what is to be done; what failed, by bridge. Raises VsctlError when there is no Open vSwitch."""
        made = self._uplinks.made()
        wanted = {item.bridge: item.uplink for item in order.wanted}
        errors: dict[str, str] = {}
        for bridge in sorted(made.keys() | wanted.keys()):
            try:
                self._hold(bridge, made.get(bridge), wanted.get(bridge), order.settled)
            except OvnkitError as error:
                errors[bridge] = str(error)
            except Exception as error:  # of one bridge; the others are seen to
                log.debug("uplink bridge", bridge=bridge, exc_info=error)
                uplink = wanted.get(bridge) or made.get(bridge)
                errors[bridge] = f"bridge {bridge} over {uplink}: {kernel_error(error)}"
        return errors

    def _hold(self, bridge: str, made: str | None, wanted: str | None, settled: bool) -> None:
        if made is not None and (wanted or (made if not settled else "")) != made:
            self._uplinks.undo(bridge, made)
        uplink = wanted or (made if not settled else None)
        if uplink is not None:
            self._uplinks.make(bridge, uplink)
