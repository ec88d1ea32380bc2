"""Comparing what is wanted with what is there: no server."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ovnkit.api.items import Status
from ovnkit.api.models import PODS
from ovnkit.sinks.kube.plan import fields_of
from ovnkit.sinks.kube.statuses import status_patch

names = st.sampled_from(["a", "b", "c"])
content = st.recursive(
    st.none() | st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
statuses = st.dictionaries(names, content, max_size=3)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def stored(value: Any) -> Any:
    """As a server would keep it: without nulls."""
    return merge({}, value)


@given(statuses, statuses)
def test_a_patched_status_needs_no_patch(wanted: dict[str, Any], actual: dict[str, Any]) -> None:
    fields = dict(fields_of(Status(PODS, "a/p", wanted)))
    fields.pop(("status",), None)
    actual = stored(actual)
    patch = status_patch(fields, {}, actual, "now")
    after = merge(actual, patch)
    assert status_patch(fields, {}, after, "now") == {}
    if wanted == stored(wanted):
        assert after == merge(actual, wanted), "the same as patching with the whole"


@given(statuses, statuses)
def test_what_leaves_is_gone_and_the_rest_stays(wanted: dict[str, Any], actual: dict[str, Any]) -> None:
    fields = {path: value for path, value in fields_of(Status(PODS, "a/p", wanted)) if path != ("status",)}
    before = merge(stored(actual), stored(wanted))
    leaving = {path: [value] for path, value in fields.items() if value is not None}
    after = merge(before, status_patch({}, leaving, before, "now"))
    assert status_patch({}, leaving, after, "now") == {}
    untouched = {path for path, _ in fields_of(Status(PODS, "a/p", before))} - set(leaving)
    assert untouched <= {path for path, _ in fields_of(Status(PODS, "a/p", after))}
