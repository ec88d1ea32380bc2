"""The Kubernetes sink: annotations, labels, finalizers, status and conditions as renderers want them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from ovnkit.api.errors import Reject
from ovnkit.api.items import Annotation, Condition, Event, Finalizer, KubeItem, Label, Status
from ovnkit.api.kinds import Kind, Raw, View
from ovnkit.api.models import ObjectView, is_object_kind
from ovnkit.engine.sink import Owner, Report, Sink
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.errors import ServerFailed, ServerUnavailable, Unauthorized
from ovnkit.sinks.kube.events import EventRecorder
from ovnkit.sinks.kube.fields import FIELD_MANAGER, IN_STATUS, Field, version
from ovnkit.sinks.kube.patch_target import PatchTarget
from ovnkit.sinks.kube.patcher import Outcome, PatchCounters, Patcher, timestamp
from ovnkit.sinks.kube.plan import Plan, fields_of, make_plan
from ovnkit.sinks.kube.statuses import KnownStatus
from ovnkit.sinks.kube.watch import Post
from ovnkit.sinks.kube.work import Pacer, Workers

log = structlog.get_logger()

WRITERS = 32
"""Connections that write at the same time. The server's pace, not this number, is the limit."""

_REFUSED_RETRY, _OUTAGE_RETRY = 60.0, 5.0
"""Longest waits in seconds before an object is tried again that was refused, or that met an outage."""

_OUTAGE = (ServerUnavailable, Unauthorized)

_PATIENCE = 3
"""Failures of the server over one object before it is reported: most are over the next time."""

ObjectKey = tuple[Kind[ObjectView], str]


