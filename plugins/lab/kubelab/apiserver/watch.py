"""Watch streams: catching up, following, bookmarks, the end.

Each watcher reads the collection's history by position, so a change is encoded once however many watch it, and a
watcher that falls out of the history gets 410 as with kube-apiserver.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

import orjson
from attrs import frozen

from . import convert, reads
from .errors import ApiError, Json
from .registry import Resource
from .request import Request
from .selectors import Selection
from .state import Cluster
from .store import Change, Collection, Record, watch_line

_LONGEST_SECONDS = 1800.0
# A watcher that had this many changes at once waits before it looks for more: a burst comes in few large pieces,
# and a change by itself at once.
_MANY, _BATCH_SECONDS = 10, 0.005

Encoder = Callable[[str, Record], bytes]


@frozen
class Watch:
    """One watch request, ready to run. ``encode`` makes a line when the stored bytes don't do."""

    cluster: Cluster
    resource: Resource
    collection: Collection
    wanted: Selection
    request: Request
    encode: Encoder | None = None

    async def lines(self, waiter: asyncio.Event, gone: asyncio.Event) -> AsyncIterator[bytes]:
        """The stream's chunks until the timeout, the server's end or ``gone`` (the client left).

        Whoever sets ``gone`` sets ``waiter`` too, which wakes the stream.
        """
        try:
            position, initial = self._start()
        except ApiError as error:
            yield watch_line("ERROR", orjson.dumps(error.status()))
            return
        for chunk in _batches(initial):
            yield chunk
        self.collection.waiters.add(waiter)
        try:
            async for chunk in self._follow(position, waiter, gone):
                yield chunk
        finally:
            self.collection.waiters.discard(waiter)

    async def _follow(self, position: int, waiter: asyncio.Event, gone: asyncio.Event) -> AsyncIterator[bytes]:
        bookmarks = self.request.flag("allowWatchBookmarks")
        now = time.monotonic()
        end = now + self._timeout()
        pause = self.cluster.settings.bookmark_seconds
        next_mark = now + pause
        while not gone.is_set() and not self.cluster.closing:
            waiter.clear()
            changes = self.collection.since(position)
            if changes is None:
                text = f"too old resource version: fell behind the history of {self.collection.name}"
                yield watch_line("ERROR", orjson.dumps(ApiError(410, "Expired", text).status()))
                return
            position += len(changes)
            lines = [line for change in changes if (line := self._line(change))]
            if lines:
                yield b"".join(lines)
                await asyncio.sleep(_BATCH_SECONDS if len(lines) >= _MANY else 0)
                continue
            now = time.monotonic()
            if now >= end:
                break
            if bookmarks and now >= next_mark:
                yield self._bookmark()
                next_mark = now + pause
            await _wait(waiter, min(end, next_mark) - now if bookmarks else end - now)
        if bookmarks and not gone.is_set() and position == self.collection.end:
            yield self._bookmark()

    def _start(self) -> tuple[int, Iterable[bytes]]:
        """The position to follow from and the initial events."""
        given = self.request.query.get("resourceVersion", "")
        streaming = self.request.flag("sendInitialEvents")
        if given not in ("", "0") and not streaming:
            revision = reads.parse_revision(given)
            if revision > self.cluster.store.revision:
                text = f"too large resource version: {revision}, current: {self.cluster.store.revision}"
                raise ApiError(410, "Expired", text)
            return self.collection.position(revision), ()
        position = self.collection.end
        records = [r for _, r in sorted(self.collection.objects.items()) if self.wanted.matches(r)]
        if "sendInitialEvents" in self.request.query and not streaming:
            records = []
        return position, self._initial(records, streaming)

    def _initial(self, records: list[Record], streaming: bool) -> Iterator[bytes]:
        for record in records:
            yield self._encoded("ADDED", record)
        if streaming:
            yield self._bookmark(initial_end=True)

    def _line(self, change: Change) -> bytes | None:
        """The event a change is for this watcher: entering and leaving the selection count."""
        now = not change.deleted and self.wanted.matches(change.record)
        before = change.previous is not None and self.wanted.matches(change.previous)
        if not (now or before):
            return None
        kind = ("MODIFIED" if before else "ADDED") if now else "DELETED"
        if self.encode is None and self.resource.api_version == self.resource.storage_version:
            if kind == "DELETED" and not change.deleted:
                return watch_line(kind, _with_revision(change.previous or change.record, change.revision))
            return change.frame(kind)
        return self._encoded(kind, change.record)

    def _encoded(self, kind: str, record: Record) -> bytes:
        if self.encode is not None:
            return self.encode(kind, record)
        return watch_line(kind, convert.encoded(self.resource, record))

    def _bookmark(self, initial_end: bool = False) -> bytes:
        metadata: Json = {"resourceVersion": str(self.cluster.store.revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: Json = {"kind": self.resource.kind, "apiVersion": self.resource.api_version, "metadata": metadata}
        return watch_line("BOOKMARK", orjson.dumps(obj))

    def _timeout(self) -> float:
        given = self.request.query.get("timeoutSeconds", "")
        if given.isdigit() and int(given) > 0:
            return float(given)
        return _LONGEST_SECONDS * (1 + random.random())


def _with_revision(record: Record, revision: int) -> bytes:
    """An object that left the selection: its last matching content, the revision at which it left."""
    obj = record.load()
    obj["metadata"]["resourceVersion"] = str(revision)
    return orjson.dumps(obj)


def _batches(lines: Iterable[bytes], size: int = 500) -> Iterator[bytes]:
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) >= size:
            yield b"".join(batch)
            batch.clear()
    if batch:
        yield b"".join(batch)


async def _wait(waiter: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(waiter.wait(), max(seconds, 0.0))
    except TimeoutError:
        return
