"""Chosen UUIDs of rows."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from ovnkit.api.identity import NAMESPACE, RowId, row_uuid


@given(st.text(st.characters(codec="utf-8")))
def test_row_uuid_is_uuid5(path: str) -> None:
    assert row_uuid(path) == str(uuid.uuid5(NAMESPACE, path))


def test_the_uuid_of_a_row_never_changes() -> None:
    assert RowId("pods", "port", "ns/pod", "port").uuid == "d83bca04-6f94-5b78-b4af-aa688d633196"
