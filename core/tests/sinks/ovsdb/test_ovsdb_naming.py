"""What a match names is a reference: written before it or with it, deleted after it or with it."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.identity import RowId
from ovnkit.api.items import Ref, Row, Slot
from ovnkit.api.matches import Match, address_set, all_of, any_of, joined, port_group
from ovnkit.testing.namewatch import NameWatch
from ovnkit.testing.ovsdb import OvsdbServer

GROUP = RowId("test", "things", "policy", "group")


def peers(number: int) -> RowId:
    return RowId("test", "things", f"set{number}", "set")


def a_set(number: int) -> Row:
    return Row("Address_Set", "set", {"name": f"s{number}", "addresses": (f"10.0.0.{number}",)})


def policy(*numbers: int, match: Match | str | None = None) -> list[Row]:
    """A port group with one ACL that names sets."""
    names = joined(", ", (address_set(f"s{number}", peers(number)) for number in numbers))
    text = all_of("ip4.src == {" + names + "}", "outport == " + port_group("g", GROUP))
    return [
        Row("Port_Group", "group", {"name": "g"}),
        acl("acl", text if match is None else match),
    ]


def acl(name: str, match: Match | str) -> Row:
    columns: dict[str, Any] = {"priority": 1, "direction": "to-lport", "match": match, "action": "drop"}
    return Row("ACL", name, columns, Slot("Port_Group", GROUP, "acls"))


def matches(nb: OvsdbServer) -> list[str]:
    return sorted(row["match"] for row in nb.rows("ACL"))


def sets(nb: OvsdbServer) -> set[str]:
    return {row["name"] for row in nb.rows("Address_Set")}


@pytest.fixture
def rig(nb: OvsdbServer, rigs: Any) -> Any:
    made = rigs(nb.endpoint, batch_rows=2)
    made.watch = NameWatch(made.sink)
    return made


def test_a_match_and_its_sets_come_in_one_transaction(nb: OvsdbServer, rig: Any) -> None:
    rig.want("policy", *policy(1, 2, 3))
    for number in (1, 2, 3):
        rig.want(f"set{number}", a_set(number))
    rig.quiet()
    assert matches(nb) == ["ip4.src == {$s1, $s2, $s3} && outport == @g"]
    assert rig.watch.all_faults() == []


def test_a_match_waits_for_a_set_that_comes_later(nb: OvsdbServer, rig: Any) -> None:
    rig.want("set1", a_set(1))
    rig.want("policy", *policy(1))
    rig.quiet()
    rig.want("policy", *policy(1, 2))
    rig.want("other", Row("Address_Set", "set", {"name": "other"}))
    rig.quiet()
    assert matches(nb) == ["ip4.src == {$s1} && outport == @g"]
    assert "other" in sets(nb), "what doesn't name it goes on"
    rig.want("set2", a_set(2))
    rig.quiet()
    assert matches(nb) == ["ip4.src == {$s1, $s2} && outport == @g"]
    assert rig.watch.all_faults() == []


def test_a_name_that_is_no_reference_is_found_by_the_testing_kit(nb: OvsdbServer, rig: Any) -> None:
    rig.want("policy", *policy(match="ip4.src == $s1"))
    rig.want("set1", a_set(1))
    rig.quiet()
    (early, undeclared) = rig.watch.all_faults()
    assert early == "'ip4.src == $s1' is written and names $s1, which isn't there"
    assert "test/things/policy/acl" in undeclared


def test_a_set_goes_when_no_naming_it_any_more(nb: OvsdbServer, rig: Any) -> None:
    rig.want("set1", a_set(1))
    rig.want("set2", a_set(2))
    rig.want("policy", *policy(1))
    rig.quiet()
    rig.want("set1")
    rig.quiet()
    assert sets(nb) == {"s1", "s2"}
    rig.want("policy", *policy(2))
    rig.quiet()
    assert sets(nb) == {"s2"}
    assert matches(nb) == ["ip4.src == {$s2} && outport == @g"]
    assert rig.watch.all_faults() == []


def test_sets_go_after_the_matches_of_rows_that_go_too(nb: OvsdbServer, rig: Any) -> None:
    numbers = range(1, 8)
    for number in numbers:
        rig.want(f"set{number}", a_set(number))
    rig.want("policy", *policy(*numbers))
    rig.quiet()
    for number in numbers:
        rig.want(f"set{number}")
    rig.want("policy")
    rig.quiet()
    assert sets(nb) == set()
    assert matches(nb) == []
    assert rig.watch.all_faults() == []


def test_a_restart_finds_leftovers_in_any_order(nb: OvsdbServer, rig: Any, rigs: Any) -> None:
    for number in range(1, 6):
        rig.want(f"set{number}", a_set(number))
    rig.want("policy", *policy(1, 2, 3, 4, 5))
    rig.quiet()
    rig.stop()
    again = rigs(nb.endpoint, batch_rows=2, settle=False)
    watch = NameWatch(again.sink)
    again.want("policy", *policy(5))
    again.want("set5", a_set(5))
    again.sink.settle()
    again.quiet()
    assert sets(nb) == {"s5"}
    assert watch.all_faults() == []


def test_a_match_of_somebody_else_holds_a_set(nb: OvsdbServer, rig: Any) -> None:
    rig.want("set1", a_set(1))
    rig.quiet()
    theirs = {"name": "theirs", "acls": ["named-uuid", "acl"]}
    row = {"priority": 1, "direction": "to-lport", "match": "ip4.src == $s1", "action": "drop"}
    nb.transact(
        "OVN_Northbound",
        [{"op": "insert", "table": "ACL", "uuid-name": "acl", "row": row},
         {"op": "insert", "table": "Port_Group", "row": theirs}],
    )  # fmt: skip
    rig.sync()
    rig.want("set1")
    rig.quiet()
    assert sets(nb) == {"s1"}
    nb.transact("OVN_Northbound", [{"op": "delete", "table": "Port_Group", "where": [["name", "==", "theirs"]]}])
    rig.loop.until(lambda: sets(nb) == set())


def test_a_name_that_matches_have_stays(nb: OvsdbServer, rig: Any) -> None:
    rig.want("set1", a_set(1))
    rig.want("policy", *policy(1))
    rig.quiet()
    rig.want("set1", Row("Address_Set", "set", {"name": "renamed"}))
    rig.quiet()
    assert sets(nb) == {"s1"}
    assert [str(error) for _, error in rig.reports] == ["Address_Set 's1' is named by other rows"]
    rig.want("policy")
    rig.quiet()
    assert sets(nb) == {"renamed"}


@pytest.mark.parametrize(
    "text",
    ["ip6.dst == fd00::%lan/64", "ip4.src == {}", "tcp.dst == 70000", "ip4 && (tcp || udp", "ip4) || (ip4", ""],
)
def test_a_match_that_ovn_cannot_parse_is_refused_and_nothing_else(nb: OvsdbServer, rig: Any, text: str) -> None:
    rig.want("policy", *policy(match=text), acl("good", "ip4"))
    rig.want("other", a_set(9))
    rig.quiet()
    assert matches(nb) == ["ip4"]
    assert sets(nb) == {"s9"}
    ((owner, error),) = {(owner.key, str(error)) for owner, error in rig.reports}
    assert owner == "policy"
    assert f"OVN can't parse {text!r}" in error
    assert "test/things/policy" in rig.sink.status()["failing"]
    rig.want("policy", *policy(match="ip6"), acl("good", "ip4"))
    rig.quiet()
    assert matches(nb) == ["ip4", "ip6"]
    assert not rig.sink.status()["failing"]


def test_a_bad_match_leaves_the_row_as_it_was(nb: OvsdbServer, rig: Any) -> None:
    rig.want("policy", *policy(match="ip4"))
    rig.quiet()
    rig.want("policy", *policy(match="ip4 &&"))
    rig.quiet()
    assert matches(nb) == ["ip4"]


def test_a_meter_comes_before_an_acl_that_logs_and_goes_after_it(nb: OvsdbServer, rig: Any) -> None:
    row = RowId("test", "things", "meter", "meter")
    band = RowId("test", "things", "meter", "band")
    meter = [
        Row("Meter", "meter", {"name": "m", "unit": "pktps", "bands": (Ref.to(band),)}),
        Row("Meter_Band", "band", {"action": "drop", "rate": 1}),
    ]

    def logged(log: bool) -> list[Row]:
        named = Match("m", frozenset((row.uuid,))) if log else "m"
        (group, plain) = policy(match="ip4")
        return [group, evolve(plain, columns={**plain.columns, "meter": named, "log": log, "severity": "info"})]

    def log() -> list[bool]:
        return [found["log"] for found in nb.rows("ACL")]

    rig.want("policy", *logged(False))
    rig.quiet()
    assert log() == [False]
    rig.want("policy", *logged(True))
    rig.quiet()
    assert log() == [False], "it waits"
    rig.want("meter", *meter)
    rig.quiet()
    assert log() == [True]
    rig.want("meter")
    rig.quiet()
    assert len(nb.rows("Meter")) == 1
    rig.want("policy", *logged(False))
    rig.quiet()
    assert nb.rows("Meter") == []
    assert rig.watch.all_faults() == []


def test_parts_keep_their_names() -> None:
    one, two = address_set("a", peers(1)), address_set("b", peers(2))
    found = all_of(any_of(["ip4.src == " + one, "ip4.dst == " + two]), "", any_of(["tcp"]))
    assert str(found) == "(ip4.src == $a || ip4.dst == $b) && tcp"
    assert found.names == {peers(1).uuid, peers(2).uuid}
