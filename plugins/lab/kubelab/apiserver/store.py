"""Objects, revisions, history: what etcd and the watch cache are for kube-apiserver.

Objects are kept as their serialized JSON plus the little that selecting needs; whoever changes an object gets a
fresh copy from :meth:`Record.load`, so nothing is ever shared by accident. Every change takes the next revision
of one counter. Each collection keeps a bounded history of changes for watches, older positions are answered
with 410.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

import orjson
from attrs import define, field

from . import errors
from .errors import Json
from .journal import Entry, Journal

Key = tuple[str, str]
FieldLabels = Callable[[str, Json], Mapping[str, str]]
Listener = Callable[["Collection", "Change"], None]

_revision_of = attrgetter("revision")


@define(slots=True, eq=False)
class Record:
    """One version of an object: its bytes and what selectors need."""

    namespace: str
    name: str
    uid: str
    revision: int
    data: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]
    owners: tuple[str, ...] = ()
    deleting: bool = False

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return (self.namespace, self.name)

    def load(self) -> Json:
        """A copy of the object, the caller's own."""
        loaded: Json = orjson.loads(self.data)
        return loaded


@define(slots=True, eq=False)
class Change:
    """One step of a history: ``previous`` is None for a create, ``deleted`` marks the last version."""

    revision: int
    record: Record
    previous: Record | None
    deleted: bool
    _frames: dict[str, bytes] = field(factory=dict)

    def frame(self, kind: str) -> bytes:
        """The watch line of this change as ``kind`` (ADDED, MODIFIED, DELETED), encoded once for all watchers."""
        cached = self._frames.get(kind)
        if cached is None:
            record = self.record
            if kind == "DELETED" and not self.deleted and self.previous is not None:
                record = self.previous
            cached = self._frames[kind] = watch_line(kind, record.data)
        return cached


def watch_line(kind: str, data: bytes) -> bytes:
    """One event of a watch stream."""
    return b'{"type":"' + kind.encode() + b'","object":' + data + b"}\n"


class Collection:
    """All objects of one stored resource, its history and who waits for more."""

    def __init__(self, name: str, history: int) -> None:
        self.name = name
        self.objects: dict[Key, Record] = {}
        self.floor = 0
        self.last = 0
        self.waiters: set[asyncio.Event] = set()
        self.first = 0
        self._history = history
        self._changes: list[Change] = []

    def add(self, change: Change) -> None:
        """Append to the history, forget the oldest beyond the bound, wake the watchers."""
        self._changes.append(change)
        self.last = change.revision
        if len(self._changes) > 2 * self._history:
            self.forget(self._history)
        self.wake()

    def forget(self, keep: int) -> None:
        """Drop all but the newest ``keep`` changes; watches from before get 410."""
        drop = len(self._changes) - keep
        if drop > 0:
            self.floor = self._changes[drop - 1].revision
            self.first += drop
            del self._changes[:drop]

    def wake(self) -> None:
        """Let every waiting watcher look again."""
        for waiter in self.waiters:
            waiter.set()

    def position(self, revision: int) -> int:
        """Where to read on after ``revision``.

        Raises :class:`~.errors.ApiError` (410) when that is older than the history.
        """
        if revision < self.floor:
            raise errors.expired(f"too old resource version: {revision} ({self.floor})")
        return self.first + bisect_right(self._changes, revision, key=_revision_of)

    def since(self, position: int) -> list[Change] | None:
        """Changes from ``position`` on; None when the reader fell out of the history."""
        if position < self.first:
            return None
        return self._changes[position - self.first :]

    @property
    def end(self) -> int:
        """The position after the newest change."""
        return self.first + len(self._changes)

    def at(self, revision: int) -> dict[Key, Record]:
        """The objects as they were at ``revision``, by undoing what came after it."""
        start = self.position(revision) - self.first
        objects = dict(self.objects)
        for change in reversed(self._changes[start:]):
            if change.previous is None:
                objects.pop(change.record.key, None)
            else:
                objects[change.record.key] = change.previous
        return objects


