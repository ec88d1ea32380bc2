from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ovnkit_lab.testing import lab, labs  # noqa: F401

sys.path.append(str(Path(__file__).parent))  # for the module that the suites here share


@pytest.fixture(scope="session")
def net(request: pytest.FixtureRequest, labs: Any) -> Any:  # noqa: F811
    """The lab of a layout: of the session, so that all tests of one layout run in one lab."""
    from gateway_net import made_net

    with made_net(labs, request.param) as found:
        yield found
