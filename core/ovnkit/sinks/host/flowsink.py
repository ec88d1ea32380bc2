"""The flow sink: OpenFlow flows and groups of bridges, applied as bundles and put right when others touch them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from ovnkit.api.flows import INTEGRATION_BRIDGE, Flow, FlowItem, Group, plugin_mark
from ovnkit.engine.refusals import Refusals, ReportedOwners
from ovnkit.engine.sink import Owner, Report, Sink
from ovnkit.sinks.host import ofctl
from ovnkit.sinks.host.flowstate import (
    BridgeState,
    Claim,
    adding,
    cookie_of,
    is_our_group,
    is_ours,
    switching,
    winners,
)
from ovnkit.sinks.host.flowworker import RETRY, Bundle, FlowChange, Outcome, Post, Verb, Worker
from ovnkit.sinks.host.ofctl import Bridge, OfctlError

log = structlog.get_logger()

"""The bridge whose flows are ovn-controller's."""

BURST = 0.05
"""Seconds from the first of several deletions to the look at what is missing."""

FIRST_RETRY, LAST_RETRY = 1.0, 60.0
"""Seconds until a flow that the bridge refused is tried again."""

QUIET = 10.0
"""Seconds between log lines on flows that others delete."""


class FlowSink(Sink[FlowItem]):
    """Holds bridges to the flow items. See `ovnkit.engine.sink.Sink`.

    A flow's cookie is a hash of its text, so a dump of cookies tells what is there without comparing matches.
    Flows without our mark are never touched; ours that nobody wants go once everything has been rendered.
    A flow that the bridge refuses is left out, reported and tried again later; what it was to replace stays.
    """

    name = "flows"
    item_types: tuple[type, ...] = (Flow, Group)

    def __init__(self, post: Post, report: Report, run_dir: str) -> None:
        self._post = post
        self._reported: ReportedOwners[tuple[str, FlowChange]] = ReportedOwners(report)
        self._run_dir = run_dir
        self._wanted: dict[Owner, dict[Any, tuple[FlowItem, Claim]]] = {}
        self._bridges: dict[str, BridgeState] = {}
        self._settled = False
        self._active: frozenset[int] | None = None
        self._kept: frozenset[int] = frozenset()
        self._stopped = threading.Event()
        self.bundles_total = 0

    def stop(self) -> None:
        """End the threads; the flows stay."""
        self._stopped.set()
        for state in self._bridges.values():
            state.worker.stop()

    # -- what is wanted ---------------------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[FlowItem]) -> None:
        """From now on `owner` wants exactly these flows and groups."""
        before, after = self._wanted.get(owner, {}), self._claims(owner, items)
        for key in before.keys() - after.keys():
            item, claim = before[key]
            state, places, place = self._place(item)
            places[place].pop(owner, None)
            if not places[place]:
                del places[place]
            self._dropped(state, item, claim)
        for key, (item, claim) in after.items():
            if before.get(key) == (item, claim):
                continue
            state, places, place = self._place(item)
            places.setdefault(place, {})[owner] = claim
            if key in before:
                self._dropped(state, *before[key])
            state.dropped.discard(adding(item, claim))
            state.dirty = True
        if after:
            self._wanted[owner] = after
        else:
            self._wanted.pop(owner, None)

    def _claims(self, owner: Owner, items: Sequence[FlowItem]) -> dict[Any, tuple[FlowItem, Claim]]:
        """What an owner wants by place; of two items at one place it gets the first."""
        found: dict[Any, tuple[FlowItem, Claim]] = {}
        for item in items:
            number = cookie_of(owner.plugin, item.text) if isinstance(item, Flow) else item.number
            key = item.place if isinstance(item, Flow) else (item.bridge, number)
            found.setdefault(key, (item, Claim(item.text, number)))
        return found

    def _dropped(self, state: BridgeState, item: FlowItem, claim: Claim) -> None:
        change = adding(item, claim)
        state.dropped.add(change)
        state.refused.forget(change)
        state.dirty = True

    def _place(self, item: FlowItem) -> tuple[BridgeState, dict[Any, dict[Owner, Claim]], Any]:
        state = self._bridge(item.bridge)
        if isinstance(item, Flow):
            return state, state.flows_wanted, item.place
        return state, state.groups_wanted, item.number

    def _bridge(self, name: str) -> BridgeState:
        state = self._bridges.get(name)
        if state is None:
            worker = Worker(Bridge(name, self._run_dir), self._post, self._looked, self._deleted, self._lost)
            refused: Refusals[FlowChange] = Refusals(
                FIRST_RETRY, LAST_RETRY, over=lambda change: self._reported.over((name, change))
            )
            state = self._bridges[name] = BridgeState(worker, refused)
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

    def keep(self, paths: Collection[str]) -> None:
        """See `ovnkit.engine.sink.Sink`: a flow tells its plugin, so all leftovers of these plugins stay."""
        self._kept = frozenset(plugin_mark(path.partition("/")[0]) for path in paths)
        for state in self._bridges.values():
            state.dirty = True

    def plugins_active(self, plugins: Iterable[str]) -> None:
        """Flows of ours on OVN's bridge are written by plugins themselves; those of these plugins stay."""
        self._active = frozenset(map(plugin_mark, plugins))

    def _sweep(self, active: frozenset[int]) -> None:
        bridge = Bridge(INTEGRATION_BRIDGE, self._run_dir)
        while not self._stopped.is_set():
            try:
                found, _ = ofctl.cookies(bridge)
                gone = {cookie for cookie in found if is_ours(cookie) and cookie >> 48 not in active}
                ofctl.apply(bridge, map(ofctl.delete_flow, sorted(gone)))
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
                if bundle.lines:
                    state.busy = True
                    self.bundles_total += 1
                    state.worker.apply(bundle, self._applied(name, bundle))

    def _difference(self, name: str, state: BridgeState, actual: set[int]) -> Bundle:
        flows = {claim.cookie: (place, claim.text) for place, claim in winners(state.flows_wanted)}
        groups = {claim.cookie: claim.text for _, claim in winners(state.groups_wanted)}
        gone = {cookie for cookie in actual if is_ours(cookie) and cookie not in flows}
        kept = {cookie for cookie in gone if self._stays(state, cookie)}
        add = {cookie: found for cookie, found in flows.items() if cookie not in actual}
        for cookie, (place, _) in add.items():
            state.places[cookie] = place
        plain = switching(name)
        if self._settled and plain.place not in state.flows_wanted and state.last and is_ours(state.last):
            add[0] = plain.place, plain.text
        state.leaving = frozenset(gone)
        gone_groups = {n for n in state.groups if is_our_group(n) and n not in groups and self._settled}
        if self._kept:
            gone_groups = {number for number in gone_groups if (Verb.ADD_GROUP, number) in state.dropped}
        lines: dict[FlowChange, str] = {
            (Verb.ADD_GROUP, n): f"group add {text}" for n, text in groups.items() if n not in state.groups
        }
        lines |= {(Verb.DELETE_FLOW, cookie): ofctl.delete_flow(cookie) for cookie in gone - kept}
        lines |= {(Verb.ADD_FLOW, cookie): ofctl.add_flow(cookie, text) for cookie, (_, text) in add.items()}
        lines |= {(Verb.DELETE_GROUP, n): f"group delete group_id={n}" for n in gone_groups}
        for change in state.refused.messages.keys() - lines.keys():
            state.refused.forget(change)
        return Bundle({change: line for change, line in lines.items() if not state.refused.is_held(change)})

    def _stays(self, state: BridgeState, cookie: int) -> bool:
        """Whether a flow of ours that nobody wants is not to be deleted: not yet, or as it will be replaced."""
        if not self._settled or state.replaced(cookie):
            return True
        return cookie >> 48 in self._kept and (Verb.ADD_FLOW, cookie) not in state.dropped

    # -- what came of it --------------------------------------------------------------------------------------

    def _applied(self, name: str, bundle: Bundle) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            state = self._bridges[name]
            state.busy = False
            if outcome.error:
                log.warning("flows could not be applied", bridge=name, error=outcome.error)
                state.error, state.flows, state.dirty = outcome.error, None, True
                state.worker.look_soon(RETRY)
                return
            state.error = ""
            former = {state.places[cookie]: cookie for cookie in state.leaving if cookie in state.places}
            for change in bundle.lines:
                if change not in outcome.refused:
                    self._took(name, state, change, former)
            self._refused(name, state, outcome.refused)
            state.leaving = frozenset()
            if state.look_again:
                state.look_again = False
                state.worker.look_soon()
            self.flush()

        return done

    def _took(self, name: str, state: BridgeState, change: FlowChange, former: Mapping[Any, int]) -> None:
        """The bridge has taken a change; `former` are the flows that this process had where others come."""
        verb, number = change
        state.refused.forget(change)
        if verb is Verb.ADD_GROUP:
            state.groups.add(number)
        elif verb is Verb.DELETE_GROUP:
            state.groups.discard(number)
            state.dropped.discard((Verb.ADD_GROUP, number))
        elif verb is Verb.DELETE_FLOW:
            self._is_gone(state, number)
        elif state.flows is not None:
            place = switching(name).place if number == 0 else state.places[number]
            if place in former:
                self._is_gone(state, former[place])
            state.flows.add(number)
            if place == switching(name).place:
                state.last = number

    def _is_gone(self, state: BridgeState, cookie: int) -> None:
        if state.flows is not None:
            state.flows.discard(cookie)
        state.places.pop(cookie, None)
        state.dropped.discard((Verb.ADD_FLOW, cookie))

    def _refused(self, name: str, state: BridgeState, refused: Mapping[FlowChange, str]) -> None:
        """The bridge doesn't take these: their owners are told, and they are tried again later."""
        for change, message in refused.items():
            if not state.refused.refuse(change, message):
                continue
            log.warning("refused by a bridge", bridge=name, what=change[0].value, number=change[1], error=message)
            owners = self._owners(state, change)
            for text, _ in owners[:1]:
                error = OfctlError(f"{name} refused {text}: {message}")
                self._reported.refused((name, change), [owner for _, owner in owners], error)
        self._retry(state)

    def _retry(self, state: BridgeState) -> None:
        """A look is followed by another attempt."""
        if (pause := state.refused.pause) is not None:
            state.worker.look_soon(max(BURST, pause))

    def _owners(self, state: BridgeState, change: FlowChange) -> list[tuple[str, Owner]]:
        """Who wants what was refused, and its text."""
        verb, number = change
        wanted: Mapping[Any, dict[Owner, Claim]]
        wanted = state.flows_wanted if verb is Verb.ADD_FLOW else state.groups_wanted
        what = "flow" if verb is Verb.ADD_FLOW else "group"
        return [
            (f"{what} {claim.text}", owner)
            for claims in wanted.values()
            for owner, claim in claims.items()
            if claim.cookie == number
        ]

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
            state.look_again = True  # what was seen may be older than the bundle under way
            return
        wanted = {claim.cookie for _, claim in winners(state.flows_wanted)}
        self._count_missing(name, state, flows, wanted)
        state.error = ""
        state.flows, state.last, state.groups = flows, last, groups
        state.dirty = True
        state.dropped = {change for change in state.dropped if change[1] in flows or change[1] in groups}
        state.places = {cookie: p for cookie, p in state.places.items() if cookie in flows or cookie in wanted}
        self.flush()
        self._retry(state)

    def _count_missing(self, name: str, state: BridgeState, flows: set[int], wanted: set[int]) -> None:
        """Log what somebody else has deleted; of a bridge that was made anew nothing is known before the look."""
        if state.flows is not None:
            state.missed += len((state.flows - flows) & wanted)
        now = time.monotonic()
        if state.missed and now - state.told_at >= QUIET:
            log.warning("flows were deleted by someone else, restoring them", bridge=name, flows=state.missed)
            state.missed, state.told_at = 0, now

    def _deleted(self, name: str, cookie: int) -> None:
        """A flow was deleted. Unless a bundle of ours under way does that, a look tells whether it is missing: the
        news of an earlier bundle may come when the flow has been made again, that of a deletion by others before
        the bundle that makes it is known to be done."""
        state = self._bridges.get(name)
        if state is None or state.flows is None or not is_ours(cookie):
            return
        if state.busy:
            state.look_again = state.look_again or cookie not in state.leaving
        elif cookie in state.flows:
            state.worker.look_soon(BURST)

    def _lost(self, name: str) -> None:
        """The bridge has closed the connection: it may have been made anew."""
        state = self._bridges.get(name)
        if state is not None:
            state.flows = None
            state.worker.look_soon()

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
        failed = {
            f"{name} {text}": message
            for name, state in self._bridges.items()
            for change, message in state.refused.messages.items()
            for text, _ in self._owners(state, change)[:1]
        }
        errors = [state.error for state in self._bridges.values() if state.error]
        return {
            "connected": self.ready,
            "owned": sum(1 for state in self._bridges.values() for cookie in state.flows or () if is_ours(cookie)),
            "pending": sum(1 for state in self._bridges.values() if state.dirty or state.busy),
            "bridges": bridges,
            "failed": failed,
            "last_error": next(iter((*errors, *failed.values())), ""),
        }
