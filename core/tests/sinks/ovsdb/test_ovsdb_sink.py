"""The sink against a real ovsdb-server: what a reader of the database sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.identity import OWNER_KEY, RowId
from ovnkit.api.items import Absent, Lookup, Member, Ref, Row, Slot
from ovnkit.api.live import LiveSet
from ovnkit.api.models import PODS
from ovnkit.engine.sink import Owner
from ovnkit.sinks.ovsdb.wire.errors import BadValue, Contested, MissingSchema, NameTaken
from ovnkit.testing.ovsdb import DEBIAN_13, OvsdbServer, schema_path


def row_id(owner: str, name: str) -> RowId:
    return RowId("test", "things", owner, name)


SWITCH = row_id("sw", "switch")


def switch(**columns: Any) -> Row:
    return Row("Logical_Switch", "switch", {"name": "n1", **columns})


def port(name: str, **columns: Any) -> Row:
    return Row("Logical_Switch_Port", "lsp", {"name": name, **columns}, Slot("Logical_Switch", SWITCH, "ports"))


def ids(row: dict[str, Any]) -> dict[str, str]:
    return dict(row["external_ids"][1])


def elements(value: Any) -> set[Any]:
    values = value[1] if isinstance(value, list) and value[0] == "set" else [value]
    return {v[1] if isinstance(v, list) else v for v in values}


def by_name(server: Any, table: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in server.rows(table)}


def test_child_waits_for_parent_and_carries_provenance(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    rig.want("ns/p", port("ns_p", addresses=("0a:58:0a:80:00:05 10.128.0.5",)))
    rig.quiet()
    assert nb.rows("Logical_Switch_Port") == []
    status = rig.sink.status()
    assert status["waiting"] == 1
    (waits,) = status["waits"]
    assert 0 <= time.time() - waits.pop("since") < 30
    assert waits == {
        "owner": "test/things/ns/p",
        "item": "Logical_Switch_Port lsp",
        "wants": "row test/things/sw/switch, which nobody here writes",
    }
    rig.want("sw", switch())
    rig.quiet()
    (found,) = nb.rows("Logical_Switch_Port")
    assert found["_uuid"] == row_id("ns/p", "lsp").uuid
    assert ids(found) == {OWNER_KEY: "test/things/ns/p/lsp"}
    (parent,) = nb.rows("Logical_Switch")
    assert elements(parent["ports"]) == {found["_uuid"]}
    assert rig.sink.transactions == 1
    assert (rig.sink.status()["waiting"], rig.sink.status()["waits"]) == (0, [])


def test_whatever_waits_says_for_what(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    """A row for a row it refers to, a member for its row, a look-up, a row that only a reference would keep."""
    rig = rigs(nb.endpoint)
    group = row_id("g", "group")
    rig.want("router", Row("Logical_Router", "router", {"name": "r", "load_balancer_group": (Ref.to(group),)}))
    rig.want("sw", switch())
    rig.want("member", Member(Slot("Logical_Switch", SWITCH, "load_balancer_group"), Ref.to(group)))
    rig.want(
        "lookup", Member(Slot("Logical_Router", Lookup("Logical_Router", "name", "strange"), "options"), "x", "k")
    )
    rig.want("acl", Row("ACL", "acl", {"direction": "to-lport", "match": "1", "action": "drop", "priority": 1}))
    rig.quiet()
    told = {waits["owner"]: (waits["item"], waits["wants"]) for waits in rig.sink.status()["waits"]}
    assert told == {
        "test/things/router": ("Logical_Router router", "row test/things/g/group, which nobody here writes"),
        "test/things/member": (
            "a value of Logical_Switch.load_balancer_group of test/things/sw/switch",
            "row test/things/g/group, which nobody here writes",
        ),
        "test/things/lookup": ("a value of column options", "Logical_Router with name strange"),
        "test/things/acl": ("ACL acl", "a row that refers to test/things/acl/acl"),
    }
    rig.want("g", Row("Load_Balancer_Group", "group", {"name": "g"}))
    rig.want("lookup")
    rig.want("acl")
    rig.quiet()
    assert rig.sink.status()["waits"] == []


def test_a_member_of_what_another_owns_is_told(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    """A key of a map, and a scalar; whoever loses is told, and told when it is over."""
    rig = rigs(nb.endpoint)
    rig.want("sw", switch(other_config={"mcast_snoop": "true"}))
    key = rig.want("key", Member(Slot("Logical_Switch", SWITCH, "other_config"), "false", "mcast_snoop"))
    name = rig.want("name", Member(Slot("Logical_Switch", SWITCH, "name"), "n2"))
    same = rig.want("same", Member(Slot("Logical_Switch", SWITCH, "other_config"), "true", "mcast_snoop"))
    rig.want("other", Member(Slot("Logical_Switch", SWITCH, "other_config"), "10.0.0.0/24", "subnet"))
    rig.quiet()
    (row,) = nb.rows("Logical_Switch")
    assert (row["name"], dict(row["other_config"][1])) == ("n1", {"mcast_snoop": "true", "subnet": "10.0.0.0/24"})
    told = dict(rig.reports)
    assert {owner: type(error) for owner, error in told.items()} == {name: Contested, key: Contested}
    assert str(told[key]) == (
        "Logical_Switch test/things/sw/switch, other_config:mcast_snoop: 'false' is not written: "
        "test/things/sw decides"
    )
    rig.reports.clear()
    rig.want("sw", switch())
    rig.quiet()
    assert dict(nb.rows("Logical_Switch")[0]["other_config"][1])["mcast_snoop"] == "false"
    assert {owner: type(error) for owner, error in rig.reports} == {same: Contested, key: type(None)}


def test_a_refusal_is_over_once_the_rows_are_written(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    """Two owners want one name: when the first has gone, nothing is refused any more."""
    rig = rigs(nb.endpoint)
    rig.want("one", Row("Address_Set", "set", {"name": "a"}))
    rig.quiet()
    loser = rig.want("two", Row("Address_Set", "set", {"name": "a"}))
    rig.quiet()
    assert [(owner, type(error)) for owner, error in rig.reports] == [(loser, NameTaken)]
    rig.want("one")
    rig.quiet()
    assert rig.reports[1:] == [(loser, None)]
    assert rig.sink.status()["failing"] == {}


def test_unwanted_rows_go_and_return_when_parent_returns(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    rig.want("sw", switch())
    rig.want("p", port("p"))
    rig.quiet()
    rig.want("sw")
    rig.quiet()
    assert nb.rows("Logical_Switch") == nb.rows("Logical_Switch_Port") == []
    rig.want("sw", switch())
    rig.quiet()
    assert len(nb.rows("Logical_Switch_Port")) == 1


def test_what_one_owner_changes_is_one_transaction_whatever_its_size(
    nb: OvsdbServer, rigs: Callable[..., Any]
) -> None:
    rig = rigs(nb.endpoint, batch_rows=3)

    def sets(text: str) -> list[Row]:
        return [Row("Address_Set", f"{i}", {"name": f"as{i}", "addresses": frozenset({text})}) for i in range(8)]

    rig.want("big", *sets("192.0.2.1"))
    rig.want("other", Row("Address_Set", "x", {"name": "x"}))
    rig.quiet()
    before = rig.sink.transactions
    rig.want("other", Row("Address_Set", "x", {"name": "x", "addresses": frozenset({"192.0.2.9"})}))
    rig.want("big", *sets("192.0.2.2"))
    rig.want("more", Row("Address_Set", "y", {"name": "y"}))
    seen: list[set[str]] = []
    transact = rig.session.transact
    rig.session.transact = lambda ops, done: (seen.append({str(op["where"]) for op in ops if "where" in op}),  # type: ignore[func-returns-value]
                                              transact(ops, done))  # fmt: skip
    rig.quiet()
    assert rig.sink.transactions - before == 2
    assert len(max(seen, key=len)) == 9, "the first change and all of the big owner's, past the limit"


def test_restart_writes_nothing_and_settle_removes_leftovers(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    first = rigs(nb.endpoint)
    first.want("sw", switch(other_config={"subnet": "10.0.0.0/24"}))
    first.want("p", port("p"))
    first.want("q", port("q"))
    first.quiet()
    first.stop()
    second = rigs(nb.endpoint, settle=False)
    second.want("p", port("p"))
    second.quiet()
    second.want("sw", switch(other_config={"subnet": "10.0.0.0/24"}))
    second.quiet()
    assert second.sink.transactions == 0
    assert len(nb.rows("Logical_Switch_Port")) == 2
    second.sink.settle()
    second.quiet()
    assert [row["name"] for row in nb.rows("Logical_Switch_Port")] == ["p"]
    assert second.sink.transactions == 1


def test_outside_changes_are_put_right(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    rig.want("sw", switch(other_config={"a": "1"}))
    rig.want("p", port("p", options={"k": "v"}))
    rig.quiet()
    uuid = row_id("p", "lsp").uuid
    where = [["_uuid", "==", ["uuid", uuid]]]
    nb.transact(
        "OVN_Northbound",
        [
            {
                "op": "update",
                "table": "Logical_Switch_Port",
                "where": where,
                "row": {
                    "name": "x",
                    "options": ["map", [["z", "1"]]],
                    "external_ids": ["map", []],
                    "type": "router",
                },
            },
            {
                "op": "update",
                "table": "Logical_Switch",
                "where": [],
                "row": {"other_config": ["map", [["a", "2"], ["b", "3"]]]},
            },
        ],
    )
    rig.loop.until(lambda: by_name(nb, "Logical_Switch_Port").get("p"))
    rig.quiet()
    (found,) = nb.rows("Logical_Switch_Port")
    assert (found["name"], found["options"]) == ("p", ["map", [["k", "v"]]])
    assert ids(found) == {OWNER_KEY: "test/things/p/lsp"}
    assert found["type"] == "router", "a column nobody named is left alone"
    assert nb.rows("Logical_Switch")[0]["other_config"] == ["map", [["a", "1"]]]
    nb.transact("OVN_Northbound", [{"op": "delete", "table": "Logical_Switch", "where": []}])
    rig.loop.until(lambda: by_name(nb, "Logical_Switch_Port").get("p"))


def test_foreign_rows_stay_and_members_come_and_go(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    nb.transact(
        "OVN_Northbound",
        [
            {
                "op": "insert",
                "table": "Logical_Switch",
                "row": {"name": "theirs", "other_config": ["map", [["a", "1"], ["k", "old"]]]},
            },
            {"op": "insert", "table": "Logical_Switch", "row": {"name": "other"}},
        ],
    )
    before = nb.rows("Logical_Switch")
    rig = rigs(nb.endpoint)
    theirs = Slot("Logical_Switch", Lookup("Logical_Switch", "name", "theirs"), "other_config")
    global_name = Slot("NB_Global", Lookup("NB_Global"), "name")
    rig.want("m", Member(theirs, "new", key="k"), Member(theirs, "2", key="b"), Member(global_name, "zone-a"))
    rig.want("m2", Member(theirs, "2", key="b"))
    rig.quiet()
    assert dict(by_name(nb, "Logical_Switch")["theirs"]["other_config"][1]) == {"a": "1", "k": "new", "b": "2"}
    assert nb.rows("NB_Global")[0]["name"] == "zone-a"
    rig.want("m")
    rig.quiet()
    assert dict(by_name(nb, "Logical_Switch")["theirs"]["other_config"][1]) == {"a": "1", "k": "old", "b": "2"}
    rig.stop()
    again = rigs(nb.endpoint)
    again.quiet()

    def strip(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(({k: v for k, v in r.items() if k != "_version"} for r in rows), key=lambda r: r["_uuid"])

    assert strip(nb.rows("Logical_Switch")) == strip(before)
    assert nb.rows("NB_Global")[0]["name"] == ""


def test_name_held_by_a_stranger_is_taken_over(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    nb.transact(
        "OVN_Northbound",
        [
            {"op": "insert", "table": "Address_Set", "row": {"name": "a1"}},
            {"op": "insert", "table": "Address_Set", "row": {"name": "a2"}},
            {"op": "insert", "table": "Logical_Switch_Port", "uuid-name": "x", "row": {"name": "p"}},
            {"op": "insert", "table": "Logical_Switch", "row": {"name": "theirs", "ports": ["named-uuid", "x"]}},
        ],
    )
    rig = rigs(nb.endpoint)
    rig.want("a", Row("Address_Set", "as", {"name": "a1", "addresses": ("10.0.0.1",)}))
    rig.want("sw", switch())
    rig.want("p", port("p"))
    rig.quiet()
    assert by_name(nb, "Address_Set")["a1"]["_uuid"] == row_id("a", "as").uuid
    assert "a2" in by_name(nb, "Address_Set")
    assert [row["_uuid"] for row in nb.rows("Logical_Switch_Port")] == [row_id("p", "lsp").uuid]


def test_two_owners_want_one_name(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    row = Row("Address_Set", "as", {"name": "a1"})
    rig.want("a", row)
    rig.quiet()
    second = rig.want("b", row)
    rig.quiet()
    assert [(owner, type(error)) for owner, error in rig.reports] == [(second, NameTaken)]
    rig.want("a")
    rig.quiet()
    assert [r["_uuid"] for r in nb.rows("Address_Set")] == [row_id("b", "as").uuid]


def test_live_set_changes_by_element(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    live = LiveSet(PODS, project=tuple, namespaces="ns")
    content = rig.live(live)
    content.change({"10.0.0.1", Ref(row_id("p", "lsp").uuid)})
    rig.want("as", Row("Address_Set", "as", {"name": "a1", "addresses": live}))
    rig.want("pg", Row("Port_Group", "pg", {"name": "pg1", "ports": live}))
    rig.quiet()
    assert elements(nb.rows("Address_Set")[0]["addresses"]) == {"10.0.0.1"}
    assert elements(nb.rows("Port_Group")[0]["ports"]) == set()
    rig.want("sw", switch())
    rig.want("p", port("p"))
    rig.quiet()
    assert elements(nb.rows("Port_Group")[0]["ports"]) == {row_id("p", "lsp").uuid}
    assert rig.sink.transactions == 2, "the port and its membership go together"
    content.change({"10.0.0.2"}, {"10.0.0.1"})
    rig.quiet()
    assert elements(nb.rows("Address_Set")[0]["addresses"]) == {"10.0.0.2"}


def test_bad_value_and_missing_column_stop_nobody_else(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    bad = rig.want("bad", Row("Address_Set", "as", {"name": 7}))
    missing = rig.want("missing", Row("Address_Set", "as", {"name": "m", "shoe_size": "43"}))
    table = rig.want("table", Row("Shoe", "s", {"name": "m"}))
    rig.want("good", Row("Address_Set", "as", {"name": "good"}))
    rig.quiet()
    assert list(by_name(nb, "Address_Set")) == ["good"]
    assert {(o, type(e)) for o, e in rig.reports} == {
        (bad, BadValue),
        (missing, MissingSchema),
        (table, MissingSchema),
    }
    assert set(rig.sink.status()["missing"]) == {"Address_Set.shoe_size", "Shoe"}
    rig.want("bad", Row("Address_Set", "as", {"name": "healed"}))
    rig.quiet()
    assert set(by_name(nb, "Address_Set")) == {"good", "healed"}


def test_dangling_strong_references_stop_nobody_else(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    rig.want("sw", switch())
    for number in range(40):
        rig.want(f"p{number}", port(f"p{number}"))
    bad = {
        rig.want(
            f"bad{n}",
            Row("Load_Balancer_Group", "g", {"name": f"g{n}", "load_balancer": ()}),
            Row(
                "Logical_Router",
                "r",
                {"name": "r", "load_balancer_group": (Ref("11111111-1111-4111-8111-111111111111"),)},
            ),
        )
        for n in range(2)
    }
    rig.quiet()
    assert len(nb.rows("Logical_Switch_Port")) == 40
    assert not {owner for owner, _ in rig.reports} - bad


@pytest.mark.parametrize("batch_rows", [1000, 4])
def test_server_refusal_is_pinned_to_its_owner(nb: OvsdbServer, rigs: Callable[..., Any], batch_rows: Any) -> None:
    rig = rigs(nb.endpoint, batch_rows=batch_rows)
    rig.want("sw", switch())
    owners = [rig.want(f"p{n}", port(f"p{n}")) for n in range(30)]
    # Neither row is there yet, so only the server can tell that the two can't both be.
    clash = [rig.want(f"c{n}", Row("Address_Set", "as", {"name": "clash"})) for n in range(2)]
    rig.quiet()
    assert len(nb.rows("Logical_Switch_Port")) == len(owners)
    assert len(nb.rows("Address_Set")) == 1
    assert {owner for owner, _ in rig.reports} < set(clash)
    rig.want("c0")
    rig.loop.advance()
    rig.quiet()
    rig.loop.advance()
    rig.quiet()
    assert [r["_uuid"] for r in nb.rows("Address_Set")] == [row_id("c1", "as").uuid]


@pytest.mark.parametrize("batch_rows", [1000, 4])
def test_one_bad_row_among_many_owners(nb: OvsdbServer, rigs: Callable[..., Any], batch_rows: Any) -> None:
    """A port without a place is collected by the server; a set with a clashing name is refused: others pass."""
    rig = rigs(nb.endpoint, batch_rows=batch_rows)
    weak = Slot("Port_Group", row_id("pg", "pg"), "ports")
    lost = rig.want("lost", Row("Logical_Switch_Port", "lsp", {"name": "lost"}, weak))
    rig.want("pg", Row("Port_Group", "pg", {"name": "pg"}))
    names = [f"a{n}" for n in range(12)] + ["a5"] + [f"b{n}" for n in range(12)]
    owners = [rig.want(f"as{n}", Row("Address_Set", "as", {"name": name})) for n, name in enumerate(names)]
    rig.quiet()
    rig.loop.advance()
    rig.quiet()
    assert set(by_name(nb, "Address_Set")) == set(names)
    assert nb.rows("Logical_Switch_Port") == []
    blamed = {owner for owner, _ in rig.reports}
    assert lost in blamed
    assert blamed - {lost} <= {owners[5], owners[12]}
    assert blamed - {lost}
    written = rig.sink.transactions
    rig.quiet()
    assert rig.sink.transactions == written, "it doesn't go on trying in a loop"


def test_mass_deletion_is_held_back(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    for number in range(30):
        rig.want(f"a{number}", Row("Address_Set", "as", {"name": f"a{number}"}))
    rig.quiet()
    rig.stop()
    second = rigs(nb.endpoint)
    second.want("a1", Row("Address_Set", "as", {"name": "a1", "addresses": ("10.0.0.1",)}))
    second.quiet()
    assert len(nb.rows("Address_Set")) == 30
    assert second.sink.status()["held_back"] == 29
    assert elements(by_name(nb, "Address_Set")["a1"]["addresses"]) == {"10.0.0.1"}
    second.sink.release_mass_delete()
    second.quiet()
    assert list(by_name(nb, "Address_Set")) == ["a1"]


def test_rows_without_external_ids_are_known_again(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    binding = {"logical_port": "lrp", "ip": "10.0.0.1", "mac": "0a:58:0a:00:00:01"}
    rig.want("b", Row("Static_MAC_Binding", "smb", binding))
    rig.want("g", Row("Load_Balancer_Group", "g", {"name": "g"}))
    rig.quiet()
    rig.stop()
    second = rigs(nb.endpoint)
    second.want("g", Row("Load_Balancer_Group", "g", {"name": "g"}))
    second.quiet()
    assert nb.rows("Static_MAC_Binding") == []
    assert len(nb.rows("Load_Balancer_Group")) == 1
    keys = ids(nb.rows("NB_Global")[0])
    assert list(keys) == [f"ovnkit.io/row/{row_id('g', 'g').uuid}"]


def test_a_deletion_that_comes_during_trials_goes_after_them(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    rig.want("gone", Row("Address_Set", "s", {"name": "gone"}))
    rig.quiet()
    rig.want("a", Row("Address_Set", "s", {"name": "a"}))
    rig.want("b", Row("Address_Set", "s", {"name": "b"}))
    nb.transact("OVN_Northbound", [{"op": "insert", "table": "Address_Set", "row": {"name": "a"}}])
    rig.sink.flush()  # without having seen that the name is taken
    rig.loop.until(lambda: rig.sink.failed_transactions == 1)
    rig.want("b")
    rig.want("gone")
    rig.quiet()
    assert [row["name"] for row in nb.rows("Address_Set")] == ["a"]


def test_strong_reference_and_its_target_go_together(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    group = Row("HA_Chassis_Group", "g", {"name": "g"})
    member = Row(
        "HA_Chassis",
        "c",
        {"chassis_name": "c", "priority": 3},
        Slot("HA_Chassis_Group", row_id("g", "g"), "ha_chassis"),
    )
    rig.want("g", group, member)
    rig.want("sw", switch())
    rig.want("p", port("p", ha_chassis_group=Ref(row_id("g", "g").uuid)))
    meter = [
        Row("Meter_Band", "b", {"action": "drop", "rate": 5}),
        Row("Meter", "m", {"name": "m", "unit": "pktps", "bands": (Ref(row_id("meter", "b").uuid),)}),
    ]
    rig.want("meter", *meter)
    rig.quiet()
    assert len(nb.rows("HA_Chassis")) == len(nb.rows("Meter_Band")) == 1
    rig.want("p", port("p", ha_chassis_group=None))
    rig.want("g")
    rig.want("meter")
    rig.quiet()
    assert nb.rows("HA_Chassis_Group") == nb.rows("HA_Chassis") == nb.rows("Meter") == nb.rows("Meter_Band") == []
    assert rig.sink.failed_transactions == 0


def test_port_moves_to_another_switch(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    rig.want("sw", switch())
    rig.want("sw2", Row("Logical_Switch", "switch", {"name": "n2"}))
    rig.want("p", port("p"))
    rig.quiet()
    moved = Row(
        "Logical_Switch_Port", "lsp", {"name": "p"}, Slot("Logical_Switch", row_id("sw2", "switch"), "ports")
    )
    rig.want("p", moved)
    rig.quiet()
    switches = by_name(nb, "Logical_Switch")
    assert elements(switches["n1"]["ports"]) == set()
    assert elements(switches["n2"]["ports"]) == {row_id("p", "lsp").uuid}
    assert rig.sink.transactions == 2


def test_owner_wants_two_rows_of_one_name(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    owner = Owner("test", "things", "x")
    rig.sink.want(owner, [Row("Address_Set", "as", {"name": "a"}), Row("Address_Set", "as", {"name": "b"})])
    rig.quiet()
    assert list(by_name(nb, "Address_Set")) == ["a"]
    assert isinstance(rig.reports[0][1], BadValue)


@pytest.mark.parametrize("methods", [("monitor_cond",), ("monitor",)])
def test_older_protocols(nb: OvsdbServer, rigs: Callable[..., Any], methods: Any) -> None:
    rig = rigs(nb.endpoint, methods=methods)
    rig.want("sw", switch(other_config={"a": "1"}))
    rig.want("p", port("p", addresses=("unknown",)))
    rig.quiet()
    rig.want("sw", switch(other_config={"a": "2"}))
    rig.want("p", port("p", addresses=("router",)))
    rig.quiet()
    assert nb.rows("Logical_Switch")[0]["other_config"] == ["map", [["a", "2"]]]
    assert elements(nb.rows("Logical_Switch_Port")[0]["addresses"]) == {"router"}
    assert rig.sink.transactions == 2


def test_bridge_with_ports_in_the_vswitch_database(folder: Path, rigs: Callable[..., Any]) -> None:
    """Ports need interfaces, names can't change, ovn-controller writes into our rows: all at once."""
    database = "Open_vSwitch"
    with OvsdbServer(folder / "ovs", database) as server:
        bridge = {"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": "br-int"}}
        switch = {"op": "insert", "table": "Open_vSwitch", "row": {"bridges": ["named-uuid", "b"]}}
        server.transact(database, [bridge, switch])
        rig = rigs(server.endpoint, db="ovs", database=database)

        def items(name: str, **interface: Any) -> list[Any]:
            held = Row("Interface", "if", {"name": name, "type": "internal", **interface}, db="ovs")
            ports = Slot("Bridge", Lookup("Bridge", "name", "br-int"), "ports")
            columns: dict[str, Any] = {"name": name, "interfaces": (Ref(row_id("mp", "if").uuid),)}
            mapping = Slot("Open_vSwitch", Lookup("Open_vSwitch"), "external_ids")
            member = Member(mapping, "physnet:br-ex", key="ovn-bridge-mappings", db="ovs")
            return [held, Row("Port", "port", columns, ports, db="ovs"), member]

        rig.want("mp", *items("mp0", external_ids={"iface-id": "k8s-n1"}))
        rig.quiet()
        assert ids(server.rows("Open_vSwitch")[0])["ovn-bridge-mappings"] == "physnet:br-ex"
        seen = [["external_ids", "insert", ["map", [["ovn-installed", "true"], ["stray", "1"]]]]]
        server.transact(database, [{"op": "mutate", "table": "Interface", "where": [], "mutations": seen}])
        rig.quiet()
        (interface,) = server.rows("Interface")
        expected = {OWNER_KEY: "test/things/mp/if", "iface-id": "k8s-n1", "ovn-installed": "true"}
        assert ids(interface) == expected
        rig.want("mp", *items("mp1", mtu_request=1400))
        rig.quiet()
        assert [row["name"] for row in server.rows("Port")] == ["mp1"]
        assert [(row["name"], row["mtu_request"]) for row in server.rows("Interface")] == [("mp1", 1400)]
        rig.want("mp")
        rig.quiet()
        assert server.rows("Port") == server.rows("Interface") == []
        assert ids(server.rows("Bridge")[0]) == ids(server.rows("Open_vSwitch")[0]) == {}
        assert rig.sink.failed_transactions == 0


