"""Making the cached root: what is interrupted leaves nothing."""

import os
import time
from pathlib import Path

import pytest

from ovnkit.testing import installs


def test_an_interrupted_debootstrap_ends_with_its_children_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "debootstrap"
    program.write_text('#!/bin/sh\nfor last; do :; done\nmkdir -p "$last"\nsleep 300 &\necho $!\nwait\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    children: list[int] = []

    def progress(text: str) -> None:
        if "debootstrap: " in text:
            children.append(int(text.rpartition(" ")[2]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        installs._debootstrap(tmp_path / "root", progress)
    end = time.monotonic() + 10
    while _lives(children[0]):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["debootstrap"]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
