"""The flow sink: OpenFlow flows and groups of bridges, applied as bundles and put right when others touch them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from attrs import define, field, frozen

from ovnkit.api.flows import COOKIE_MARK, GROUP_MARK, Flow, FlowItem, Group, Match, Output, Port, plugin_mark
from ovnkit.api.sinks import Owner, Report
from ovnkit.host import ofctl
from ovnkit.host.flowworker import RETRY, Bundle, Post, Worker
from ovnkit.host.ofctl import Bridge, OfctlError

log = structlog.get_logger()

INTEGRATION_BRIDGE = "br-int"
"""The bridge whose flows are ovn-controller's."""


def cookie_of(plugin: str, text: str) -> int:
    """The cookie of a flow: it tells the plugin and stands for the flow's whole text."""
    own = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")
    return plugin_mark(plugin) << 48 | own


def is_our_group(number: int) -> bool:
    """Whether a group's number carries our mark."""
    return number >> 24 == GROUP_MARK >> 24


def is_ours(cookie: int) -> bool:
    """Whether a cookie carries our mark."""
    return cookie >> 56 == COOKIE_MARK


def switching(bridge: str) -> Flow:
    """The flow that a bridge has of itself, with cookie 0. One of ours may take its place, and gives it back."""
    return Flow(bridge, 0, 0, Match(), (Output(Port.NORMAL),))


@frozen
class _Claim:
    """What one owner wants at one place: the text, and for a flow its cookie."""

    text: str
    cookie: int = 0


@define
class _State:
    """A bridge: what is wanted by place, and what it has. `flows` is None while that is not known."""

    worker: Worker
    flows_wanted: dict[Any, dict[Owner, _Claim]] = field(factory=dict)
    groups_wanted: dict[int, dict[Owner, _Claim]] = field(factory=dict)
    flows: set[int] | None = None
    last: int | None = None
    groups: set[int] = field(factory=set)
    dirty: bool = False
    busy: bool = False
    error: str = ""


