"""Property tests without deadlines: how long an example takes says more about the machine than about the code."""

from __future__ import annotations

import pytest
from hypothesis import is_hypothesis_test, settings

settings.register_profile("ovnkit", deadline=None)
settings.load_profile("ovnkit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage leaves property tests out: it costs more over hundreds of examples than over all the rest."""
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
            item.add_marker(pytest.mark.no_cover)