class Store:
    """Every collection, the revision counter and the journal."""

    def __init__(self, journal: Journal, field_labels: FieldLabels, history: int = 20_000) -> None:
        self.revision = 1
        self.by_uid: dict[str, tuple[Collection, Key]] = {}
        self.dependents: dict[str, dict[str, tuple[Collection, Key]]] = {}
        self.listeners: list[Listener] = []
        self._collections: dict[str, Collection] = {}
        self._journal = journal
        self._field_labels = field_labels
        self._history = history
        self._serving_since = 0

    def begin(self) -> None:
        """What happened until now is history that nobody can watch, as in the watch cache of kube-apiserver."""
        self._serving_since = self.revision
        for collection in self._collections.values():
            collection.floor = max(collection.floor, self.revision)

    def collection(self, name: str) -> Collection:
        """The collection ``name`` (``pods``, ``deployments.apps``), made when new."""
        found = self._collections.get(name)
        if found is None:
            found = self._collections[name] = Collection(name, self._history)
            found.floor = self._serving_since
        return found

    def collections(self) -> Iterator[Collection]:
        """All collections."""
        yield from list(self._collections.values())

    def load(self) -> int:
        """Bring back what the journal holds; returns the number of objects."""
        for entry in self._journal.replay():
            collection = self.collection(entry.collection)
            self.revision = max(self.revision, entry.revision)
            collection.last = max(collection.last, entry.revision)
            if entry.op == "P":
                record = self._record(collection, orjson.loads(entry.payload), entry.payload, entry.revision)
                collection.objects[record.key] = record
            elif entry.op == "D":
                namespace, _, name = entry.payload.decode().rpartition("/")
                collection.objects.pop((namespace, name), None)
        for collection in self._collections.values():
            collection.floor = collection.last
            for record in collection.objects.values():
                self._index(collection, record)
        self._journal.compact(self._snapshot())
        return sum(len(c.objects) for c in self._collections.values())

    def put(self, collection: Collection, obj: Json, previous: Record | None) -> Record:
        """Store ``obj`` as the next revision; its metadata gets the resourceVersion."""
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        record = self._record(collection, obj, orjson.dumps(obj), self.revision)
        if previous is not None:
            self._unindex(previous)
        collection.objects[record.key] = record
        self._index(collection, record)
        self._journal.append("P", collection.name, record.revision, record.data)
        self._publish(collection, Change(record.revision, record, previous, False))
        return record

    def remove(self, collection: Collection, record: Record, obj: Json | None = None) -> Record:
        """Delete; the returned last version carries the revision of the deletion."""
        final = obj if obj is not None else record.load()
        self.revision += 1
        final["metadata"]["resourceVersion"] = str(self.revision)
        last = self._record(collection, final, orjson.dumps(final), self.revision)
        collection.objects.pop(record.key, None)
        self._unindex(record)
        self._journal.append("D", collection.name, self.revision, f"{record.namespace}/{record.name}".encode())
        self._publish(collection, Change(self.revision, last, record, True))
        return last

    def wake_all(self) -> None:
        """Let every watcher look again (the server stops, or a test ends the watches)."""
        for collection in self._collections.values():
            collection.wake()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _publish(self, collection: Collection, change: Change) -> None:
        collection.add(change)
        for listener in self.listeners:
            listener(collection, change)
        if self._journal.bloated:
            self._journal.compact(self._snapshot())

    def _record(self, collection: Collection, obj: Json, data: bytes, revision: int) -> Record:
        metadata: dict[str, Any] = obj["metadata"]
        owners = metadata.get("ownerReferences")
        return Record(
            metadata.get("namespace") or "",
            metadata["name"],
            metadata["uid"],
            revision,
            data,
            metadata.get("labels") or {},
            self._field_labels(collection.name, obj),
            tuple(o["uid"] for o in owners) if owners else (),
            "deletionTimestamp" in metadata,
        )

    def _index(self, collection: Collection, record: Record) -> None:
        self.by_uid[record.uid] = (collection, record.key)
        for owner in record.owners:
            self.dependents.setdefault(owner, {})[record.uid] = (collection, record.key)

    def _unindex(self, record: Record) -> None:
        self.by_uid.pop(record.uid, None)
        for owner in record.owners:
            held = self.dependents.get(owner)
            if held is not None:
                held.pop(record.uid, None)
                if not held:
                    del self.dependents[owner]

    def _snapshot(self) -> Iterator[Entry]:
        for collection in self._collections.values():
            yield Entry("F", collection.name, collection.last, b"")
            for record in collection.objects.values():
                yield Entry("P", collection.name, record.revision, record.data)
        yield Entry("F", "", self.revision, b"")
