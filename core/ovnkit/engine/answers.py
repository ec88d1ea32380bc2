"""Questions of renderers to plugins' own services: who asks is counted, answers become part of the world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import structlog

from ovnkit.api.hooks import Answerer
from ovnkit.api.items import Ask
from ovnkit.api.kinds import Answers, Changes, Kind, View
from ovnkit.engine.inbox import Call
from ovnkit.engine.sink import Owner, Report, Sink

log = structlog.get_logger()

Observe = Callable[[Kind[View], Changes], None]


def answer_kinds(kinds: Iterable[Kind[View]]) -> list[Kind[View]]:
    """The kinds among them that are answers. They count as listed: without an answer there is no view."""
    return [kind for kind in kinds if isinstance(kind.source, Answers)]


class AnswerSink(Sink[Ask]):
    """The sink of `Ask` items. All methods but `tell` are called in the reconciler's thread."""

    name = "answers"
    item_types: tuple[type, ...] = (Ask,)
    idle = True
    ready = True

    def __init__(self, post: Callable[[Call], None], observe: Observe, report: Report) -> None:
        self._post = post
        self._observe = observe
        self._report = report
        self._answerers: dict[Kind[View], Answerer] = {}
        self._asking: dict[Owner, frozenset[Ask]] = {}
        self._counts: Counter[Ask] = Counter()
        self._touched: dict[Ask, None] = {}
        self._asked: set[Ask] = set()

    def add(self, plugin: str, answerer: Answerer) -> None:
        """A plugin's service; the first one for a kind counts."""
        if self._answerers.setdefault(answerer.kind, answerer) is not answerer:
            log.error("a kind has two answerers; the second is not asked", plugin=plugin, kind=answerer.kind.name)

    def tell(self, kind: Kind[View], changes: Changes) -> None:
        """Answers have come, from any thread."""
        self._post(partial(self._take, kind, changes))

    def _take(self, kind: Kind[View], changes: Changes) -> None:
        wanted = [(key, view) for key, view in changes if Ask(kind, key) in self._asked]
        if wanted:
            self._observe(kind, wanted)

    def want(self, owner: Owner, items: Sequence[Ask]) -> None:
        """From now on `owner` asks exactly this."""
        before, now = self._asking.pop(owner, frozenset()), frozenset(items)
        if now:
            self._asking[owner] = now
        for question in before ^ now:
            self._counts[question] += 1 if question in now else -1
            self._touched[question] = None
        for kind in {question.kind for question in now - before} - self._answerers.keys():
            self._report(owner, LookupError(f"nobody answers questions about {kind.name}"))

    def flush(self) -> None:
        """Pass on what is asked now and wasn't, and the other way round."""
        touched, self._touched = self._touched, {}
        asked: dict[Kind[View], list[str]] = {}
        dropped: dict[Kind[View], list[str]] = {}
        for question in touched:
            wanted = self._counts[question] > 0
            if not wanted:
                del self._counts[question]
            if wanted is not (question in self._asked):
                (self._asked.add if wanted else self._asked.remove)(question)
                (asked if wanted else dropped).setdefault(question.kind, []).append(question.key)
        for kind, keys in dropped.items():
            if kind in self._answerers:
                self._answerers[kind].drop(keys)
            self._observe(kind, [(key, None) for key in keys])
        for kind, keys in asked.items():
            if kind in self._answerers:
                self._answerers[kind].ask(keys)

    def settle(self) -> None:
        """Nothing is left over from another run."""

    def status(self) -> dict[str, Any]:
        """How many questions are open, by kind."""
        asked = Counter(question.kind.name for question in self._asked)
        return {
            "connected": True,
            "owned": len(self._asked),
            "pending": len(self._touched),
            "asked": dict(asked),
            "last_error": "",
        }

    def stop(self) -> None:
        """End the services."""
        for answerer in self._answerers.values():
            answerer.stop()
