"""Text from objects: what is accepted, what is refused, and that what is printed is read back as the same."""

from __future__ import annotations

import ipaddress
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ovnkit.api import flows, nft, text
from ovnkit.network.addresses import AddressRange

HOSTILE = [
    "", " ", "1", "10.0.0.5 ", " 10.0.0.5", "10.0.0.5\n", "10.0.0.05", "10.0.0", "10.0.0.5.6", "0x0a000005",
    "\u0661\u0660.0.0.5", "10.0.0.5%eth0", "fd00::60%x", "fd00::60%", "fd00::%lan", "fe80::1%eth0",
    "[fd00::1]",
    "fd00::1::", "::ffff:10.0.0.5", "::ffff:a00:5", "10.0.0.5; drop", '10.0.0.5"', "10.0.0.5\x00",
    "f" * 100_000, 5, None, True,
    ["10.0.0.5"], "fd00::\N{FULLWIDTH DIGIT ONE}", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:20])
def test_what_is_no_address_is_refused_in_one_line(value: Any) -> None:
    readers = (text.parse_address, text.parse_host, text.parse_interface, text.parse_network, text.parse_mac)
    with_length = f"{value}/64" if isinstance(value, str) else value
    for parse in readers:
        for given_text in (value, with_length):
            with pytest.raises(ValueError, match=r"^.+$") as caught:
                parse(given_text)
            message = str(caught.value)
            assert message.isprintable()
            assert len(message) < 200


@pytest.mark.parametrize(
    "value",
    ["10.0.0.0/255.0.0.0", "10.0.0.0/0.255.255.255", "10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/33", "10.0.0.0/",
     "10.0.0.0/8/8", "10.0.0.0", "fd00::%lan/64", "fd00::/64%lan", "fd00::/129", "fd00::/1_6",
     "fd00::/\u0666\u0664", "::ffff:10.0.0.0/104", "10.0.0.0/8\n", "/8"],
)  # fmt: skip
def test_what_is_no_network_is_refused(value: str) -> None:
    for parse in (text.parse_network, text.parse_interface):
        with pytest.raises(ValueError, match=r"."):
            parse(value)


def test_networks_are_cleared_behind_their_prefix_or_refused() -> None:
    assert str(text.parse_network("10.1.2.3/8")) == "10.0.0.0/8"
    assert str(text.parse_network("FD00::1/64")) == "fd00::/64"
    with pytest.raises(ValueError, match=r"the network is 10\.0\.0\.0/8"):
        text.parse_network("10.1.2.3/8", strict=True)


def test_an_address_with_or_without_length() -> None:
    assert str(text.parse_host("10.1.2.3")) == str(text.parse_host("10.1.2.3/24")) == "10.1.2.3"
    for value in ("10.1.2.3/33", "fd00::1/129", "fd00::1%x/64", "10.1.2.3/"):
        with pytest.raises(ValueError, match=r"."):
            text.parse_host(value)


@pytest.mark.parametrize(
    "value",
    [
        "0a:58:0a:80:01",
        "0a-58-0a-80-01-05",
        "0a58.0a80.0105",
        "0a:58:0a:80:01:0g",
        "drop",
        "0a:58:0a:80:01:05\n",
        "\u0966a:58:0a:80:01:05",
        5,
    ],
)
def test_what_is_no_mac_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a MAC address"):
        text.parse_mac(value)
    assert text.parse_mac("0A:58:0a:80:01:05", unicast=True) == "0a:58:0a:80:01:05"
    for group in ("01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"):
        with pytest.raises(ValueError, match="not a unicast MAC"):
            text.parse_mac(group, unicast=True)


@pytest.mark.parametrize(
    "value", ["", "-1", "+1", " 1", "1 ", "1_0", "01", "1.0", "1e3", "\u0663", "70000", "9" * 5000, 80, None]
)
def test_what_is_no_port_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a number from 1 to 65535"):
        text.parse_port(value)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 65536, [1], 10**30, float("nan")])
def test_a_number_of_json_is_an_integer_in_its_range(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a number from 1 to 65535"):
        text.check_port(value)


@pytest.mark.parametrize(
    "value",
    [
        '{"x":NaN}',
        "Infinity",
        "-Infinity",
        "1e400",
        r'"\ud800"',
        '"\ud800"',
        "'x'",
        "",
        "[1,]",
        "[" * 5000,
        "01",
        "\ufeff{}",
        '"\x01"',
    ],
)
def test_what_is_no_json_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^not JSON: "):
        text.parse_json(value)


@pytest.mark.parametrize("value", ["\ud800", {"x": object()}, 2**65])
def test_what_json_cannot_say_is_not_printed(value: Any) -> None:
    with pytest.raises(TypeError):
        text.print_json(value)


@pytest.mark.parametrize(
    "value",
    ["", "2026-01-31", "2026-01-31T12:00:00", "9999-12-31T23:59:59Z",
     "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z",
     "2026-01-31 12:00:00Z", "2026-W01-1T00:00:00Z", "20260131T120000Z", "2026-01-31T12:00:00Z\n", 5, None],
)  # fmt: skip
def test_what_is_no_moment_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a time like"):
        text.parse_moment(value)
    moment = text.parse_moment("2026-01-31T12:00:00.5+02:00")
    assert text.parse_moment(moment.isoformat()) == moment


# -- members of an object that several write ------------------------------------------------------------------

BROKEN = [
    "NaN",
    '{"x":NaN}',
    "[Infinity]",
    "1e400",
    r'"\ud800"',
    "[" * 2000 + "]" * 2000,
    "what",
    "{]",
    "18446744073709551616",
]


@pytest.mark.parametrize("foreign", BROKEN, ids=lambda value: value[:20])
@pytest.mark.parametrize("order", [1, -1])
def test_a_broken_member_hides_no_other_and_is_kept(foreign: str, order: int) -> None:
    parts = ['"default": {"a":[1,"}\\",:{"]}', f'"o/net" : {foreign}']
    given_text = " {" + " , ".join(parts[::order]) + "}\n"
    assert text.json_member(given_text, "default") == {"a": [1, '}",:{']}
    found = text.JsonMembers.parse(given_text)
    assert str(found.having("default", 7)) == f'{{"default":7,"o/net":{foreign}}}'
    assert str(found.without("default")) == f'{{"o/net":{foreign}}}'
    assert text.json_member(given_text, "none") is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "[]",
        '"default"',
        "{",
        "}",
        '{"a"}',
        '{"a":}',
        "{:1}",
        "{,}",
        '{"a":1}x',
        '{"a":1:2}',
        '{"a',
        '{"a":"',
    ],
)
def test_what_is_no_object_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"not a JSON object|not JSON"):
        text.JsonMembers.parse(value)
    with pytest.raises(ValueError, match=r"not a JSON object|not JSON"):
        text.json_member(value, "a")


