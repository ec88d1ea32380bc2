"""Names that the schema doesn't call unique, and what others have put into a row that is taken over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ovnkit.api.identity import RowId
from ovnkit.api.items import Row, Slot
from ovnkit.testing.ovsdb import OvsdbServer

NB = "OVN_Northbound"


def row_id(owner: str, name: str) -> RowId:
    return RowId("test", "things", owner, name)


def insert(
    server: Any, table: str, row: dict[str, Any], parent: str = "", name: str = "", column: str = ""
) -> str:
    """A row of somebody else, in a column of the row of that name; its UUID."""
    operations: list[Any] = [{"op": "insert", "table": table, "uuid-name": "new", "row": row}]
    if parent:
        mutation = [column, "insert", ["set", [["named-uuid", "new"]]]]
        operations.append(
            {"op": "mutate", "table": parent, "where": [["name", "==", name]], "mutations": [mutation]}
        )
    return str(server.transact(NB, operations)[0]["uuid"][1])


def router() -> Row:
    return Row("Logical_Router", "router", {"name": "GR_n1"})


def route(prefix: str = "10.0.0.0/8", hop: str = "100.64.0.1") -> Row:
    slot = Slot("Logical_Router", row_id("router", "router"), "static_routes")
    return Row("Logical_Router_Static_Route", "route", {"ip_prefix": prefix, "nexthop": hop}, parent=slot)


def test_a_switch_or_balancer_of_the_same_name_goes_and_one_without_name_stays(
    nb: OvsdbServer, rigs: Callable[..., Any]
) -> None:
    for table in ("Logical_Switch", "Logical_Router", "Load_Balancer"):
        for name in ("ours", "ours", "theirs", ""):
            insert(nb, table, {"name": name})
    rig = rigs(nb.endpoint)
    tables = ("Logical_Switch", "Logical_Router", "Load_Balancer")
    rig.want("a", *(Row(table, table, {"name": "ours"}) for table in tables))
    rig.want("b", Row("Load_Balancer", "nameless", {"name": ""}))
    rig.quiet()
    for table in tables:
        names = sorted(row["name"] for row in nb.rows(table))
        assert names == (["", "", "ours", "theirs"] if table == "Load_Balancer" else ["", "ours", "theirs"])
        assert row_id("a", table).uuid in {row["_uuid"] for row in nb.rows(table)}
    transactions = rig.sink.transactions
    insert(nb, "Logical_Switch", {"name": "ours"})
    rig.quiet()
    assert sorted(row["name"] for row in nb.rows("Logical_Switch")) == ["", "ours", "theirs"]
    assert rig.sink.transactions == transactions + 1


def test_a_row_that_is_renamed_to_a_name_of_ours_goes(nb: OvsdbServer, rigs: Callable[..., Any]) -> None:
    insert(nb, "Logical_Router", {"name": "other"})
    row = {"ip_prefix": "192.0.2.0/24", "nexthop": "100.64.0.9"}
    theirs = insert(nb, "Logical_Router_Static_Route", row, "Logical_Router", "other", "static_routes")
    rig = rigs(nb.endpoint)
    rig.want("router", router())
    rig.quiet()
    where = [["name", "==", "other"]]
    nb.transact(NB, [{"op": "update", "table": "Logical_Router", "where": where, "row": {"name": "GR_n1"}}])
    rig.quiet()
    (ours,) = nb.rows("Logical_Router")
    assert ours["_uuid"] == row_id("router", "router").uuid
    assert ours["static_routes"] == ["uuid", theirs], "what others had put into it"


def test_routes_of_others_stay_in_the_router_but_those_like_ours(
    nb: OvsdbServer, rigs: Callable[..., Any]
) -> None:
    insert(nb, "Logical_Router", {"name": "GR_n1"})

    def theirs(prefix: str, hop: str, **ids: str) -> str:
        row = {"ip_prefix": prefix, "nexthop": hop, "external_ids": ["map", list(map(list, ids.items()))]}
        return insert(nb, "Logical_Router_Static_Route", row, "Logical_Router", "GR_n1", "static_routes")

    theirs("10.0.0.0/8", "100.64.0.1")
    theirs("10.1.0.0/16", "100.64.0.2", **{"k8s.ovn.org/id": "x"})
    kept = {theirs("10.0.0.0/8", "100.64.0.9"), theirs("192.0.2.0/24", "100.64.0.1", owner="me")}
    rig = rigs(nb.endpoint)
    rig.want("route", route())
    rig.want("router", router())
    rig.quiet()
    found = {row["_uuid"] for row in nb.rows("Logical_Router_Static_Route")}
    assert found == kept | {row_id("route", "route").uuid}
    (ours,) = nb.rows("Logical_Router")
    assert {element[1] for element in ours["static_routes"][1]} == found
    assert rig.sink.idle


def test_a_route_of_ours_that_comes_later_takes_the_place_of_one_that_went_along(
    nb: OvsdbServer, rigs: Callable[..., Any]
) -> None:
    insert(nb, "Logical_Router", {"name": "GR_n1"})
    row = {"ip_prefix": "10.0.0.0/8", "nexthop": "100.64.0.1"}
    insert(nb, "Logical_Router_Static_Route", row, "Logical_Router", "GR_n1", "static_routes")
    rig = rigs(nb.endpoint)
    rig.want("router", router())
    rig.quiet()
    assert len(nb.rows("Logical_Router_Static_Route")) == 1
    rig.want("route", route())
    rig.quiet()
    assert [row["_uuid"] for row in nb.rows("Logical_Router_Static_Route")] == [row_id("route", "route").uuid]
