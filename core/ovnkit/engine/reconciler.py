"""The reconciler: runs renderers when what they read has changed, and tells the sinks what should exist."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

import structlog
from attrs import define

from ovnkit.api.items import Absent, Item, Member, Row
from ovnkit.api.kinds import Changes, Kind, V, View
from ovnkit.api.live import LiveContent, LiveSet
from ovnkit.api.renderers import KeysOf, Renderer, Role
from ovnkit.engine.failures import OnEvent, RenderFailure, RenderFailures
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.leftovers import Leftovers
from ovnkit.engine.listeners import Listeners
from ovnkit.engine.live_sets import LiveSets
from ovnkit.engine.sink import AnySink, Owner
from ovnkit.engine.store import Change, Store
from ovnkit.engine.tasks import KeySet, Render, Task, need_listed
from ovnkit.engine.tracking import Computation, NotListed, TrackedWorld, Tracker, wall_clock

log = structlog.get_logger()

SLICE = 0.02
"""Seconds of rendering before sinks are flushed and the inbox gets a look in."""

ALL_ROLES = frozenset(Role)


@define(eq=False)
class _SinkState:
    sink: AnySink
    roles: frozenset[Role]
    settled: bool = False
    error: str = ""


class Reconciler:
    """Owns the observed world, the renders and the sinks. Everything runs in the inbox's thread.

    `on_event(kind, key, reason, message, warning)` is called when an object is to get an Event.
    """

    def __init__(
        self,
        inbox: Inbox,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = wall_clock,
        sinks: Sequence[AnySink] = (),
    ) -> None:
        self.inbox = inbox
        self.on_event: OnEvent = lambda *_: None
        self.renders_total: dict[tuple[str, str], int] = {}
        self.leftovers = Leftovers()
        self._store = Store()
        self._live = LiveSets(self._store)
        self._tracker = Tracker(self._store, self._wake, later=inbox.post_later, now=now)
        self.render_failures = RenderFailures(inbox, self._retry, lambda *args: self.on_event(*args))
        self._tasks: list[Task] = []
        self._by_kind: dict[Kind[View], list[Task]] = {}
        self._queue: deque[Computation] = deque()
        self._sinks: list[_SinkState] = []
        self._route: dict[type | tuple[type, str], AnySink] = {}
        self._waiting = 0
        self._listeners = Listeners()
        self._clock = clock
        for sink in sinks:
            self.add_sink(sink)
        inbox.work = self._work

    # -- set-up ---------------------------------------------------------------------------------------------

    def add_sink(self, sink: AnySink, roles: frozenset[Role] = ALL_ROLES) -> None:
        """A sink and the roles whose renderers write to it: its leftovers go once those have all run."""
        self._sinks.append(_SinkState(sink, roles))
        self.leftovers.retell()
        for item_type in sink.item_types:
            self._route[(item_type, sink.db) if sink.db else item_type] = sink

    def add_plugin(self, plugin: str, renderers: Iterable[Renderer]) -> None:
        """The renderers of a plugin; they run once their role is active."""
        for renderer in renderers:
            task = Task(plugin, renderer)
            self._tasks.append(task)
            if task.kind is not None:
                self._by_kind.setdefault(task.kind, []).append(task)

    def activate(self, roles: Iterable[Role]) -> None:
        """This process now acts in these roles (at start, or when it has become leader)."""
        roles = frozenset(roles)
        for task in self._tasks:
            if task.active or task.renderer.role not in roles:
                continue
            task.active = True
            if task.renderer.each is None:
                self._add_render(task, "")
            elif task.kind is None:
                self._add_keys(task, "")
            else:
                for key in self._store.select(task.kind, "", ""):
                    self._add(task, key)

    # -- what is observed -----------------------------------------------------------------------------------

    def observe(self, kind: Kind[View], changes: Changes) -> None:
        """Objects came, changed (their new view) or went (None)."""
        for key, view in changes:
            change = self._store.put(kind, key, view)
            if change is not None:
                self._changed(change)

    def _changed(self, change: Change) -> None:
        kind, key = change.kind, change.key
        self._live.changed(change)
        self._tracker.changed(change)
        for task in self._by_kind.get(kind, ()):
            if change.new is None:
                self._remove(task, key)
            elif change.old is None and task.active:
                self._add(task, key)
        for state in self._sinks:
            state.sink.observed_changed(kind, key)
        self._listeners.tell(kind, key, change.new)

    def listed(self, kind: Kind[View]) -> None:
        """Everything of this kind has been observed once."""
        if not self._store.is_listed(kind):
            self._store.mark_listed(kind)
            self._tracker.touch((kind, "listed"))

    def get(self, kind: Kind[V], key: str) -> V | None:
        """The view as last observed; safe from any thread."""
        return self._store.get(kind, key)

    def select(self, kind: Kind[V], index: str = "", value: str = "") -> Mapping[str, V]:
        """The views of a kind, or of a bucket of one of its indexes, by key as they are now; from any thread."""
        return dict(self._store.select(kind, index, value))

    def subscribe(self, kind: Kind[V], key: str, callback: Callable[[V | None], None]) -> Callable[[], None]:
        """Call back (in the reconciler's thread) with each new view of one object; returns how to end it."""
        return self._listeners.add(kind, key, callback)

    def live(self, spec: LiveSet) -> LiveContent:
        """The content of a live set, for sinks."""
        return self._live.content(spec)

    # -- work -----------------------------------------------------------------------------------------------

    def _wake(self, computation: Computation) -> None:
        computation.dirty = True
        self._queue.append(computation)

    def _retry(self, owner: Owner) -> None:
        """Run one owner's computation again (a timer of the failures has run out)."""
        for task in self._tasks:
            found = task.computation(owner)
            if found is not None and not found.dirty:
                self._wake(found)

    def _add(self, task: Task, key: str) -> None:
        """An object of the task's kind has come."""
        if isinstance(task.renderer.each, KeysOf):
            self._add_keys(task, key)
        else:
            self._add_render(task, key)

    def _remove(self, task: Task, key: str) -> None:
        """An object of the task's kind is gone."""
        key_set = task.key_sets.pop(key, None)
        if key_set is None:
            self._remove_render(task, key)
            return
        key_set.gone = True
        self._listed_keys(key_set)
        self._tracker.forget(key_set)
        self.leftovers.known(key_set.owner)
        self.render_failures.forget(key_set.owner)
        self._replace_keys(key_set, frozenset())

    def _add_keys(self, task: Task, key: str) -> None:
        key_set = task.key_sets[key] = KeySet(task, key)
        task.unlisted += 1
        self._wake(key_set)

    def _replace_keys(self, key_set: KeySet, keys: frozenset[str]) -> None:
        gone, fresh = key_set.task.replace(key_set, keys)
        for key in gone:
            self._remove_render(key_set.task, key)
        for key in fresh:
            self._add_render(key_set.task, key)

    def _add_render(self, task: Task, key: str) -> None:
        if key not in task.renders:
            render = task.renders[key] = Render(Owner(task.plugin, task.renderer.name, key), task.renderer)
            self._waiting += 1
            self._wake(render)

    def _remove_render(self, task: Task, key: str) -> None:
        render = task.renders.pop(key, None)
        if render is None:
            return
        if not render.done:
            self._waiting -= 1
        render.gone = True
        self.leftovers.known(render.owner)
        self._tracker.forget(render)
        self._tell_sinks(render, {})
        self.render_failures.forget(render.owner)

    def _work(self) -> bool:
        """One slice of work, called by the inbox after each batch; whether more is left."""
        deadline = self._clock() + SLICE
        queue = self._queue
        self._tracker.refresh_cells()
        while queue and self._clock() < deadline:
            computation = queue.popleft()
            if isinstance(computation, Render):
                self._render(computation)
            elif isinstance(computation, KeySet):
                self._list_keys(computation)
            self._tracker.refresh_cells()
        if not queue:
            self._tracker.serve_waiting()
        self._live.flush()
        self.leftovers.tell(state.sink for state in self._sinks)
        for state in self._sinks:
            try:
                if not queue:
                    self._settle(state)
                state.sink.flush()
                state.error = ""
            except Exception as error:  # of one sink: the others go on
                if state.error != repr(error):
                    log.exception("a sink failed", sink=state.sink.name)
                state.error = repr(error)
        return bool(queue)

    def _settle(self, state: _SinkState) -> None:
        if state.settled or self._waiting or not state.sink.ready:
            return
        tasks = [task for task in self._tasks if task.renderer.role in state.roles]
        if all(task.active and self._rendered(task) for task in tasks):
            state.settled = True
            state.sink.settle()

    @property
    def _settled(self) -> bool:
        """No sink has leftovers any more, other than those that stay."""
        return all(state.settled for state in self._sinks)

    def _rendered(self, task: Task) -> bool:
        return not task.unlisted and (task.kind is None or self._store.is_listed(task.kind))

    def _list_keys(self, key_set: KeySet) -> None:
        if key_set.gone:
            return
        if self.render_failures.is_quarantined(key_set.owner.plugin):
            key_set.dirty = False
            self.render_failures.hold(key_set.owner)
            return
        try:
            keys = self._tracker.run(key_set, key_set.list)
        except NotListed:
            return
        except Exception as error:
            if not key_set.done and not self._settled:
                self.leftovers.unknown(key_set.owner, key_set.path)
            self._listed_keys(key_set)
            self.render_failures.failed(key_set.owner, key_set.reports_on, error)
            return
        self._listed_keys(key_set)
        self.leftovers.known(key_set.owner)
        self.render_failures.succeeded(key_set.owner)
        self._replace_keys(key_set, keys)

    def _listed_keys(self, key_set: KeySet) -> None:
        if not key_set.done:
            key_set.done = True
            key_set.task.unlisted -= 1

    def _render(self, render: Render) -> None:
        owner, renderer = render.owner, render.renderer
        if render.gone:
            return
        if self.render_failures.is_quarantined(owner.plugin):
            render.dirty = False
            self.render_failures.hold(owner)
            return
        counter = (owner.plugin, owner.renderer)
        self.renders_total[counter] = self.renders_total.get(counter, 0) + 1
        try:
            wanted = self._tracker.run(render, lambda world: self._items(world, renderer, owner.key))
            self.render_failures.forget_refused(owner)  # before a sink has something to say
            failure = self._tell_sinks(render, wanted)
        except NotListed:
            return
        except Exception as error:
            failure = error
        if failure is not None:
            if not render.done and not self._settled:
                self.leftovers.unknown(owner)
            self._finished(render)
            self.render_failures.failed(owner, renderer.reports_on, failure)
            return
        self.render_failures.succeeded(owner)
        self._finished(render)
        self.leftovers.known(owner)

    def _tell_sinks(self, render: Render, wanted: Mapping[AnySink, Sequence[Item]]) -> Exception | None:
        """Tell the sinks what an owner wants. Returns an error of those that can't take it and keep what was."""
        failure: Exception | None = None
        for sink in dict.fromkeys((*render.sinks, *wanted)):
            try:
                sink.want(render.owner, wanted.get(sink, ()))
            except Exception as error:
                failure = failure or error
        render.sinks = tuple(dict.fromkeys((*render.sinks, *wanted))) if failure is not None else tuple(wanted)
        return failure

    def _finished(self, render: Render) -> None:
        if not render.done:
            render.done = True
            self._waiting -= 1

    def _items(self, world: TrackedWorld, renderer: Renderer, key: str) -> dict[AnySink, list[Item]]:
        """Render, and sort the items by the sink that takes them."""
        wanted: dict[AnySink, list[Item]] = {}
        route = self._route
        for item in renderer.render(world, key):
            database = item.db if isinstance(item, Row | Member | Absent) else ""
            try:
                sink = route[(type(item), database) if database else type(item)]
            except KeyError:
                where = f" of {database}" if database else ""
                raise TypeError(f"nothing here takes {type(item).__name__} items{where}") from None
            if type(item) is Row:
                need_listed(world, item)
            wanted.setdefault(sink, []).append(item)
        return wanted

    # -- state ----------------------------------------------------------------------------------------------

    def report(self, owner: Owner, error: Exception | None) -> None:
        """A sink could not apply what an owner wants (it keeps trying); None: what it had told is over."""
        renderer = self._renderer(owner)
        self.render_failures.refused(owner, renderer.reports_on if renderer is not None else None, error)

    def role_of(self, owner: Owner) -> Role | None:
        """The role in which an owner renders; None when there is no such renderer."""
        renderer = self._renderer(owner)
        return renderer.role if renderer is not None else None

    def _renderer(self, owner: Owner) -> Renderer | None:
        named = (
            task.renderer
            for task in self._tasks
            if task.plugin == owner.plugin and task.renderer.name == owner.renderer
        )
        return next(named, None)

    @property
    def rendered(self) -> bool:
        """Each active renderer has run once for each of its keys, and all sinks know what is there."""
        active = (task for task in self._tasks if task.active)
        ready = all(state.sink.ready for state in self._sinks)
        return ready and not self._waiting and all(self._rendered(task) for task in active)

    @property
    def synced(self) -> bool:
        """Everything has been rendered once, leftovers are gone and nothing is waiting to be applied."""
        return self.idle and self._settled

    @property
    def idle(self) -> bool:
        """Nothing to render and nothing to apply."""
        return not self._queue and all(state.sink.idle for state in self._sinks)

    def kinds(self) -> Mapping[str, int]:
        """How many objects of each kind are known."""
        return self._store.counts()

    def objects(self, kind: Kind[V]) -> Collection[V]:
        """All views of a kind (reconciler's thread)."""
        return list(self._store.select(kind, "", "").values())

    def pools(self) -> Mapping[str, Mapping[str, int]]:
        """Values handed out, by pool and scope."""
        return self._tracker.pools.usage()

    def unlisted(self, kinds: Collection[Kind[View]]) -> list[str]:
        """Names of the kinds among `kinds` that have not been listed yet."""
        return sorted(kind.name for kind in kinds if not self._store.is_listed(kind))

    def quarantined(self) -> Mapping[str, str]:
        """Plugins that are held back, and why."""
        return self.render_failures.quarantined

    def failures(self) -> Sequence[RenderFailure]:
        """What is wrong now, by owner."""
        return self.render_failures.current()
