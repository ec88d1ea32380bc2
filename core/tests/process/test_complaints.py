"""ovn-controller's complaints about matches reach the object whose row it is."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from ovnkit.engine.sink import Owner
from ovnkit.process.complaints import Complaints
from ovnkit.status.metrics import Metrics

POLICY = Owner("network_policy", "policy", "a/p")
MATCH = "ip4.src == $a1 && outport == @a2"
LINE = '2026-01-01T00:00:00.000Z|00042|lflow|WARN|error parsing match "{}": {}\n'
REASON = "128-bit constant is not compatible with 32-bit field ip4.src."


class Found:
    """A log, and what is told about it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ovn-controller.log"
        self.file.write_text(LINE.format(f"({MATCH})", "from before the start"))
        self.reports: list[tuple[Owner, str]] = []
        self.complaints = Complaints(
            folder,
            post=lambda task: task(),
            owners=self.owners,
            report=lambda owner, error: self.reports.append((owner, str(error))),
        )
        self.complaints.look()

    def owners(self, text: str) -> Collection[Owner]:
        return [POLICY] if f"({MATCH})" in text else []

    def write(self, match: str, reason: str = REASON) -> None:
        with self.file.open("a") as log:
            log.write("2026-01-01T00:00:00.000Z|00041|binding|INFO|Claiming lport a_b for this chassis.\n")
            log.write(LINE.format(match, reason))
        self.complaints.look()


@pytest.fixture
def found(tmp_path: Path) -> Found:
    return Found(tmp_path)


def test_the_owner_of_the_row_is_told(found: Found) -> None:
    assert found.reports == []
    match = f"reg0[7] == 1 && ({MATCH})"
    found.write(match)
    assert found.reports == [(POLICY, f"ovn-controller can't use the match {match!r}: {REASON}")]
    assert found.complaints.counts == {"ovn-controller": 1}


def test_what_is_nobodys_is_counted(found: Found) -> None:
    found.write("ip5")
    assert found.reports == []
    assert found.complaints.counts == {"ovn-controller": 1}


def test_a_set_that_somebody_deleted_comes_back_by_itself(found: Found) -> None:
    found.write(f"({MATCH})", "Syntax error at `$a1' expecting address set name.")
    assert found.reports == []
    assert found.complaints.counts == {"ovn-controller": 1}


def test_the_metric_names_the_daemon() -> None:
    metrics = Metrics(lambda: {"match_complaints": {"ovn-controller": 2}}, tuple)
    assert b'ovnkit_match_complaints_total{daemon="ovn-controller"} 2.0' in metrics.answer().body


def test_a_missing_log_is_waited_for(tmp_path: Path) -> None:
    complaints = Complaints(
        tmp_path / "none", post=lambda task: task(), owners=lambda _: (), report=lambda *_: None
    )
    complaints.start()
    complaints.stop()
    assert not complaints.counts
