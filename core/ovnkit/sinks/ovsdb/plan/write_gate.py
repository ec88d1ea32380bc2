"""Failed transactions: find the owner whose change is to blame, let all others pass, try him again later."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field

from ovnkit.api.backoff import Backoff
from ovnkit.engine.refusals import Halving
from ovnkit.engine.sink import Owner

FIRST_DELAY, LAST_DELAY = 1.0, 60.0
"""Seconds before an owner's change is tried again; doubled each time."""
Later = Callable[[float, Callable[[], None]], object]
"""Run a function in the reconciler's thread after so many seconds."""


@define
class Refusal:
    """An owner whose change the server refused."""

    error: Exception
    backoff: Backoff = field(factory=lambda: Backoff(FIRST_DELAY, LAST_DELAY, jitter=0))
    blocked: bool = True
    generation: int = 0


class WriteGate:
    """Which owners may write now.

    A refused transaction is tried again in halves, by owner, in the order in which it was made, so that what
    a row needs has been written before it; an owner who fails alone is blocked for a while and then tried
    alone again.
    """

    def __init__(
        self, later: Later, report: Callable[[Owner, Exception], None], retry: Callable[[Owner], None]
    ) -> None:
        self.skipped = False
        """Whether the gate has kept an owner out only because others are being tried."""
        self._later = later
        self._report = report
        self._retry = retry
        self._refusals: dict[Owner, Refusal] = {}
        self._trials: Halving[Owner] = Halving()
        self._only: frozenset[Owner] | None = None

    def gate(self, owner: Owner) -> bool:
        """Whether changes of an owner may go into the batch in the making."""
        if self._only is not None and owner not in self._only:
            self.skipped = True
            return False
        if not self._refusals:
            return True
        refusal = self._refusals.get(owner)
        return refusal is None or not refusal.blocked

    @property
    def trying(self) -> bool:
        """Whether owners are being tried apart from each other."""
        return bool(self._trials) or self._only is not None

    def begin(self) -> None:
        """A batch is about to be made: the next trial, or everybody's."""
        self._only = frozenset(self._trials.next) if self._trials else None
        self.skipped = False

    def empty(self) -> None:
        """The batch came out empty."""
        if self._trials:
            self._trials.take()
        self._only = None

    def succeeded(self, owners: Sequence[Owner]) -> None:
        """The batch was accepted; a trial with more to do goes on with its next batch."""
        self._only = None
        for owner in owners:
            self._refusals.pop(owner, None)

    def failed(self, owners: Sequence[Owner], culprit: Owner | None, error: Exception) -> None:
        """The batch was refused; `culprit` is given when the server named the operation."""
        if self._trials:
            self._trials.take()
        self._only = None
        if culprit is not None or not self._trials.refused(owners):
            for owner in (culprit,) if culprit is not None else owners:
                self._blame(owner, error)

    def _blame(self, owner: Owner, error: Exception) -> None:
        refusal = self._refusals.get(owner)
        if refusal is None:
            refusal = self._refusals[owner] = Refusal(error)
        refusal.error, refusal.blocked = error, True
        refusal.generation += 1
        generation = refusal.generation
        self._report(owner, error)
        self._later(refusal.backoff.next(), lambda: self._again(owner, refusal, generation))

    def blame(self, owner: Owner, error: Exception) -> None:
        """An owner's change can't work for a reason the sink found out itself."""
        self._blame(owner, error)

    def _again(self, owner: Owner, refusal: Refusal, generation: int) -> None:
        if self._refusals.get(owner) is refusal and refusal.generation == generation:
            refusal.blocked = False
            self._trials.last((owner,))
            self._retry(owner)

    def pardon(self, owner: Owner) -> bool:
        """The owner wants something else: forget what was refused; returns whether anything was."""
        return self._refusals.pop(owner, None) is not None

    def reset(self) -> None:
        """The connection is new: nothing is being tried any more."""
        self._trials.clear()
        self._only = None

    @property
    def errors(self) -> dict[str, str]:
        """Owners that are blocked, and why."""
        return {str(owner): str(refusal.error) for owner, refusal in self._refusals.items() if refusal.blocked}
