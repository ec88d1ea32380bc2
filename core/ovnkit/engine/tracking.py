"""Dependency tracking: who read what, and what has to run again when it changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable
from datetime import UTC, datetime
from typing import Any, cast

from ovnkit.api.errors import OvnkitError
from ovnkit.api.kinds import Kind, V, View
from ovnkit.api.world import A, Derived, Pool, T
from ovnkit.engine.pools import Claim, Pools
from ovnkit.engine.store import Change, Store, moved

Dependency = Hashable
"""`(kind, key)`, `(kind, "list" or "keys", index, value)`, `(kind, "listed")`, a derived cell, a pool's token,
a moment."""

Later = Callable[[float, Callable[[], None]], object]
"""Runs a function in the reconciler's thread after seconds."""


def wall_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


class NotListed(OvnkitError):
    """A kind was read that has not been listed yet; the computation waits for it."""


class Computation:
    """Something that reads the world: a render, a set of keys, a derived value."""

    __slots__ = ("claims", "dirty", "reads", "running")

    def __init__(self) -> None:
        # tuples: there is one of each per pod, and sets of a few elements take 200 to 700 bytes
        self.reads: tuple[Dependency, ...] = ()
        self.claims: tuple[Claim, ...] = ()
        self.dirty = False
        self.running = False


class Cell(Computation):
    """A remembered value of a derived function."""

    __slots__ = ("arguments", "error", "function", "value")

    def __init__(self, function: Derived[Any, Any], arguments: tuple[object, ...]) -> None:
        super().__init__()
        self.function = function
        self.arguments = arguments
        self.value: Any = None
        self.error: Exception | None = None
        self.dirty = True