def test_newer_schema(folder: Path, rigs: Callable[..., Any]) -> None:
    """A row that needs a column only newer databases have is written there."""
    try:
        schema = schema_path("OVN_Northbound", DEBIAN_13)
    except FileNotFoundError:
        pytest.skip("no newer OVN here")
    with OvsdbServer(folder / "nb", schema=schema) as server:
        rig = rigs(server.endpoint)
        group = Slot("Port_Group", row_id("pg", "group"), "acls")
        acl: dict[str, Any] = {"priority": 1, "direction": "to-lport", "match": "1", "action": "pass", "tier": 2}
        rig.want("pg", Row("Port_Group", "group", {"name": "g"}), Row("ACL", "a", acl, group))
        rig.quiet()
        assert [row["tier"] for row in server.rows("ACL")] == [2]
        assert not rig.reports


@pytest.mark.parametrize(("column", "written"), [("colour", 0), ("name", 2)])
def test_a_row_for_newer_databases_only(
    nb: OvsdbServer, rigs: Callable[..., Any], column: Any, written: Any
) -> None:
    """It is left out where the column is missing, whether it was wanted before the schema was known or after."""
    rig = rigs(nb.endpoint)
    group = Slot("Port_Group", row_id("pg", "group"), "acls")
    acl: dict[str, Any] = {"priority": 1, "direction": "to-lport", "match": "1", "action": "drop"}
    rows = [
        Row("Port_Group", "group", {"name": "g"}),
        *(Row("ACL", name, acl, group, only_with=frozenset({column})) for name in ("a", "b")),
    ]
    rig.want("pg", *rows[:2])
    rig.quiet()
    rig.want("pg", *rows)
    rig.quiet()
    assert len(nb.rows("ACL")) == written
    assert not rig.reports