def test_of_two_equal_keys_the_last_counts_as_in_every_parser() -> None:
    value = r'{"def\u0061ult":1,"default":2,"x":NaN}'
    assert text.json_member(value, "default") == 2
    assert text.json_member(r'{"default":1,"def\u0061ult":2}', "default") == 2


@pytest.mark.parametrize(
    "value", ['{"a":' + "[" * 250_000, '{"a":' + '"\\' * 125_000, '{"a":' + "\\" * 250_000 + '"', "{" * 250_000]
)
def test_a_long_text_costs_no_more_than_its_length(value: str) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        text.json_member(value, "a")
    assert time.process_time() - began < 1


# -- round trips ----------------------------------------------------------------------------------------------

WORDS = some.text(some.characters(exclude_categories=["Cs"]))
VALUES = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(2**63), 2**64 - 1)
    | some.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: some.lists(inner) | some.dictionaries(WORDS, inner),
    max_leaves=10,
)


@given(some.ip_addresses())
def test_addresses_are_printed_and_read_back(address: Any) -> None:
    try:
        assert text.parse_address(str(address)) == text.parse_host(str(address)) == address
    except ValueError:
        assert address.ipv4_mapped is not None
        return
    network = text.host_network(address)
    assert text.parse_network(str(network), strict=True) == network
    for length in range(1, address.max_prefixlen + 1, 7):
        interface = ipaddress.ip_interface(f"{address}/{length}")
        assert text.parse_interface(str(interface)) == interface
        assert text.parse_host(str(interface)) == address
        if getattr(interface.network.network_address, "ipv4_mapped", None) is None:
            assert text.parse_network(str(interface.network), strict=True) == interface.network


@given(some.text(some.sampled_from("0123456789abcdefg:.%/ _-\n\u0661")))
def test_what_is_read_is_printed_without_a_doubt(value: str) -> None:
    for parse in (text.parse_address, text.parse_interface, text.parse_network, text.parse_mac):
        try:
            found = parse(value)
        except ValueError:
            continue
        assert set(str(found)) <= set("0123456789abcdef:./")
        assert parse(str(found)) == found


@given(VALUES)
def test_json_is_printed_and_read_back(value: Any) -> None:
    printed = text.print_json(value)
    assert text.parse_json(printed) == value
    assert json.loads(printed) == value
    assert "\n" not in printed
    as_members = text.JsonMembers.parse(text.print_json({"a": value, "b": 1}))
    assert as_members.get("a") == value
    assert json.loads(str(as_members.having("c", value))) == {"a": value, "b": 1, "c": value}


def test_a_message_is_short_however_deep_and_long_its_value_is() -> None:
    deep: Any = "x"
    for _ in range(1000):
        deep = [deep]
    for value in (deep, {"a": deep}, "x\n" * 10_000, ["a" * 1000] * 1000, "\ud800", b"x" * 1000):
        shown = text.quoted(value)
        assert len(shown) <= 80
        assert shown.isprintable()
        with pytest.raises(ValueError, match="is not an IP address"):
            text.parse_address(value)


# -- guards behind the parser ---------------------------------------------------------------------------------


def test_an_address_with_a_zone_id_is_in_no_pool() -> None:
    subnet = ipaddress.IPv6Network("fd00::/64")
    assert ipaddress.IPv6Address("fd00::60") in AddressRange(subnet, 3)
    assert ipaddress.IPv6Address("fd00::60%x") not in AddressRange(subnet, 3)


def test_flows_and_nft_elements_take_no_zone_id() -> None:
    """Whoever made the item: printed, the zone id would break what it is applied with."""
    address, network = ipaddress.IPv6Address("fd00::1%x"), ipaddress.IPv6Network("fd00::%x/64")
    for refused in (
        lambda: flows.Match(protocol=flows.Protocol.IPV6, source=network),
        lambda: flows.Match(protocol=flows.Protocol.ICMP6, nd_target=address),
        lambda: flows.Nat(target=address),
        lambda: nft.NftElement("a", (network,)),
        lambda: nft.NftElement("a", (1,), (address, 80)),
        lambda: nft.Match((nft.Selector.IPV6_SOURCE,), address),
        lambda: nft.Snat(address),
        lambda: nft.DnatChoice(((address, 80),)),
    ):
        with pytest.raises(ValueError, match="has a zone id"):
            refused()
