"""What goes wrong in renders and sinks: Events, back-off, quarantine. One bad object stops nobody else."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from attrs import define, evolve, field, frozen

from ovnkit.api.backoff import doubled
from ovnkit.api.errors import Reject, Retry
from ovnkit.api.kinds import Kind, View
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.sink import Owner

log = structlog.get_logger()

FIRST_RETRY = 1.0
LAST_RETRY = 60.0
"""Back-off of a failing render in seconds, doubled each time (upstream's retry framework has the same bounds)."""

QUARANTINE_AFTER = 20
"""Failed renders of a plugin in a row, none good between them, that put it into quarantine."""

QUARANTINE_FOR = 300.0
"""Seconds until a plugin in quarantine gets another try."""

OnEvent = Callable[[Kind[View], str, str, str, bool], None]


@frozen
class RenderFailure:
    """One thing that is wrong now."""

    owner: Owner
    what: str
    """`failed` (an exception), `rejected` (a wrong object), `refused` (by a sink), `waiting` (not ready yet)."""
    message: str
    since: float = field(factory=time.time)
    """Seconds since the epoch."""


@define
class _State:
    failure: RenderFailure
    attempts: int = 0
    cancel: Callable[[], None] = field(default=lambda: None)


class RenderFailures:
    """Failures by owner. `retry(owner)` renders again; `on_event` puts an Event on the object concerned."""

    def __init__(self, inbox: Inbox, retry: Callable[[Owner], None], on_event: OnEvent) -> None:
        self._inbox = inbox
        self._retry = retry
        self._on_event = on_event
        self._states: dict[Owner, _State] = {}
        self._refused: dict[Owner, RenderFailure] = {}
        self._in_a_row: dict[str, int] = {}
        self._held: dict[str, set[Owner]] = {}
        self.quarantined: dict[str, str] = {}
        self.failures_total: dict[tuple[str, str, str], int] = {}

    def failed(self, owner: Owner, kind: Kind[View] | None, error: Exception) -> None:
        """A render raised; it keeps what it wanted before."""
        if isinstance(error, Reject):
            self._note(owner, kind, "rejected", error.reason, error.message)
        elif isinstance(error, Retry):
            self._wait(owner, error)
        else:
            self._bug(owner, kind, error)

    def refused(self, owner: Owner, kind: Kind[View] | None, error: Exception | None) -> None:
        """A sink could not apply what the owner wants; None: it could, after all."""
        if error is None:
            former = self._refused.pop(owner, None)
            if former is not None:
                log.info("recovered", **_fields(owner, kind), after=former.message)
            return
        message = str(error)
        before = self._refused.get(owner)
        if before is not None and before.message == message:
            return
        since = {"since": before.since} if before is not None else {}
        self._refused[owner] = RenderFailure(owner, "refused", message, **since)
        self._count(owner, "refused")
        log.warning("items could not be applied", **_fields(owner, kind), error=message)
        self._tell(owner, kind, "ErrorApplying", f"plugin {owner.plugin}: {message}")

    def succeeded(self, owner: Owner) -> None:
        """A render ran through."""
        if self._in_a_row:
            self._in_a_row.pop(owner.plugin, None)
        if not self._states:
            return
        state = self._states.pop(owner, None)
        if state is not None:
            state.cancel()
            if state.failure.what != "waiting":
                log.info("recovered", **_fields(owner, None), after=state.failure.message)

    def forget_refused(self, owner: Owner) -> None:
        """What sinks had refused of an owner's items is not what it wants now."""
        self._refused.pop(owner, None)

    def forget(self, owner: Owner) -> None:
        """The owner is gone."""
        state = self._states.pop(owner, None)
        if state is not None:
            state.cancel()
        self._refused.pop(owner, None)

    def is_quarantined(self, plugin: str) -> bool:
        """Whether renders of this plugin are held back."""
        return plugin in self.quarantined

    def hold(self, owner: Owner) -> None:
        """Remember a render that came due in quarantine."""
        self._held.setdefault(owner.plugin, set()).add(owner)

    def current(self) -> Sequence[RenderFailure]:
        """Everything that is wrong now."""
        return [state.failure for state in self._states.values()] + list(self._refused.values())

    # -- kinds of failure -----------------------------------------------------------------------------------

    def _note(self, owner: Owner, kind: Kind[View] | None, what: str, reason: str, message: str) -> _State:
        """Record, and tell the object's author once per message."""
        before = self._states.get(owner)
        state = _State(RenderFailure(owner, what, message), before.attempts if before else 0)
        if before is not None:
            before.cancel()
            if before.failure.what == what:
                state.failure = evolve(state.failure, since=before.failure.since)
        self._states[owner] = state
        self._count(owner, what)
        if before is None or before.failure.message != message:
            log.warning("render " + what, **_fields(owner, kind), reason=reason, error=message)
            self._tell(owner, kind, reason, f"plugin {owner.plugin}: {message}" if what == "failed" else message)
        return state

    def _wait(self, owner: Owner, error: Retry) -> None:
        before = self._states.get(owner)
        if before is not None:
            before.cancel()
        state = self._states[owner] = _State(RenderFailure(owner, "waiting", error.message))
        if before is not None and before.failure.what == "waiting":
            state.failure = evolve(state.failure, since=before.failure.since)
        if before is None or before.failure.message != error.message:
            log.debug("render waits", **_fields(owner, None), why=error.message)
        if error.after is not None:
            state.cancel = self._inbox.post_later(error.after, lambda: self._retry(owner))

    def _bug(self, owner: Owner, kind: Kind[View] | None, error: Exception) -> None:
        message = f"{type(error).__name__}: {error}"
        if owner not in self._states or self._states[owner].failure.message != message:
            log.error("render failed", **_fields(owner, kind), exc_info=error)
        subject = kind.source.kind if kind is not None and hasattr(kind.source, "kind") else ""
        state = self._note(owner, kind, "failed", f"ErrorReconciling{subject}", message)
        delay = doubled(FIRST_RETRY, LAST_RETRY, state.attempts) + random.uniform(0, 0.5)
        state.attempts += 1
        state.cancel = self._inbox.post_later(delay, lambda: self._retry(owner))
        row = self._in_a_row[owner.plugin] = self._in_a_row.get(owner.plugin, 0) + 1
        if row >= QUARANTINE_AFTER and owner.plugin not in self.quarantined:
            self._quarantine(owner.plugin, message)

    def _quarantine(self, plugin: str, message: str) -> None:
        self.quarantined[plugin] = f"{QUARANTINE_AFTER} renders in a row failed, the last with {message}"
        log.error("plugin quarantined", plugin=plugin, seconds=QUARANTINE_FOR, error=message)
        self._inbox.post_later(QUARANTINE_FOR, lambda: self._release(plugin))

    def _release(self, plugin: str) -> None:
        self.quarantined.pop(plugin, None)
        self._in_a_row[plugin] = QUARANTINE_AFTER - 1  # one more failure sends it back
        failed = {owner for owner in self._states if owner.plugin == plugin}
        for owner in failed | self._held.pop(plugin, set()):
            self._retry(owner)

    def _count(self, owner: Owner, what: str) -> None:
        key = (owner.plugin, owner.renderer, what)
        self.failures_total[key] = self.failures_total.get(key, 0) + 1

    def _tell(self, owner: Owner, kind: Kind[View] | None, reason: str, message: str) -> None:
        if kind is not None and owner.key:
            self._on_event(kind, owner.key, reason, message, True)


def _fields(owner: Owner, kind: Kind[View] | None) -> Mapping[str, str]:
    return {
        "plugin": owner.plugin,
        "renderer": owner.renderer,
        "kind": kind.name if kind is not None else "",
        "object": owner.key,
    }
