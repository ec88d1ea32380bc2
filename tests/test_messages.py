"""docs/messages.md has every message that ovnkit can give, and every reason is explained."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def maker() -> Any:
    spec = importlib.util.spec_from_file_location("message_page", ROOT / "scripts/message_page.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_is_made_from_the_source(maker: Any) -> None:
    remedy = "run: python scripts/message_page.py > docs/messages.md"
    assert (ROOT / "docs/messages.md").read_text() == maker.page(), remedy


def test_each_reason_has_a_meaning_and_a_cure(maker: Any) -> None:
    found = set(maker.reasons(list(maker.modules())))
    assert {"InvalidAnnotation", "ErrorReconciling", "NorthdNotWorking", "TooManyPorts", "PortLost"} <= found
    explained = tomllib.loads(maker.REASONS.read_text())
    assert found == set(explained)
    assert all(entry["meaning"] and entry["cure"] for entry in explained.values())


def test_texts_are_found_with_their_placeholders(maker: Any) -> None:
    found = {(message.error, message.text) for message in maker.messages(list(maker.modules()))}
    assert len(found) > 150
    assert ("CniError", "CNI_NETNS {netns} is not an absolute path") in found
    assert ("ConfigError", "--set {text}: write it as section.key=value") in found
    assert ("Retry", "node {node} has no subnets yet") in found


def test_texts_are_said_as_kubernetes_says_them(maker: Any) -> None:
    """ "is no MAC address" and the like are not English."""
    odd = re.compile(r"(?<!there) is no |, no | is none |nobody|isn't there")
    assert [message.text for message in maker.messages(list(maker.modules())) if odd.search(message.text)] == []
