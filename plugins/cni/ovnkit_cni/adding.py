"""ADD requests under way: what they wait for, and who ends their wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attrs import define, field

from ovnkit_cni.attachments import Attachment
from ovnkit_cni.wire import CniError, Request


@define(eq=False)
class Adding:
    """One ADD. `woken` is set by what it waits for, and when its wait is ended."""

    request: Request
    woken: threading.Event = field(factory=threading.Event)
    _error: CniError | None = None

    def end(self, error: CniError) -> None:
        """Nobody wants this ADD any more; its request ends with this error."""
        self._error = error
        self.woken.set()

    def check(self) -> None:
        """Raise the error that this ADD was ended with."""
        if self._error is not None:
            raise self._error


class Addings:
    """All ADDs under way. Safe from any thread."""

    def __init__(self) -> None:
        self._all: set[Adding] = set()
        self._lock = threading.Lock()

    @contextmanager
    def begin(self, request: Request) -> Iterator[Adding]:
        """An ADD is under way while the body runs."""
        adding = Adding(request)
        with self._lock:
            self._all.add(adding)
        try:
            yield adding
        finally:
            with self._lock:
                self._all.discard(adding)

    def end_of(self, attachment: Attachment, error: CniError) -> None:
        """End the ADDs of an attachment: it is taken away."""
        self._end(lambda request: request.attachment == attachment, error)

    def end_older(self, adding: Adding, error: CniError) -> None:
        """End the ADDs of the same pod's interface in other sandboxes: they came earlier."""
        newer = adding.request

        def is_older(request: Request) -> bool:
            same = (request.pod_key, request.ifname, request.definition)
            if same != (newer.pod_key, newer.ifname, newer.definition):
                return False
            return request.sandbox != newer.sandbox and request.deadline < newer.deadline

        self._end(is_older, error)

    def _end(self, wanted: Callable[[Request], bool], error: CniError) -> None:
        with self._lock:
            found = [adding for adding in self._all if wanted(adding.request)]
        for adding in found:
            adding.end(error)
