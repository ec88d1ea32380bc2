"""Requests: what is taken, and what the error object says of what is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnkit_cni import bandwidth
from ovnkit_cni.wire import CniError, decode, parse

CONFIG = {"cniVersion": "1.1.0", "name": "ovn-kubernetes", "type": "ovn-k8s-cni-overlay"}
ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "abc123",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u1",
}


def test_a_request() -> None:
    request = parse(ENV, json.dumps(CONFIG).encode())
    assert (request.pod_key, request.uid, request.sandbox, request.ifname) == ("shop/web", "u1", "abc123", "eth0")
    assert 115 < request.left <= 120


@pytest.mark.parametrize(
    ("env", "config", "code"),
    [
        ({"CNI_COMMAND": ""}, CONFIG, 4),
        ({"CNI_COMMAND": "UPDATE"}, CONFIG, 4),
        ({"CNI_CONTAINERID": ""}, CONFIG, 4),
        ({"CNI_CONTAINERID": "../etc"}, CONFIG, 4),
        ({"CNI_IFNAME": "a" * 16}, CONFIG, 4),
        ({"CNI_IFNAME": "a/b"}, CONFIG, 4),
        ({"CNI_IFNAME": ".."}, CONFIG, 4),
        ({"CNI_IFNAME": "eth%d"}, CONFIG, 4),
        ({"CNI_IFNAME": "é" * 8}, CONFIG, 4),
        ({"CNI_NETNS": ""}, CONFIG, 4),
        ({"CNI_ARGS": "K8S_POD_NAME"}, CONFIG, 4),
        ({"CNI_ARGS": ""}, CONFIG, 4),
        ({"CNI_ARGS": "K8S_POD_NAMESPACE=../x;K8S_POD_NAME=web"}, CONFIG, 4),
        ({}, [], 6),
        ({}, CONFIG | {"name": ""}, 7),
        ({}, CONFIG | {"name": 5}, 7),
        ({}, CONFIG | {"mtu": "1400"}, 7),
        ({}, CONFIG | {"mtu": 100}, 7),
        ({}, CONFIG | {"mtu": True}, 7),
        ({}, CONFIG | {"cniVersion": "2.0.0"}, 1),
        ({}, CONFIG | {"cniVersion": [1]}, 1),
        ({"CNI_COMMAND": "CHECK"}, CONFIG | {"cniVersion": "0.3.1"}, 1),
        ({"CNI_COMMAND": "GC"}, CONFIG | {"cniVersion": "1.0.0"}, 1),
        ({"CNI_COMMAND": "STATUS"}, CONFIG | {"cniVersion": "1.0.0"}, 1),
    ],
)
def test_malformed(env: dict[str, str], config: Any, code: int) -> None:
    with pytest.raises(CniError) as caught:
        parse(ENV | env, json.dumps(config).encode())
    assert caught.value.code == code
    assert "\n" not in caught.value.message


def test_del_needs_neither_pod_nor_namespace() -> None:
    env = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "abc", "CNI_IFNAME": "eth0"}
    assert parse(env, json.dumps(CONFIG).encode()).pod_key == "/"


@given(st.binary(max_size=200))
def test_any_bytes_as_configuration(raw: bytes) -> None:
    with pytest.raises(CniError):
        parse(ENV, raw)


@given(st.binary(max_size=200) | st.from_regex(rb"\{.*\}", fullmatch=True))
def test_any_bytes_as_a_request(raw: bytes) -> None:
    with pytest.raises(CniError):
        decode(raw)


@given(st.dictionaries(st.sampled_from([*ENV, "OTHER"]), st.text(max_size=30)))
def test_any_environment(env: dict[str, str]) -> None:
    body = json.dumps({"env": env, "config": base64.b64encode(json.dumps(CONFIG).encode()).decode()})
    found, config = decode(body.encode())
    code = 0
    try:
        parse(found, config)
    except CniError as error:
        code = error.code
    assert code in (0, 1, 4, 6, 7)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10M", 10**7),
        ("1k", 1000),
        ("1Ki", 1024),
        ("0.5G", 5 * 10**8),
        ("1e6", 10**6),
        ("1P", 10**15),
        ("2000000m", 2000),
    ],
)
def test_bandwidth(text: str, value: int) -> None:
    found = bandwidth.of_pod({bandwidth.INGRESS: text})
    assert found == bandwidth.Bandwidth(ingress=value)


@pytest.mark.parametrize("text", ["", "999", "2P", "-5M", "10 M", "10MB", "0x10", "1e99", "nan", "\u0661k"])
def test_bandwidth_that_is_none(text: str) -> None:
    with pytest.raises(CniError, match="egress-bandwidth"):
        bandwidth.of_pod({bandwidth.EGRESS: text})
