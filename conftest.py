"""For all suites: property tests without deadlines, skips without root, and which labs were brought up.

Property tests have no deadlines: how long an example takes says more about the machine than about the code.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import is_hypothesis_test, settings

settings.register_profile("ovnkit", deadline=None)
settings.load_profile("ovnkit")

ROOT_FIXTURES = {"netns", "home"}
"""Fixtures that need root."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage leaves property tests out: it costs more over hundreds of examples than over all the rest."""
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker(pytest.mark.no_cover)
        if os.geteuid() and needs_root(item):
            item.add_marker(pytest.mark.skip(reason="needs root (network namespaces, OVN's daemons)"))


def needs_root(item: pytest.Item) -> bool:
    """Whether a test makes network namespaces or starts daemons."""
    fixtures = getattr(item, "fixturenames", ())
    return bool({"lab", "ovn"} & {mark.name for mark in item.iter_markers()} or ROOT_FIXTURES & {*fixtures})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Labs that were brought up, where a suite has used any."""
    testing = sys.modules.get("ovnkit_lab.testing")
    if testing is not None and testing.LABS.lent:
        terminalreporter.section("labs")
        for line in testing.LABS.report():
            terminalreporter.write_line(line)
