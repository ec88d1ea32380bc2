"""A bench for renderers: the real reconciler on an invented world, with sinks that only remember.

    bench = Bench(TopologyPlugin(), scope=zone("n1"))
    bench.put(NODES, node("n1", annotations={...}))
    assert bench.row("Logical_Switch", "n1")["other_config"] == {...}

Annotations and labels that renderers want are applied to the objects, as the API server would. With `connect`
rows go to a real database as well, and kinds come from its tables: `Bench(..., connect={"nb": "unix:/path"})`;
call `stop()` at the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.host import ADDRESSES, LINKS, ROUTES
from ovnkit.api.items import NOW, Annotation, Event, Label, Member, Row
from ovnkit.api.kinds import Kind, View
from ovnkit.api.live import LiveContent, LiveSet
from ovnkit.api.matches import Match
from ovnkit.api.renderers import Role
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.sink import AnySink
from ovnkit.process.watches import tables_of
from ovnkit.process.wiring import Wiring
from ovnkit.testing.doubles import DoubleEdges, MemorySink, OnlyThese, RecordingSink, check_enabled

DEADLINE = 30.0
"""Seconds until everything must be in the databases."""

START = datetime(2030, 1, 1, tzinfo=UTC)
"""When it is, for renderers that wait for a moment, until `Bench.sleep`."""

ROUNDS = 100
"""Rounds of rendering and applying after which a bench says that it never comes to rest."""


def _memory(sink: AnySink) -> MemorySink:
    """Where a sink remembers."""
    found = sink.memory if isinstance(sink, RecordingSink) else sink
    assert isinstance(found, MemorySink)
    return found


def scope(*roles: Role, node: str = "", zone: str = "", per_node_zones: bool = True) -> Scope:
    """Where the tested process runs; without a zone it is the node, or `global` in a central layout."""
    return Scope(frozenset(roles), node, zone or (node if per_node_zones else "global"), per_node_zones)


class Bench:
    """One plugin, or several, on a reconciler; see the module's text."""

    def __init__(
        self,
        *plugins: object,
        scope: Scope,
        config: Config | None = None,
        listed: Iterable[Kind[View]] = (),
        names: Sequence[str] = (),
        connect: Mapping[str, str] | None = None,
    ) -> None:
        self._slept = 0.0
        names = names or [type(plugin).__module__.split(".")[0].removeprefix("ovnkit_") for plugin in plugins]
        self.plugins = OnlyThese(dict(zip(names, plugins, strict=True)))
        self.plugins.configure(config or Config())
        self._rejects: list[tuple[str, str, str]] = []
        self._wiring = wiring = Wiring(
            config or Config(),
            scope,
            self.plugins,
            DoubleEdges(connect, RecordingSink),
            inbox=Inbox(clock=lambda: time.monotonic() + self._slept),
            now=self.now,
        )
        self.inbox, self.reconciler = wiring.inbox, wiring.reconciler
        self.reconciler.on_event = lambda _kind, key, reason, message, _warning: self._rejects.append(
            (key, reason, message)
        )
        self.kube, self.answers = _memory(wiring.kube), _memory(wiring.answers)
        self.node = {sink.name: _memory(sink) for sink in wiring.node}
        """The sinks of the node by name."""
        made = {db: database.sink for db, database in wiring.databases.databases.items()}
        self.sinks = {db: sink for db, sink in made.items() if isinstance(sink, RecordingSink)}
        """The sinks of the real databases."""
        self.databases = {db: _memory(sink) for db, sink in made.items()}
        """What is wanted in each database."""
        wiring.databases.start()
        if not self.inbox.run_until(lambda: wiring.rendering, DEADLINE):
            raise TimeoutError(f"no answer from the databases {wiring.databases.waiting}")
        check_enabled(self.plugins, names)
        kinds: set[Kind[View]] = {LINKS, ADDRESSES, ROUTES, *listed, *wiring.kinds.values()}
        fed = {kind for db in self.sinks for kind in tables_of(kinds, db)}
        for kind in kinds - fed:
            self.reconciler.listed(kind)
        wiring.activate(scope.roles)
        if not self.sinks:
            self.settle()

    # -- the world ----------------------------------------------------------------------------------------

    def put(self, kind: Kind[View], *views: View) -> None:
        """Objects came or changed."""
        self.reconciler.observe(kind, [(view.key, view) for view in views])
        self.settle()

    def drop(self, kind: Kind[View], *keys: str) -> None:
        """Objects are gone."""
        self.reconciler.observe(kind, [(key, None) for key in keys])
        self.settle()

    def get(self, kind: Kind[View], key: str) -> Any:
        """An object as it is now."""
        return self.reconciler.get(kind, key)

    def annotate(self, kind: Kind[View], key: str, annotations: Mapping[str, str | None]) -> None:
        """Somebody edits an object's annotations."""
        view = self.get(kind, key)
        merged = {**view.annotations, **annotations}
        view = evolve(view, annotations={name: value for name, value in merged.items() if value is not None})
        self.put(kind, view)

    def sleep(self, seconds: float) -> None:
        """Time passes for those who wait for a moment."""
        self._slept += seconds
        turned: list[bool] = []
        self.inbox.post(lambda: turned.append(True))
        self.inbox.run_until(lambda: bool(turned), DEADLINE)
        self.settle()

    def now(self) -> datetime:
        """The time that renderers go by."""
        return START + timedelta(seconds=self._slept)

    def settle(self) -> None:
        """Render and apply until nothing is left to do."""
        for _ in range(ROUNDS):
            while self.reconciler._work():
                pass
            if self.sinks and not self.inbox.run_until(lambda: self.reconciler.synced, DEADLINE):
                raise AssertionError(f"not applied: {[sink.status() for sink in self.sinks.values()]}")
            if not self._apply():
                return
        raise AssertionError("the renderers never come to rest")

    def stop(self) -> None:
        """Leave the databases."""
        self._wiring.databases.stop()

    def _apply(self) -> bool:
        changed = False
        for item in self.kube.items:
            if not isinstance(item, Annotation | Label):
                continue
            view = self.get(item.kind, item.object)
            field = "annotations" if isinstance(item, Annotation) else "labels"
            if view is None:
                continue
            actual = getattr(view, field).get(item.name)
            value = (actual or self.now().strftime("%Y-%m-%dT%H:%M:%SZ")) if item.value is NOW else item.value
            if actual == value:
                continue
            values = {**getattr(view, field), item.name: value}
            values = {name: value for name, value in values.items() if value is not None}
            self.reconciler.observe(item.kind, [(item.object, evolve(view, **{field: values}))])
            changed = True
        return changed

    # -- what is wanted -----------------------------------------------------------------------------------

    @property
    def events(self) -> list[tuple[str, str, str]]:
        """Events so far: (object, reason, message)."""
        wanted = [item for item in self.kube.items if isinstance(item, Event)]
        return self._rejects + [(item.object, item.reason, item.message) for item in wanted]

    @property
    def failures(self) -> dict[str, str]:
        """What is wrong now: message by owner path."""
        return {str(failure.owner): failure.message for failure in self.reconciler.failures()}

    def rows(self, table: str, db: str = "nb") -> dict[str, Mapping[str, Any]]:
        """The columns of all wanted rows of a table by their name column (else by the owner's and the row's name).

        A live set is given as the frozenset of its values, a match as its text.
        """
        found: dict[str, Mapping[str, Any]] = {}
        for owner, items in self.databases[db].wanted.items():
            for item in items:
                if isinstance(item, Row) and item.table == table:
                    columns = {name: self._value(value) for name, value in item.columns.items()}
                    key = columns.get("name") or f"{owner}/{item.name}"
                    assert key not in found, f"two rows of {table} are named {key}"
                    found[str(key)] = columns
        return found

    def row(self, table: str, name: str, db: str = "nb") -> Mapping[str, Any]:
        """The columns of one wanted row."""
        return self.rows(table, db)[name]

    def members(self, db: str = "nb") -> dict[tuple[str, str | None], Any]:
        """Wanted members by column and key (None for a set)."""
        wanted = [item for item in self.databases[db].items if isinstance(item, Member)]
        return {(item.slot.column, item.key): item.value for item in wanted}

    def _value(self, value: object) -> Any:
        if isinstance(value, Match):
            return value.text
        if not isinstance(value, LiveSet):
            return value
        content: LiveContent = self.reconciler.live(value)
        return frozenset(content.values)
