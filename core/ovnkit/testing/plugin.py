"""Pytest plugin of ovnkit: fixtures and the conformance suite for plugin authors.

It is loaded in every pytest run of an environment that has ovnkit, so it imports nothing heavy before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ovnkit.testing.ovsdb import OvsdbServer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a conformance suite for each of its scenarios in each family."""
    suite = metafunc.cls
    if suite is None or not getattr(suite, "conformance", False):
        return
    if "scenario" in metafunc.fixturenames:
        metafunc.parametrize("scenario", list(suite.scenarios))
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", list(suite.families))


@pytest.fixture
def ovn_databases(tmp_path: Path) -> Iterator[OvsdbServer]:
    """A throw-away ovsdb-server with empty northbound, southbound and Open vSwitch databases."""
    from ovnkit.testing import ovsdb
    from ovnkit.testing.harness import make_server

    if not ovsdb.available():
        pytest.skip("needs ovsdb-server")
    server = make_server(tmp_path / "ovsdb")
    yield server
    server.stop()
