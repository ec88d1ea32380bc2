"""Reads a log that somebody else writes and rotates, line by line, and remembers how far across restarts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from ovnkit.api.text import parse_json, print_json

__all__ = [
    "Follower",
]


@frozen
class _Position:
    """A place in a file; the file is known by its inode, for its name changes when it is rotated."""

    inode: int
    offset: int


class Follower:
    """Lines of the file at `path`; `state` is the file that remembers the position, None if none does.

    A file seen for the first time is followed from its end. After a restart reading goes on where it stopped, also
    in a file that was renamed meanwhile (`log.1`), if it is still there and only one was.
    """

    def __init__(self, path: Path, state: Path | None = None) -> None:
        self._path, self._state = path, state
        self._file: BinaryIO | None = None
        self._inode = self._offset = 0
        self._saved = _read(state) if state is not None else None

    def lines(self) -> Iterator[str]:
        """The lines that are complete and were not yet read; a line counts as read once the next is asked for.

        Raises OSError; the next call goes on at the same line.
        """
        if self._file is None and not self._begin():
            return
        while True:
            # Looked at before reading: what then is read is the rest of a file that nobody writes any more.
            replaced = self._replaced()
            yield from self._rest()
            if not replaced or not self._open(self._path):
                return

    def save(self) -> None:
        """Remember the position if it has changed; raises OSError."""
        position = _Position(self._inode, self._offset)
        if self._file is None or self._state is None or position == self._saved:
            return
        partial = self._state.with_suffix(".new")
        partial.write_text(print_json({"inode": position.inode, "offset": position.offset}))
        partial.rename(self._state)
        self._saved = position

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> bool:
        if not self._open(self._left_file()):
            return False
        assert self._file is not None
        size = os.fstat(self._file.fileno()).st_size
        if self._saved is None:
            self._offset = size
        elif self._saved.inode == self._inode and self._saved.offset <= size:
            self._offset = self._saved.offset
        return True

    def _left_file(self) -> Path:
        """The file in which reading stopped, whatever its name is now; the log when that is gone."""
        if self._saved is not None:
            for path in sorted(self._path.parent.glob(f"{self._path.name}*")):
                with suppress(FileNotFoundError):
                    if path.stat().st_ino == self._saved.inode:
                        return path
        return self._path

    def _open(self, path: Path) -> bool:
        """Begin with a file; False when there is none."""
        try:
            opened = path.open("rb")
        except FileNotFoundError:
            return False
        self.close()
        self._file, self._inode, self._offset = opened, os.fstat(opened.fileno()).st_ino, 0
        return True

    def _rest(self) -> Iterator[str]:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._offset:  # truncated: its writer begins anew
            self._offset = 0
        self._file.seek(self._offset)
        for line in self._file:
            if not line.endswith(b"\n"):
                return
            yield line[:-1].decode(errors="replace")
            self._offset += len(line)

    def _replaced(self) -> bool:
        """Whether the writer has gone on to another file (an empty one it has not opened yet)."""
        with suppress(FileNotFoundError):
            found = self._path.stat()
            return found.st_ino != self._inode and found.st_size > 0
        return False


def _read(state: Path) -> _Position | None:
    try:
        found = parse_json(state.read_text())
        return _Position(int(found["inode"]), int(found["offset"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