def test_disabled_plugin_leaves_nothing(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    """Rows in tables that nobody names any more are found by their mark."""
    rig = rigs(nb.endpoint)
    rig.want("qos", Row("DNS", "dns", {"records": {"a": "10.0.0.1"}}), switch())
    rig.want("sw", switch())
    rig.want("p", port("p"))
    rig.want(
        "b", Row("Static_MAC_Binding", "smb", {"logical_port": "l", "ip": "10.0.0.1", "mac": "0a:58:00:00:00:01"})
    )
    rig.quiet()
    rig.stop()
    rigs(nb.endpoint).quiet()
    assert not any(nb.rows(t) for t in ("DNS", "Logical_Switch", "Logical_Switch_Port", "Static_MAC_Binding"))
    assert ids(nb.rows("NB_Global")[0]) == {}


def test_rows_of_a_plugin_that_failed_are_kept(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    """Also those without external_ids of their own, and their places in rows of plugins that work."""
    rig = rigs(nb.endpoint)
    works = Owner("works", "things", "sw")
    place = Slot("Logical_Switch", RowId("works", "things", "sw", "switch"), "ports")
    binding = {"logical_port": "l", "ip": "10.0.0.1", "mac": "0a:58:00:00:00:01"}
    rig.sink.want(works, [switch()])
    rig.want("p", Row("Logical_Switch_Port", "lsp", {"name": "p"}, place), Row("Static_MAC_Binding", "b", binding))
    rig.quiet()
    rig.stop()
    second = rigs(nb.endpoint, settle=False)
    second.sink.keep({"test"})
    second.sink.want(works, [switch()])
    second.sink.settle()
    second.quiet()
    assert second.sink.transactions == 0
    assert len(nb.rows("Logical_Switch_Port")) == len(nb.rows("Static_MAC_Binding")) == 1
    second.stop()
    third = rigs(nb.endpoint, settle=False)
    third.sink.want(works, [switch()])
    third.sink.settle()
    third.quiet()
    assert nb.rows("Logical_Switch_Port") == nb.rows("Static_MAC_Binding") == []


def test_what_is_over_is_no_last_error_any_more(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    rig = rigs(nb.endpoint)
    rig.want("sw", switch())
    rig.quiet()
    # Another table is needed: the session connects again to have it too.
    rig.want("group", Row("Port_Group", "group", {"name": "g"}))
    rig.quiet()
    assert rig.session.reloads > 1
    assert rig.sink.status()["last_error"] == ""
    rig.want("wrong", Row("Logical_Switch", "wrong", {"name": "w", "ports": {Ref(row_id("sw", "switch"))}}))  # type: ignore[arg-type, dict-item]
    rig.loop.until(lambda: rig.sink.status()["last_error"], "a refused row is told")
    rig.want("wrong")
    rig.want("port", port("p"))
    rig.quiet()
    assert rig.sink.status()["last_error"] == ""


def test_rows_of_others_that_are_to_go_are_deleted_however_many(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    """Messages that have been read are deleted by UUID; they are no leftovers to be held back."""
    rig = rigs(nb.endpoint, needs={"Logical_Router": {"name"}})
    inserts = [{"op": "insert", "table": "Logical_Router", "row": {"name": f"r{n}"}} for n in range(31)]
    nb.transact("OVN_Northbound", inserts)
    rig.sync()
    routers = by_name(nb, "Logical_Router")
    stays = routers.pop("r30")
    rig.want("read", *(Absent("Logical_Router", row["_uuid"]) for row in routers.values()))
    rig.quiet()
    assert by_name(nb, "Logical_Router").keys() == {"r30"}
    assert rig.sink.transactions == 1
    rig.want("elsewhere", Absent("Logical_Router", stays["_uuid"], db="sb"))
    rig.want("read")
    rig.quiet()
    assert by_name(nb, "Logical_Router").keys() == {"r30"}
    assert rig.sink.status()["held_back"] == 0
