"""The append-only journal behind the store: one line per change, replayed and compacted at start.

A line has four fields with tabs between: ``P``, collection, revision and the object's JSON for a put; ``D`` and
namespace/name as the last field for a delete; ``F`` and nothing for the last revision a collection changed at.

Each line reaches the operating system before the request is answered, so a killed server loses nothing; it is
not synced to the disk, since such a cluster does not outlive its machine.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

_COMPACT_MINIMUM = 64 * 1024 * 1024
_COMPACT_FACTOR = 4


@frozen
class Entry:
    """One replayed line."""

    op: str
    collection: str
    revision: int
    payload: bytes


class Journal:
    """Appends changes to ``journal`` in a directory; with no directory it keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / "journal" if directory else None
        self._fd = -1
        self._size = 0
        self._baseline = 0
        if directory:
            directory.mkdir(parents=True, exist_ok=True)

    def replay(self) -> Iterator[Entry]:
        """The lines of earlier runs, oldest first; a last line cut short by a crash is left out."""
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                op, collection, revision, payload = line[:-1].split(b"\t", 3)
                yield Entry(op.decode(), collection.decode(), int(revision), payload)

    def compact(self, entries: Iterable[Entry]) -> None:
        """Replace the journal by these entries, atomically, and append from there."""
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as out:
            for entry in entries:
                out.write(_line(entry.op, entry.collection, entry.revision, entry.payload))
        fresh.replace(self._path)
        self.close()
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = self._baseline = os.fstat(self._fd).st_size

    def append(self, op: str, collection: str, revision: int, payload: bytes) -> None:
        """Write one change through to the operating system."""
        if self._fd < 0:
            return
        line = _line(op, collection, revision, payload)
        written = os.write(self._fd, line)
        while written < len(line):
            written += os.write(self._fd, line[written:])
        self._size += len(line)

    @property
    def bloated(self) -> bool:
        """Whether there are so many obsolete lines that compacting pays."""
        return self._size > _COMPACT_MINIMUM + _COMPACT_FACTOR * self._baseline

    def close(self) -> None:
        """Stop appending."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _line(op: str, collection: str, revision: int, payload: bytes) -> bytes:
    return b"%b\t%b\t%d\t%b\n" % (op.encode(), collection.encode(), revision, payload)