class FlowSink:
    """Holds bridges to the flow items. See `ovnkit.api.sinks.Sink`.

    A flow's cookie is a hash of its text, so a dump of cookies tells what is there without comparing matches.
    Flows without our mark are never touched; ours that nobody wants go once everything has been rendered.
    """

    name = "flows"
    item_types: tuple[type, ...] = (Flow, Group)

    def __init__(self, post: Post, report: Report, run_dir: str) -> None:
        self._post = post
        self._report = report
        self._run_dir = run_dir
        self._wanted: dict[Owner, tuple[FlowItem, ...]] = {}
        self._bridges: dict[str, _State] = {}
        self._settled = False
        self._active: frozenset[int] | None = None
        self._stopped = threading.Event()
        self.bundles_total = 0
        self.flows_written_total = 0

    def stop(self) -> None:
        """End the threads; the flows stay."""
        self._stopped.set()
        for state in self._bridges.values():
            state.worker.stop()

    # -- what is wanted ---------------------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[FlowItem]) -> None:
        """From now on `owner` wants exactly these flows and groups."""
        before, after = set(self._wanted.get(owner, ())), set(items)
        for item in before - after:
            state, places, place = self._place(item)
            places[place].pop(owner, None)
            if not places[place]:
                del places[place]
            state.dirty = True
        for item in after - before:
            state, places, place = self._place(item)
            cookie = cookie_of(owner.plugin, item.text) if isinstance(item, Flow) else 0
            places.setdefault(place, {})[owner] = _Claim(item.text, cookie)
            state.dirty = True
        if items:
            self._wanted[owner] = tuple(items)
        else:
            self._wanted.pop(owner, None)

    def _place(self, item: FlowItem) -> tuple[_State, dict[Any, dict[Owner, _Claim]], Any]:
        state = self._bridge(item.bridge)
        if isinstance(item, Flow):
            return state, state.flows_wanted, item.place
        return state, state.groups_wanted, item.number

    def _bridge(self, name: str) -> _State:
        state = self._bridges.get(name)
        if state is None:
            worker = Worker(Bridge(name, self._run_dir), self._post, self._looked, self._deleted)
            state = self._bridges[name] = _State(worker)
            worker.start()
        return state

    def settle(self) -> None:
        """Everything has been rendered once: flows of ours that nobody wants may go.

        So that those of a plugin that is off now go too, every bridge is looked at; OVN's only once.
        """
        if self._active is not None:
            threading.Thread(target=self._sweep, args=(self._active,), name="flows-sweep", daemon=True).start()
        self._settled = True
        for socket in Path(self._run_dir).glob("*.mgmt"):
            if socket.stem != INTEGRATION_BRIDGE:
                self._bridge(socket.stem)
        for state in self._bridges.values():
            state.dirty = True

    def keep(self, plugins: Iterable[str]) -> None:
        """Flows of ours on OVN's bridge are written by plugins themselves; those of these plugins stay."""
        self._active = frozenset(map(plugin_mark, plugins))

    def _sweep(self, active: frozenset[int]) -> None:
        bridge = Bridge(INTEGRATION_BRIDGE, self._run_dir)
        while not self._stopped.is_set():
            try:
                found, _ = ofctl.cookies(bridge)
                gone = {cookie for cookie in found if is_ours(cookie) and cookie >> 48 not in active}
                ofctl.apply(bridge, delete=gone, add={})
            except OfctlError as error:
                log.debug("no sweep of a bridge", bridge=bridge.name, error=str(error))
                self._stopped.wait(RETRY)
                continue
            if gone:
                log.info("flows of plugins that are off removed", bridge=bridge.name, flows=len(gone))
            return

    def flush(self) -> None:
        """Start applying what differs, a bundle per bridge."""
        for name, state in self._bridges.items():
            if state.dirty and not state.busy and state.flows is not None:
                state.dirty = False
                bundle = self._difference(name, state, state.flows)
                if bundle is not None:
                    state.busy = True
                    self.bundles_total += 1
                    self.flows_written_total += len(bundle.add) + len(bundle.delete)
                    state.worker.apply(bundle, self._applied(name, bundle))

    def _difference(self, name: str, state: _State, actual: set[int]) -> Bundle | None:
        flows = dict(_first(claims) for claims in state.flows_wanted.values())
        add = {cookie: text for cookie, text in flows.items() if cookie not in actual}
        plain = switching(name)
        unclaimed = self._settled and plain.place not in state.flows_wanted
        if unclaimed and state.last is not None and is_ours(state.last):
            add[0] = plain.text
        groups = {number: _first(claims)[1] for number, claims in state.groups_wanted.items()}
        gone = {cookie for cookie in actual if is_ours(cookie) and cookie not in flows} if self._settled else set()
        gone_groups = {number for number in state.groups if is_our_group(number) and number not in groups}
        bundle = Bundle(
            delete=frozenset(gone),
            add=add,
            delete_groups=frozenset(gone_groups if self._settled else ()),
            add_groups={number: text for number, text in groups.items() if number not in state.groups},
        )
        return bundle if any((bundle.delete, bundle.add, bundle.delete_groups, bundle.add_groups)) else None

    # -- what came of it --------------------------------------------------------------------------------------

    def _applied(self, name: str, bundle: Bundle) -> Callable[[str], None]:
        def done(error: str) -> None:
            state = self._bridges[name]
            state.busy = False
            if error:
                log.warning("flows could not be applied", bridge=name, error=error)
                self._blame(name, bundle, error)
                state.error, state.flows, state.dirty = error, None, True
                state.worker.look_soon(RETRY)
                return
            state.error = ""
            if state.flows is not None:
                state.flows -= bundle.delete
                state.flows |= set(bundle.add)
            claims = state.flows_wanted.get(switching(name).place)
            state.last = 0 if 0 in bundle.add else _first(claims)[0] if claims else state.last
            state.groups = (state.groups - bundle.delete_groups) | set(bundle.add_groups)
            self.flush()

        return done

    def _blame(self, name: str, bundle: Bundle, error: str) -> None:
        added = set(bundle.add) | set(bundle.add_groups)
        for owner, items in self._wanted.items():
            for item in items:
                mark = cookie_of(owner.plugin, item.text) if isinstance(item, Flow) else item.number
                if item.bridge == name and mark in added:
                    self._report(owner, OfctlError(f"{name}: {error}"))
                    break

    def _looked(self, name: str, flows: set[int] | None, last: int | None, groups: set[int], error: str) -> None:
        """The bridge has these flows and groups (None: it did not answer)."""
        state = self._bridges.get(name)
        if state is None:
            return
        if flows is None:
            state.error, state.flows = error, None
            if not (state.flows_wanted or state.groups_wanted or state.busy):
                # It was looked at for leftovers only, or has lost the last who wanted something: no such bridge.
                state.worker.stop()
                del self._bridges[name]
            return
        if state.busy:
            return  # a bundle is under way; the next look will tell
        state.error = ""
        state.flows, state.last, state.groups = flows, last, groups
        state.dirty = True
        self.flush()

    def _deleted(self, name: str, cookie: int) -> None:
        """Somebody else deleted a flow."""
        state = self._bridges.get(name)
        if state is None:
            return
        if is_ours(cookie) and state.flows is not None and cookie in state.flows:
            log.info("a flow of ours was deleted by someone else", bridge=name, cookie=f"{cookie:#x}")
            state.flows.discard(cookie)
            state.dirty = True
            self.flush()

    # -- state ------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be applied, or in flight."""
        return all(not (state.dirty or state.busy) for state in self._bridges.values())

    @property
    def ready(self) -> bool:
        """Whether every bridge that flows are wanted on answers."""
        return all(state.flows is not None for state in self._bridges.values())

    def status(self) -> dict[str, Any]:
        """State by bridge, for `/readyz` and `ovnkit status`."""
        bridges = {
            name: {"wanted": len(state.flows_wanted), "error": state.error, "answers": state.flows is not None}
            for name, state in self._bridges.items()
        }
        return {
            "connected": self.ready,
            "owned": sum(1 for state in self._bridges.values() for cookie in state.flows or () if is_ours(cookie)),
            "pending": sum(1 for state in self._bridges.values() if state.dirty or state.busy),
            "bridges": bridges,
            "last_error": next((state.error for state in self._bridges.values() if state.error), ""),
        }


def _first(claims: Mapping[Owner, _Claim]) -> tuple[int, str]:
    """What holds at a place that several owners want: the first by name."""
    claim = claims[min(claims, key=str)]
    return claim.cookie, claim.text