class Tracker:
    """The graph of reads. `wake` is called with each computation (not a cell) that has to run again.

    `later` and `now` are for those that wait for a moment.
    """

    def __init__(
        self,
        store: Store,
        wake: Callable[[Computation], None],
        *,
        later: Later,
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        self.store = store
        self.pools = Pools()
        self._wake = wake
        self._later = later
        self._now = now
        self._alarms: set[datetime] = set()
        # most have one reader, and there are several for each pod: a set takes 200 bytes
        self._readers: dict[Dependency, Computation | set[Computation]] = {}
        self._cells: dict[tuple[Derived[Any, Any], tuple[object, ...]], Cell] = {}
        self._dirty_cells: deque[Cell] = deque()
        self._freed: set[tuple[Any, ...]] = set()

    # -- running --------------------------------------------------------------------------------------------

    def run(self, computation: Computation, body: Callable[[TrackedWorld], T]) -> T:
        """Run `body` with a world that remembers its reads; they replace those of the last run.

        When the run fails the reads of both runs count, and nothing that was claimed is given back.
        """
        world = TrackedWorld(self)
        computation.running = True
        computation.dirty = False
        failed = True
        try:
            result = body(world)
            failed = False
            return result
        finally:
            computation.running = False
            reads, claims = world.reads, world.claims
            if failed:
                claims.update(computation.claims)
            self._replace_reads(computation, reads)
            self._replace_claims(computation, claims)

    def forget(self, computation: Computation) -> None:
        """The computation is gone: drop its reads and give back what it claimed."""
        self._replace_reads(computation, set())
        self._replace_claims(computation, set())

    def _replace_reads(self, computation: Computation, reads: set[Dependency]) -> None:
        before = set(computation.reads)
        if before != reads:
            for dependency in before - reads:
                self._unread(computation, dependency)
            for dependency in reads - before:
                self._read(computation, dependency)
            computation.reads = tuple(reads)

    def _read(self, computation: Computation, dependency: Dependency) -> None:
        readers = self._readers.get(dependency)
        if readers is None:
            self._readers[dependency] = computation
        elif isinstance(readers, set):
            readers.add(computation)
        else:
            self._readers[dependency] = {readers, computation}

    def _unread(self, computation: Computation, dependency: Dependency) -> None:
        readers = self._readers[dependency]
        if isinstance(readers, set):
            readers.discard(computation)
        if not readers or readers is computation:
            del self._readers[dependency]
            if isinstance(dependency, Cell):
                self._drop(dependency)

    def _readers_of(self, dependency: Dependency) -> Collection[Computation]:
        readers = self._readers.get(dependency)
        return readers if isinstance(readers, set) else () if readers is None else (readers,)

    def _replace_claims(self, computation: Computation, claims: set[Claim]) -> None:
        for claim in computation.claims:
            if claim not in claims and self.pools.release(claim):
                self._freed.add((claim.pool, claim.scope))
                self.touch((claim.pool, claim.scope, claim.value))
        computation.claims = tuple(claims)

    def sweep(self, reads: set[Dependency]) -> None:
        """Drop the cells among `reads` that nobody else reads."""
        for dependency in reads:
            if isinstance(dependency, Cell) and dependency not in self._readers:
                self._drop(dependency)

    def _drop(self, cell: Cell) -> None:
        self._cells.pop((cell.function, cell.arguments), None)
        self.forget(cell)

    def serve_waiting(self) -> None:
        """Wake as many of those that found a pool empty as it has free values now."""
        for token in self.pools.drop_unclaimed():
            self._freed.add(token[:2])
            self.touch(token)
        freed, self._freed = self._freed, set()
        for pool, scope in freed:
            waiting = [reader for reader in self._readers_of((pool, scope)) if not reader.dirty]
            if waiting:
                cell = self.derive(self.pools.candidates(pool), (scope,))
                free = 0 if cell.error else self.pools.free(pool, scope, cell.value)
                for reader in waiting[:free]:
                    reader.dirty = True
                    self._wake(reader)

    # -- changes --------------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Mark everything that read what this change touches."""
        kind = change.kind
        came_or_went = change.old is None or change.new is None
        self.touch((kind, change.key))
        self.touch((kind, "list", "", ""))
        if came_or_went:
            self.touch((kind, "keys", "", ""))
        for index in kind.indexes:
            touched, differing = moved(change, index)
            for value in touched:
                self.touch((kind, "list", index, value))
            for value in differing:
                self.touch((kind, "keys", index, value))

    def passed(self, moment: datetime) -> bool:
        """Whether a moment is over. If not, its readers are marked when it comes."""
        left = (moment - self._now()).total_seconds()
        if left > 0 and moment not in self._alarms:
            self._alarms.add(moment)
            self._later(left, lambda: self._moment_came(moment))
        return left <= 0

    def _moment_came(self, moment: datetime) -> None:
        self._alarms.discard(moment)
        self.touch(moment)

    def touch(self, dependency: Dependency) -> None:
        """Mark every reader of one dependency."""
        for computation in self._readers_of(dependency):
            if computation.running or computation.dirty:
                continue
            computation.dirty = True
            if isinstance(computation, Cell):
                self._dirty_cells.append(computation)
            else:
                self._wake(computation)

    def refresh_cells(self) -> None:
        """Compute the derived values that may have changed; readers wake only when a value did."""
        while self._dirty_cells:
            cell = self._dirty_cells.popleft()
            if cell.dirty and cell in self._readers:
                self._compute(cell)

    def _compute(self, cell: Cell) -> None:
        before, failure_before = cell.value, cell.error
        try:
            cell.value = self.run(cell, lambda world: cell.function.function(world, *cell.arguments))
            cell.error = None
        except Exception as error:  # a plugin's bug is remembered too, and raised to each reader
            cell.value, cell.error = None, error
        if cell.value != before or repr(cell.error) != repr(failure_before):
            self.touch(cell)

    def derive(self, function: Derived[Any, Any], arguments: tuple[object, ...]) -> Cell:
        """The up-to-date cell of a derived function."""
        cell = self._cells.get((function, arguments))
        if cell is None:
            cell = self._cells[function, arguments] = Cell(function, arguments)
        if cell.running:
            raise RuntimeError(f"derived function {function.function.__qualname__} depends on itself")
        if cell.dirty:
            self._compute(cell)
        return cell


class TrackedWorld:
    """The `World` of one run."""

    __slots__ = ("_tracker", "claims", "reads")

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.reads: set[Dependency] = set()
        self.claims: set[Claim] = set()

    def need(self, kind: Kind[View]) -> None:
        """Go on only when everything of this kind has been observed once."""
        if not self._tracker.store.is_listed(kind):
            self.reads.add((kind, "listed"))
            raise NotListed(f"{kind.name} not listed yet")

    def get(self, kind: Kind[V], key: str) -> V | None:
        """See `World.get`."""
        self.need(kind)
        self.reads.add((kind, key))
        return self._tracker.store.get(kind, key)

    def list(self, kind: Kind[V], index: str = "", value: str = "") -> Collection[V]:
        """See `World.list`."""
        self.need(kind)
        self.reads.add((kind, "list", index, value))
        return self._tracker.store.select(kind, index, value).values()

    def keys(self, kind: Kind[View], index: str = "", value: str = "") -> Collection[str]:
        """See `World.keys`."""
        self.need(kind)
        self.reads.add((kind, "keys", index, value))
        return self._tracker.store.select(kind, index, value).keys()

    def passed(self, moment: datetime) -> bool:
        """See `World.passed`."""
        over = self._tracker.passed(moment)
        if not over:
            self.reads.add(moment)
        return over

    def derive(self, function: Derived[Any, T], arguments: tuple[object, ...]) -> T:
        """See `World.derive`."""
        cell = self._tracker.derive(function, arguments)
        self.reads.add(cell)
        if cell.error is not None:
            raise cell.error
        value: T = cell.value
        return value

    def allocate(self, pool: Pool[A], scope: str, owner: str, wanted: A | None = None) -> A:
        """See `World.allocate`."""
        tracker = self._tracker
        candidates = self.derive(tracker.pools.candidates(pool), (scope,))
        tracker.pools.prepare(pool, scope, lambda: self._untracked(pool.taken, scope))
        claim, waits_for = tracker.pools.claim(pool, scope, owner, wanted, candidates)
        if waits_for is not None:
            self.reads.add(waits_for)
        if isinstance(claim, OvnkitError):
            raise claim
        self.claims.add(claim)
        value: Any = claim.value
        return cast(A, value)

    def _untracked(self, function: Callable[[TrackedWorld, str], T], scope: str) -> T:
        """The value now. Later changes of what it reads don't matter to this run, unless it can't be had yet."""
        scratch = TrackedWorld(self._tracker)
        try:
            return function(scratch, scope)
        except NotListed:
            self.reads |= scratch.reads
            raise
        finally:
            self._tracker.sweep(scratch.reads)
