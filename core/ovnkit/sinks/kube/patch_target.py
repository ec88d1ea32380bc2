"""Book-keeping of the Kubernetes sink about one object."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ovnkit.api.backoff import Backoff
from ovnkit.api.models import ObjectView
from ovnkit.engine.sink import Owner
from ovnkit.sinks.kube.fields import FINALIZERS, IN_STATUS, Field, version

_NOTHING: Mapping[Field, Any] = MappingProxyType({})
"""Of most objects nothing was written by this process: empty dicts and sets would be a third of their targets."""


class PatchTarget:
    """What is wanted of one object, by whom, and what we did to it. Used in the reconciler's thread.

    `wanted`   values by field and owner
    `resolved` the value to write per field
    `leaving`  fields nobody wants any more, with the values by which we know them as ours
    `overlay`  fields we wrote in a version newer than the view
    `parked`   UID of the object that the server said is gone, while the watch hasn't told yet
    """

    __slots__ = (
        "_backoff",
        "_overlay_version",
        "_reported",
        "_uid",
        "_written",
        "again",
        "in_flight",
        "leaving",
        "not_before",
        "overlay",
        "parked",
        "resolved",
        "wanted",
    )

    def __init__(self) -> None:
        self.wanted: dict[Field, dict[Owner, Any]] = {}
        self.resolved: dict[Field, Any] = {}
        self.leaving: Mapping[Field, Sequence[Any]] = _NOTHING
        self.overlay: Mapping[Field, Any] = _NOTHING
        self.in_flight = False
        self.again = False
        self.parked = ""
        self.not_before = 0.0
        self._backoff: Backoff | None = None
        self._overlay_version = -1
        self._uid = ""
        self._reported: frozenset[tuple[Field, str]] = frozenset()
        self._written: Mapping[Field, Any] = _NOTHING

    # -- what is wanted -----------------------------------------------------------------------------------

    def add(self, owner: Owner, path: Field, value: Any) -> Iterable[Owner]:
        """`owner` wants `value`; returns the owners who don't get theirs because others want another one.

        Which value wins depends on who wants it, not on who came first: a value before an absence, then the
        order of owners.
        """
        owners = self.wanted.setdefault(path, {})
        owners[owner] = value
        self.leaving = _without(self.leaving, path)
        self._resolve(path)
        if len(owners) == 1:
            return ()
        return [other for other, wish in owners.items() if wish != self.resolved[path]]

    def drop(self, owner: Owner, path: Field) -> None:
        """`owner` no longer cares about this field."""
        owners = self.wanted.get(path, {})
        value = owners.pop(owner, None)
        if owners:
            self._resolve(path)
            return
        self.wanted.pop(path, None)
        self.resolved.pop(path, None)
        if value is not None:
            ours = [value]
            if path in self._written:
                ours.append(self._written[path])
                self._written = _without(self._written, path)
            self.leaving = {**self.leaving, path: ours}

    def _resolve(self, path: Field) -> None:
        self.resolved[path] = self.wanted[path][self.winner(path)]

    def winner(self, path: Field) -> Owner:
        """Whose value of a wanted field counts."""
        owners = self.wanted[path]
        if len(owners) == 1:
            (owner,) = owners
            return owner
        return min(owners.items(), key=lambda pair: (pair[1] is None, str(pair[0])))[0]

    def owners(self, path: Field) -> list[Owner]:
        """Who wants this field."""
        return list(self.wanted.get(path, ()))

    # -- what was done ------------------------------------------------------------------------------------

    def observe(self, view: ObjectView) -> None:
        """Take note of the view before comparing with it."""
        if view.uid != self._uid:
            self.forget()
            self._uid = view.uid
        if self.overlay:
            self.seen(view.resource_version)

    def seen(self, resource_version: str) -> None:
        """The world has this version, or a later one: what we wrote before needs no overlay any more."""
        if version(resource_version) >= self._overlay_version:
            self.overlay = _NOTHING

    def wrote(self, fields: Mapping[Field, Any], resource_version: str) -> None:
        """These fields are on the server now, in this version."""
        self.overlay = {**self.overlay, **fields}
        for path, value in fields.items():
            if value is None:
                self.leaving = _without(self.leaving, path)
                self._written = _without(self._written, path)
            elif path[0] != FINALIZERS:
                self._written = {**self._written, path: value}
        self._overlay_version = version(resource_version)

    def wrote_status(self, fields: Mapping[Field, Any]) -> None:
        """These fields of the status are on the server now; what was to leave it has left."""
        self._written = {**self._written, **fields}
        self.leaving = {path: ours for path, ours in self.leaving.items() if path[0] not in IN_STATUS}

    def left(self) -> None:
        """The object shows nothing any more of what was to leave it."""
        self.leaving = _NOTHING

    def forget(self) -> None:
        """The object is gone, or another one took its name."""
        self.leaving = self.overlay = self._written = _NOTHING
        self._uid = ""
        self.parked = ""
        self.succeeded()

    # -- errors -------------------------------------------------------------------------------------------

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._backoff.failures if self._backoff else 0

    def succeeded(self) -> None:
        """The object took what we wrote, or is as wanted: forget about failures."""
        self._backoff = None
        self._reported = frozenset()
        self.not_before = 0.0

    @property
    def told_of(self) -> Collection[Field]:
        """The fields of which an error has been told since they last went well."""
        return {path for path, _ in self._reported}

    def is_news(self, path: Field, text: str) -> bool:
        """Whether this error of a field hasn't been told since it last went well."""
        news = (path, text) not in self._reported
        self._reported |= {(path, text)}
        return news

    def hold_back(self, most: float) -> float:
        """Seconds until the next attempt, `most` at most."""
        self._backoff = self._backoff or Backoff(0.5, 60.0)
        delay = min(most, self._backoff.next())
        self.not_before = time.monotonic() + delay
        return delay

    def retry_now(self) -> None:
        """Something changed that may mend it."""
        self.not_before = 0.0


def _without(fields: Mapping[Field, Any], path: Field) -> Mapping[Field, Any]:
    if path not in fields:
        return fields
    return {other: value for other, value in fields.items() if other != path} or _NOTHING
