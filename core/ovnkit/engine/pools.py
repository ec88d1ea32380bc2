"""Pools: values handed out once each, for as long as a render asks for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from ovnkit.api.errors import Exhausted, OvnkitError, Reject
from ovnkit.api.world import Derived, Pool, T, World

Token = tuple[Hashable, ...]
"""What a run that got nothing waits for: `(pool, scope)` any release, `(pool, scope, value)` that one value."""


@frozen
class Claim:
    """One value held by one owner."""

    pool: Pool[Hashable]
    scope: str
    owner: str
    value: Hashable


@define
class _Book:
    """Who holds what in one scope of a pool; `seeded` values are held since the start and not asked for yet."""

    holder: dict[Hashable, str] = field(factory=dict)
    owned: dict[str, list[Hashable]] = field(factory=dict)
    seeded: set[Hashable] = field(factory=set)
    cursor: int = 0
    taken: Callable[[], Mapping[str, Collection[Hashable]]] | None = None

    def hold(self, owner: str, value: Hashable) -> None:
        self.holder[value] = owner
        self.owned.setdefault(owner, []).append(value)

    def drop(self, value: Hashable) -> None:
        owner = self.holder.pop(value)
        values = self.owned[owner]
        values.remove(value)
        if not values:
            del self.owned[owner]


class Pools:
    """All pools. The state is rebuilt from the objects' annotations (`Pool.taken`), never stored here."""

    def __init__(self) -> None:
        self._books: dict[tuple[Pool[Hashable], str], _Book] = {}
        self._seeded: dict[tuple[Pool[Hashable], str], _Book] = {}
        """Those with values that nobody has claimed yet; looked at after each piece of work, unlike the others."""
        self._candidates: dict[Pool[Hashable], Derived[Any, Any]] = {}

    def candidates(self, pool: Pool[Hashable]) -> Derived[Any, Any]:
        """The derived function that gives a scope's candidates as a sequence."""
        function = self._candidates.get(pool)
        if function is None:

            def evaluate(world: World, scope: str) -> Sequence[Hashable]:
                return _sequence(pool.candidates(world, scope))

            function = self._candidates[pool] = Derived(evaluate)
        return function

    def prepare(
        self, pool: Pool[Hashable], scope: str, taken: Callable[[], Mapping[str, Collection[Hashable]]]
    ) -> None:
        """Before the first claim in a scope: reserve what objects already hold. First come keeps a double one."""
        if (pool, scope) in self._books:
            return
        book = _Book(taken=taken)
        for owner, values in taken().items():
            for value in values:
                if value not in book.holder:
                    book.hold(owner, value)
                    book.seeded.add(value)
        self._books[pool, scope] = book
        if book.seeded:
            self._seeded[pool, scope] = book

    def claim(
        self, pool: Pool[Hashable], scope: str, owner: str, wanted: Hashable | None, candidates: Sequence[Hashable]
    ) -> tuple[Claim | OvnkitError, Token | None]:
        """A claim, or the error to raise and the token whose touch makes another try worthwhile."""
        book = self._books[pool, scope]
        where = f" in {scope}" if scope else ""
        if wanted is not None:
            if wanted not in candidates:
                return Reject(f"{pool.what} {wanted} can't be used{where}", reason="OutsideOfPool"), None
            holder = book.holder.get(wanted)
            if holder is not None and holder != owner:
                message = f"{pool.what} {wanted} is in use by {holder}"
                return Reject(message, reason="AlreadyInUse"), (pool, scope, wanted)
            value = wanted
        else:
            value = next((held for held in book.owned.get(owner, ()) if held in candidates), None)
            if value is None:
                value = _next_free(book, candidates)
            if value is None:
                return Exhausted(f"no {pool.what} left{where}"), (pool, scope)
        if value not in book.holder:
            book.hold(owner, value)
        book.seeded.discard(value)
        return Claim(pool, scope, owner, value), None

    def release(self, claim: Claim) -> bool:
        """A render no longer asks for this value; whether that made it free."""
        book = self._books[claim.pool, claim.scope]
        if book.holder.get(claim.value) != claim.owner:
            return False
        book.drop(claim.value)
        return True

    def free(self, pool: Pool[Hashable], scope: str, candidates: Sequence[Hashable]) -> int:
        """How many values could be handed out."""
        book = self._books[pool, scope]
        return len(candidates) - sum(value in candidates for value in book.holder)

    def drop_unclaimed(self) -> list[Token]:
        """Give back what was reserved at the start and is neither claimed nor still held by an object.

        Returns the tokens `(pool, scope, value)` of the values that are free now.
        """
        tokens: list[Token] = []
        for (pool, scope), book in list(self._seeded.items()):
            if not book.seeded or book.taken is None:
                del self._seeded[pool, scope]
                continue
            still_held = book.taken()
            for value in [value for value in book.seeded if value not in still_held.get(book.holder[value], ())]:
                book.seeded.discard(value)
                book.drop(value)
                tokens.append((pool, scope, value))
        return tokens

    def usage(self) -> dict[str, dict[str, int]]:
        """Values in use by pool name and scope, for metrics."""
        counts: dict[str, dict[str, int]] = {}
        for (pool, scope), book in list(self._books.items()):
            counts.setdefault(pool.name, {})[scope] = len(book.holder)
        return counts


def _next_free(book: _Book, candidates: Sequence[Hashable]) -> Hashable | None:
    """The next free candidate after the one handed out last, wrapping: a freed value rests before it is reused."""
    count = len(candidates)
    if len(book.holder) >= count and all(value in book.holder for value in candidates):
        return None
    for step in range(count):
        position = (book.cursor + step) % count
        value = candidates[position]
        if value not in book.holder:
            book.cursor = position + 1
            return value
    return None


def _sequence(values: Iterable[T]) -> Sequence[T]:
    return values if isinstance(values, Sequence) else tuple(values)
