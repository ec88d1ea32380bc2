"""Cutting the stream into messages, endpoints, and values."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ovnkit.api.errors import ConfigError
from ovnkit.api.items import Ref
from ovnkit.sinks.ovsdb.wire.endpoint import parse_endpoints
from ovnkit.sinks.ovsdb.wire.errors import BadValue, ProtocolError
from ovnkit.sinks.ovsdb.wire.jsonrpc import Framer
from ovnkit.sinks.ovsdb.wire.schema import Column
from ovnkit.sinks.ovsdb.wire.values import decoder, encode, normal

text = st.one_of(st.text(max_size=5), st.sampled_from(["}{", '}{"', '\\"}{"', "é}{", "}", "{"]))
trees = st.recursive(
    text | st.integers(-(2**53), 2**53),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
messages = st.lists(st.dictionaries(text, trees, max_size=3), max_size=5)


class Clock:
    """A clock that moves on each time it is read, so that attempts are never postponed for long."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@settings(deadline=None)
@example([{"a": " b"}], b"", [7])
@given(messages, st.sampled_from([b"", b"\n", b"  \n"]), st.lists(st.integers(1, 50), max_size=10))
def test_any_chunking_gives_the_messages(sent: list[Any], gap: bytes, cuts: list[int]) -> None:
    try:
        stream = b"".join(orjson.dumps(message) + gap for message in sent)
    except orjson.JSONEncodeError:  # lone surrogates
        return
    framer, got = Framer(Clock()), []
    while stream:
        size = cuts.pop() if cuts else 17
        got += framer.feed(stream[:size])
        stream = stream[size:]
    for _ in range(200):
        if not framer.pending:
            break
        got += framer.feed(b"")
    assert got == sent


@pytest.mark.parametrize("value", ["plain", "ends in }{", 'x}{"y', "é"])
def test_large_reply_in_pieces_is_linear(value: str) -> None:
    rows = {str(number): {"initial": {"name": f"{number}{value}"}} for number in range(150_000)}
    stream = orjson.dumps({"id": 1, "result": rows, "error": None})
    assert len(stream) > 5_500_000
    start = time.process_time()
    orjson.loads(stream)
    once = time.process_time() - start
    framer, got = Framer(), []
    start = time.process_time()
    for position in range(0, len(stream), 16384):
        got += framer.feed(stream[position : position + 16384])
    while not got:
        got += framer.feed(b"")
    spent = time.process_time() - start
    assert len(got[0]["result"]) == 150_000
    assert spent < 20 * once + 0.5


def test_garbage_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        Framer().feed(b'{"id": nonsense}')
    with pytest.raises(ProtocolError):
        Framer().feed(b'[1, {"a": 1}]{"b": 2}')


def test_endpoints() -> None:
    parsed = parse_endpoints("unix:/run/db.sock, tcp:10.0.0.1:6641,ssl:[fd00::1]:6641")
    assert [str(endpoint) for endpoint in parsed] == [
        "unix:/run/db.sock",
        "tcp:10.0.0.1:6641",
        "ssl:[fd00::1]:6641",
    ]


@pytest.mark.parametrize(
    "bad", ["", "udp:1.2.3.4:5", "tcp:1.2.3.4", "tcp:h:99999", "ssl:fd00::1:6641", "tcp:[zz]:1", "unix:"]
)
def test_bad_endpoints_are_named(bad: str) -> None:
    with pytest.raises(ConfigError):
        parse_endpoints(bad)


def column(kind: Any) -> Column:
    return Column.parse("T", "c", {"type": kind})


UUID = "11111111-1111-4111-8111-111111111111"
STRINGS = {"key": "string", "min": 0, "max": "unlimited"}
OPTIONAL = {"key": {"type": "integer", "minInteger": 0, "maxInteger": 9}, "min": 0, "max": 1}
MAP = {"key": "string", "value": "string", "min": 0, "max": "unlimited"}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "a", "a"),
        ("boolean", True, True),
        ("real", 1, 1.0),
        (STRINGS, ("a", "b", "a"), {"a", "b"}),
        (STRINGS, "a", {"a"}),
        (STRINGS, None, set()),
        (OPTIONAL, None, None),
        (OPTIONAL, 3, 3),
        (MAP, {"a": 1, "b": True, "c": "x"}, {"a": "1", "b": "true", "c": "x"}),
        ({"key": {"type": "uuid", "refTable": "T"}, "min": 0, "max": "unlimited"}, (Ref(UUID),), {UUID}),
    ],
)
def test_values_survive_the_wire(kind: Any, value: Any, expected: Any) -> None:
    described = column(kind)
    wanted = normal(described, value)
    assert wanted == expected
    assert decoder(described, str)(orjson.loads(orjson.dumps(encode(described, wanted)))) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", 1), ("string", None), ("integer", True), ("integer", "1"), ("boolean", 1), (OPTIONAL, 10),
        (OPTIONAL, (1, 2)), (MAP, "a"), (MAP, {1: "a"}), (STRINGS, (Ref(UUID),)), ({"key": "uuid"}, UUID),
        ({"key": {"type": "string", "enum": ["set", ["a", "b"]]}}, "c"),
        ({"key": "string", "min": 1, "max": "unlimited"}, ()),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(kind: Any, value: Any) -> None:
    with pytest.raises(BadValue, match=r"T\.c"):
        normal(column(kind), value)
