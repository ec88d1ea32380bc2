"""The annotation `k8s.ovn.org/pod-networks`."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnkit.api.errors import Reject
from ovnkit.network.pod import PodNetwork, parse, render, without

DUAL = PodNetwork(
    (ip_interface("10.128.1.5/24"), ip_interface("fd00:10:244:2::5/64")),
    "0a:58:0a:80:01:05",
    (ip_address("10.128.1.1"), ip_address("fd00:10:244:2::1")),
    ((ip_network("10.128.0.0/14"), ip_address("10.128.1.1")), (ip_network("169.254.169.5/32"), None)),
)
SINGLE = PodNetwork(DUAL.ip_addresses[:1], DUAL.mac_address, DUAL.gateway_ips[:1])


def test_the_text_is_upstreams() -> None:
    assert json.loads(render(None, "default", SINGLE)) == {
        "default": {
            "ip_addresses": ["10.128.1.5/24"],
            "mac_address": "0a:58:0a:80:01:05",
            "gateway_ips": ["10.128.1.1"],
            "ip_address": "10.128.1.5/24",
            "gateway_ip": "10.128.1.1",
            "role": "primary",
        }
    }
    dual = json.loads(render(None, "default", DUAL))["default"]
    assert "ip_address" not in dual
    assert "gateway_ip" not in dual
    assert dual["routes"][0] == {"dest": "10.128.0.0/14", "nextHop": "10.128.1.1"}


@pytest.mark.parametrize("value", [SINGLE, DUAL], ids=["single", "dual"])
def test_what_was_written_is_read(value: PodNetwork) -> None:
    assert parse(render(None, "default", value)) == value


def test_other_networks_are_kept() -> None:
    other = {"ns/blue": {"ip_addresses": ["192.0.2.5/24"], "tunnel_id": 7, "later": [1]}}
    text = render(json.dumps(other), "default", SINGLE)
    assert json.loads(text)["ns/blue"] == other["ns/blue"]
    assert render(text, "default", SINGLE) == text
    assert json.loads(without(text, "default") or "") == other
    assert without(render(None, "default", SINGLE), "default") is None
    assert parse(json.dumps(other)) is None
    assert parse(None) is None
    assert parse("") is None


def test_text_of_old_versions() -> None:
    raw = {"default": {"ip_address": "10.1.0.5/24", "mac_address": "0A:58:0a:01:00:05", "gateway_ip": "10.1.0.1"}}
    found = parse(json.dumps(raw))
    assert found is not None
    assert found.ip_addresses == (ip_interface("10.1.0.5/24"),)
    assert found.mac_address == "0a:58:0a:01:00:05"
    assert found.gateway_ips == (ip_address("10.1.0.1"),)
    assert found.role == "primary"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ip_addresses": []}, "empty"),
        ({"ip_addresses": None, "ip_address": ""}, "empty"),
        ({"ip_addresses": "10.128.1.5/24"}, "not a list of strings"),
        ({"ip_addresses": [5]}, "not a list of strings"),
        ({"ip_addresses": ["10.128.1.5"]}, "with a prefix length"),
        ({"ip_addresses": ["10.128.1.300/24"]}, "300"),
        ({"ip_addresses": ["10.128.1.5/24", "10.128.1.6/24"]}, "two addresses of one family"),
        ({"ip_addresses": ["224.0.0.1/24"]}, "no address for a pod"),
        ({"ip_addresses": ["127.0.0.1/8"]}, "no address for a pod"),
        ({"ip_addresses": ["0.0.0.0/0"]}, "no address for a pod"),
        ({"ip_addresses": ["fe80::1%eth0/64"]}, ""),
        ({"mac_address": None}, "not a MAC address"),
        ({"mac_address": "0a:58:0a:80:01"}, "not a MAC address"),
        ({"mac_address": "0a:58:0a:80:01:05\n"}, "not a MAC address"),
        ({"mac_address": "01:00:5e:00:00:01"}, "not a unicast MAC address"),
        ({"mac_address": "00:00:00:00:00:00"}, "not a unicast MAC address"),
        ({"gateway_ips": ["10.128.1.5"]}, "pod's own address"),
        ({"gateway_ips": ["10.128.1.1", "10.128.1.2"]}, "two addresses of one family"),
        ({"gateway_ips": ["fd00::1"]}, "family the pod has no address in"),
        ({"gateway_ips": ["203.0.113.1"]}, "not in 10.128.1.0/24"),
        ({"routes": {}}, None),
        ({"routes": "x"}, "not a list"),
        ({"routes": [{"nextHop": "10.128.1.1"}]}, "without dest"),
        ({"routes": [{"dest": "0.0.0.0/0", "nextHop": "10.128.1.1"}]}, "default route"),
        ({"routes": [{"dest": "10.0.0.5/8", "nextHop": "10.128.1.1"}]}, "host bits"),
        ({"routes": [{"dest": "fd00::/64", "nextHop": "10.128.1.1"}]}, "other family"),
        ({"routes": [{"dest": "10.0.0.0/8", "nextHop": 5}]}, "not a string"),
        ({"routes": [{"dest": "10.0.0.0/8", "nextHop": "203.0.113.1"}]}, "not in 10.128.1.0/24"),
        ({"role": "boss"}, "one of primary"),
    ],
)
def test_nonsense_is_named(change: dict[str, Any], words: str | None) -> None:
    raw = {"ip_addresses": ["10.128.1.5/24"], "mac_address": "0a:58:0a:80:01:05", "gateway_ips": ["10.128.1.1"]}
    text = json.dumps({"default": raw | change})
    if words is None:
        assert parse(text) is not None
        return
    with pytest.raises(Reject) as caught:
        parse(text)
    assert "k8s.ovn.org/pod-networks: default: " in caught.value.message
    assert words in caught.value.message
    assert caught.value.reason == "InvalidPodNetworks"


@pytest.mark.parametrize("text", ["{", "[]", "5", '"x"', '{"default": 5}', '{"default": null}', "[" * 100_000])
def test_no_object(text: str) -> None:
    with pytest.raises(Reject):
        parse(text)
    if not text.startswith("{") or text == "{":
        with pytest.raises(Reject):
            render(text, "default", SINGLE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["ip_addresses", "ip_address", "mac_address", "gateway_ips", "gateway_ip", "routes", "role"]
)


@given(st.dictionaries(fields, json_values))
def test_whatever_is_there_it_is_read_or_rejected(change: dict[str, Any]) -> None:
    raw = {"ip_addresses": ["10.128.1.5/24"], "mac_address": "0a:58:0a:80:01:05"}
    try:
        found = parse(json.dumps({"default": raw | change}))
    except Reject:
        return
    assert found is not None
    assert parse(render(None, "default", found)) == found