class KubeSink(Sink[KubeItem]):
    """Brings Kubernetes objects to what the items say, one request in flight per object.

    What is there comes from `observed(kind, key)`, the views of the world. The kernel calls
    `observed_changed(kind, key)` when a view changed, so that edits from outside are put right, and gives
    `tap` to the watchers, which tells the sink of changes that views don't show (status, and our own writes).
    `post` and `post_later` run a function in the reconciler's thread. `status_kinds` are kinds whose status is
    remembered from the start; others are read when first needed. `manager` names the field manager of an owner.
    """

    name = "kube"
    item_types: tuple[type, ...] = (Annotation, Label, Finalizer, Status, Condition, Event)

    def __init__(
        self,
        client: Client,
        *,
        observed: Callable[[Kind[ObjectView], str], ObjectView | None],
        post: Post,
        post_later: Callable[[float, Callable[[], None]], Any],
        report: Report,
        recorder: EventRecorder | None = None,
        status_kinds: Collection[Kind[ObjectView]] = (),
        manager: Callable[[Owner], str] = lambda _: FIELD_MANAGER,
        writers: int = WRITERS,
    ) -> None:
        self.events = recorder or EventRecorder(client)
        self.last_error = ""
        self.reported = 0
        self._last: Exception | None = None
        self._observed = observed
        self._post = post
        self._post_later = post_later
        self._report = report
        self._manager = manager
        self._pacer = Pacer()
        self._patcher = Patcher(client, self._pacer)
        self._workers = Workers(writers, "kube-writer")
        self._status_kinds = set(status_kinds)
        self._statuses: dict[ObjectKey, KnownStatus] = {}
        self._targets: dict[ObjectKey, PatchTarget] = {}
        self._owned: dict[Owner, dict[ObjectKey, dict[Field, Any]]] = {}
        self._posted: dict[Owner, frozenset[Event]] = {}
        self._dirty: dict[ObjectKey, None] = {}
        self._held_back: set[ObjectKey] = set()
        self._in_flight = 0
        self._fields = 0

    # -- what the kernel calls ----------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[KubeItem]) -> None:
        """From now on `owner` wants exactly `items`."""
        wanted: dict[ObjectKey, dict[Field, Any]] = {}
        events: set[Event] = set()
        for item in items:
            try:
                _ = item.kind.resource
                if isinstance(item, Event):
                    events.add(item)
                else:
                    wanted.setdefault((item.kind, item.object), {}).update(fields_of(item))
            except TypeError as error:  # not an object of the API, or nothing JSON can hold: a plugin's bug
                self._tell(owner, error)
        self._post_events(owner, events)
        before = self._owned.pop(owner, {})
        if wanted:
            self._owned[owner] = wanted
        for name in before.keys() | wanted.keys():
            old, new = before.get(name, {}), wanted.get(name, {})
            if old != new:
                self._change(name, owner, old, new)

    def flush(self) -> None:
        """Start writing what differs."""
        dirty, self._dirty = self._dirty, {}
        for name in dirty:
            self._dispatch(name)

    def settle(self) -> None:
        """Nothing to do: leftovers are the business of `ovnkit.sinks.kube.leftovers`."""

    def wants(self, name: ObjectKey, path: Field) -> bool:
        """Whether somebody wants a value in a field of an object."""
        target = self._targets.get(name)
        return target is not None and target.resolved.get(path) is not None

    @property
    def owned(self) -> int:
        """How many fields are wanted."""
        return self._fields

    def run(self, task: Callable[[], None]) -> None:
        """Run a task in a writer's thread."""
        self._workers.put(task)

    def carry_out(self, plan: Plan) -> Outcome:
        """Carry out a plan that isn't the sink's own; in a writer's thread."""
        return self._patcher.run(plan)

    def observed_changed(self, kind: Kind[View], key: str) -> None:
        """The view of an object changed, appeared or vanished: compare again with the next flush."""
        if not is_object_kind(kind):
            return
        target = self._targets.get((kind, key))
        if target is not None:
            target.parked = ""
            self._dirty[(kind, key)] = None

    def tap(self, kind: Kind[ObjectView], changes: Iterable[tuple[str, Raw | None]]) -> None:
        """Look at raw objects; called in the watch threads, after their views have been posted."""
        keep = kind in self._status_kinds
        for key, raw in changes:
            name = (kind, key)
            if raw is None:
                self._statuses.pop(name, None)
                continue
            moved = False
            if keep:
                before, now = self._statuses.get(name), KnownStatus.of(raw)
                if now.newer_than(before):
                    self._statuses[name] = now
                    moved = before is None or before.content != now.content
            target = self._targets.get(name)
            if target is not None and (moved or target.overlay):
                self._post(partial(self._seen, name, raw["metadata"].get("resourceVersion", "")))

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be written, in flight, or held back by an error."""
        return not (self._dirty or self._in_flight or self._held_back)

    @property
    def ready(self) -> bool:
        """What is there is the world's to load, so the sink itself is always ready."""
        return True

    @property
    def counters(self) -> PatchCounters:
        """Requests made so far, for metrics."""
        return self._patcher.counters

    def status(self) -> dict[str, Any]:
        """State for `ovnkit status` and metrics."""
        counters = self._patcher.counters
        return {
            "connected": not isinstance(self._last, ServerUnavailable),
            "owned": self.owned,
            "pending": len(self._dirty),
            "in_flight": self._in_flight,
            "held_back": len(self._held_back),
            "throttled": self._pacer.held,
            "last_error": self.last_error,
            "patches": counters.patches,
            "status_patches": counters.status_patches,
            "reads": counters.reads,
            "conflicts": counters.conflicts,
            "throttles": counters.throttled,
            "unavailable": counters.unavailable,
            "reported": self.reported,
        }

    def stop(self, timeout: float = 5.0) -> None:
        """Finish what is queued, for up to `timeout` seconds, and end the threads."""
        self._workers.stop(timeout)
        self._pacer.stop()
        self.events.stop(timeout)

    # -- items --------------------------------------------------------------------------------------------

    def _post_events(self, owner: Owner, events: set[Event]) -> None:
        before = self._posted.pop(owner, frozenset())
        if events:
            self._posted[owner] = frozenset(events)
        for event in sorted(events - before, key=lambda event: (event.reason, event.message)):
            view = self._observed(event.kind, event.object)
            if view is not None:
                how = {"warning": event.warning, "again": event.again}
                self.events.record(event.kind, view, event.reason, event.message, **how)

    def _change(self, name: ObjectKey, owner: Owner, old: Mapping[Field, Any], new: Mapping[Field, Any]) -> None:
        target = self._targets.get(name)
        if target is None:
            target = self._targets[name] = PatchTarget()
        self._fields -= len(target.wanted)
        for path in old.keys() - new.keys():
            target.drop(owner, path)
        for path, value in new.items():
            if path[0] in IN_STATUS:
                self._status_kinds.add(name[0])
            for loser in target.add(owner, path, value):
                self._tell(loser, Reject(f"{'/'.join(path)} of {name[1]} is wanted with different values"))
        self._fields += len(target.wanted)
        target.parked = ""
        target.retry_now()
        self._dirty[name] = None

    # -- one object ---------------------------------------------------------------------------------------

    def _dispatch(self, name: ObjectKey) -> None:
        """Hand the object to a writer if it differs from what is wanted and no writer has it."""
        target = self._targets.get(name)
        if target is None:
            return
        if target.in_flight:
            target.again = True
            return
        kind, key = name
        view = self._observed(kind, key)
        if view is None:
            target.forget()
            self._held_back.discard(name)
            self._statuses.pop(name, None)
            if not target.wanted:
                del self._targets[name]
            return
        if target.parked == view.uid or target.not_before > time.monotonic():
            return
        target.observe(view)
        plan = make_plan(
            kind.resource,
            view,
            target.resolved,
            target.leaving,
            target.overlay,
            self._known(name, view),
            now=timestamp,
            manager=lambda path: self._manager(target.winner(path)),
        )
        if plan is None:
            self._settled(name, target)
            return
        target.in_flight = True
        self._in_flight += 1
        self._workers.put(partial(self._write, name, target, plan))

    def _known(self, name: ObjectKey, view: ObjectView) -> KnownStatus | None:
        """What is known of the status, unless the object has changed since."""
        known = self._statuses.get(name)
        if known is None or known.uid != view.uid:
            return None
        if known.resource_version == view.resource_version:
            return known
        return known if version(known.resource_version) > version(view.resource_version) else None

    def _settled(self, name: ObjectKey, target: PatchTarget) -> None:
        """The object is as wanted, as far as its view shows."""
        self._succeeded(name, target)
        target.left()
        if not target.wanted and not target.overlay:
            del self._targets[name]

    def _succeeded(self, name: ObjectKey, target: PatchTarget) -> None:
        for owner in {owner for path in target.told_of for owner in target.owners(path)}:
            self._report(owner, None)
        target.succeeded()
        self._held_back.discard(name)

    def _write(self, name: ObjectKey, target: PatchTarget, plan: Plan) -> None:
        """In a writer's thread."""
        outcome = self._patcher.run(plan)
        self._post(partial(self._done, name, target, plan, outcome))

    def _done(self, name: ObjectKey, target: PatchTarget, plan: Plan, outcome: Outcome) -> None:
        target.in_flight = False
        self._in_flight -= 1
        if outcome.gone:
            # the watch will tell; should it be there after all, its next change brings us back
            target.parked = plan.uid
            self._succeeded(name, target)
        else:
            self._learn(name, target, plan, outcome)
        again, target.again = target.again, False
        if again:
            self._dispatch(name)
        elif not (outcome.gone or outcome.errors or name in self._dirty):
            self._settled(name, target)

    def _learn(self, name: ObjectKey, target: PatchTarget, plan: Plan, outcome: Outcome) -> None:
        done = {path: value for path, value in plan.metadata_fields if path not in outcome.errors}
        if outcome.resource_version:
            target.wrote(done, outcome.resource_version)
        if outcome.status is not None:
            target.wrote_status(plan.wanted)
            if outcome.status.newer_than(self._statuses.get(name)):
                self._statuses[name] = outcome.status
        if not outcome.errors:
            self._last = None
            self._succeeded(name, target)
            return
        for path, error in outcome.errors.items():
            self._failed(name, target, path, error)
        outage = all(isinstance(error, _OUTAGE) for error in outcome.errors.values())
        self._held_back.add(name)
        delay = target.hold_back(_OUTAGE_RETRY if outage else _REFUSED_RETRY)
        self._post_later(delay, partial(self._dispatch, name))

    def _failed(self, name: ObjectKey, target: PatchTarget, path: Field, error: Exception) -> None:
        self._last, self.last_error = error, str(error)
        if isinstance(error, _OUTAGE):
            return  # not the object's fault
        if isinstance(error, ServerFailed) and target.failures < _PATIENCE:
            return
        if target.is_news(path, str(error)):
            log.warning("write refused", kind=name[0].name, object=name[1], error=str(error))
            for owner in target.owners(path):
                self._tell(owner, error)

    def _tell(self, owner: Owner, error: Exception) -> None:
        self.reported += 1
        self._report(owner, error)

    def _seen(self, name: ObjectKey, resource_version: str) -> None:
        """A watcher saw this version of an object, whose view (if it changed) is in the world by now."""
        target = self._targets.get(name)
        if target is not None:
            target.seen(resource_version)
            self._dispatch(name)
