"""A northbound that OVN-Kubernetes 1.3.0 left: its rows are taken over, nobody else's."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from attrs import evolve

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.renderers import Role
from ovnkit.testing.harness import Harness, make_server
from ovnkit.testing.manifests import Manifest
from ovnkit.testing.ovsdb import OvsdbServer

pytestmark = pytest.mark.ovn

DATA = Path(__file__).parent / "data/upstream-1.3.0"
CENTRAL = Scope(frozenset({Role.ZONE}), "", "global", False)
PLUGINS = ("topology", "pods", "management_port", "gateway", "services", "network_policy")
CONFIG = evolve(Config(), gateway=evolve(Config().gateway, mode="shared", nodeport=True))
NAMED = ("Logical_Switch", "Logical_Router", "Load_Balancer", "Port_Group", "Address_Set", "Load_Balancer_Group")
INSIDE = ("ACL", "NAT", "Logical_Router_Policy", "Logical_Router_Static_Route", "QoS")
"""Tables whose rows have no names: what OVN-Kubernetes wrote there must be gone."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OvsdbServer]:
    shutil.copy(DATA / "small-northbound.db", tmp_path / "OVN_Northbound.db")
    made = make_server(tmp_path)
    yield made
    made.stop()


def objects() -> list[Manifest]:
    found: list[Manifest] = orjson.loads((DATA / "small-objects.json").read_bytes())["items"]
    return found


def run(server: OvsdbServer, shuffle: random.Random | None = None) -> Harness:
    return Harness(server, PLUGINS, objects(), config=CONFIG, scope=CENTRAL, shuffle=shuffle)


def uuids(server: OvsdbServer, *tables: str) -> set[str]:
    return {row["_uuid"] for table in tables for row in server.rows(table)}


def by_name(server: OvsdbServer, table: str, name: str) -> dict[str, Any]:
    (found,) = (row for row in server.rows(table) if row["name"] == name)
    return found


def references(value: list[Any]) -> set[str]:
    return {value[1]} if value[0] == "uuid" else {element[1] for element in value[1]}


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_every_name_exists_once(server: OvsdbServer, seed: int | None) -> None:
    before = uuids(server, *INSIDE)
    with run(server, None if seed is None else random.Random(seed)) as harness:
        assert harness.failures == {}
        for table in NAMED:
            names = Counter(row["name"] for row in server.rows(table))
            assert [name for name, count in names.items() if count > 1] == [], table
        assert {"n0", "n1", "join", "ext_n0", "ext_n1"} == harness.names("Logical_Switch")
        assert {"ovn_cluster_router", "GR_n0", "GR_n1"} == harness.names("Logical_Router")
        assert before & uuids(server, *INSIDE) == set()
        ports = harness.names("Logical_Switch_Port")
        assert {"ns0_p0", "ns0_p2", "ns1_p1", "ns1_p3", "k8s-n0", "stor-n1", "etor-GR_n0"} <= ports
    with run(server) as again:
        assert again.transactions == {"nb": 0, "sb": 0}


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_what_others_put_into_the_rows_stays(server: OvsdbServer, seed: int | None) -> None:
    def insert(table: str, row: dict[str, Any], parent: str, name: str, column: str) -> str:
        operations = [
            {"op": "insert", "table": table, "uuid-name": "new", "row": row},
            {"op": "mutate", "table": parent, "where": [["name", "==", name]],
             "mutations": [[column, "insert", ["set", [["named-uuid", "new"]]]]]},
        ]  # fmt: skip
        return str(server.transact("OVN_Northbound", operations)[0]["uuid"][1])

    route = {"ip_prefix": "198.51.100.0/24", "nexthop": "172.18.0.99"}
    theirs = {
        insert("Logical_Switch_Port", {"name": "their-port"}, "Logical_Switch", "n0", "ports"),
        insert("Logical_Router_Static_Route", route, "Logical_Router", "GR_n0", "static_routes"),
        insert("Load_Balancer", {"name": "theirs"}, "Logical_Switch", "n1", "load_balancer"),
        insert("Logical_Switch_Port", {"name": "elsewhere"}, "Logical_Switch", "their-switch", "ports")
        if server.transact(
            "OVN_Northbound", [{"op": "insert", "table": "Logical_Switch", "row": {"name": "their-switch"}}]
        )
        else "",
    }
    tables = ("Logical_Switch_Port", "Logical_Router_Static_Route", "Load_Balancer")
    with run(server, None if seed is None else random.Random(seed)) as harness:
        assert harness.failures == {}
        assert theirs <= uuids(server, *tables)
        assert theirs & references(by_name(server, "Logical_Switch", "n0")["ports"])
        assert theirs & references(by_name(server, "Logical_Router", "GR_n0")["static_routes"])
        assert theirs & references(by_name(server, "Logical_Switch", "n1")["load_balancer"])
        assert theirs & references(by_name(server, "Logical_Switch", "their-switch")["ports"])
    with run(server) as again:
        assert again.transactions == {"nb": 0, "sb": 0}


def test_what_comes_back_beside_a_row_of_ours_is_taken_over_too(server: OvsdbServer) -> None:
    """OVN-Kubernetes ran again for a while and wrote its rows into the routers that are ours."""
    with run(server):
        pass
    (route,) = (
        row
        for row in server.rows("Logical_Router_Static_Route")
        if row["ip_prefix"] == "10.128.0.0/14"
        and row["_uuid"] in references(by_name(server, "Logical_Router", "GR_n0")["static_routes"])
    )
    copy = {"ip_prefix": route["ip_prefix"], "nexthop": route["nexthop"]}
    server.transact(
        "OVN_Northbound",
        [
            {"op": "delete", "table": "Logical_Router", "where": [["name", "==", "GR_n0"]]},
            {"op": "insert", "table": "Logical_Router_Static_Route", "uuid-name": "new", "row": copy},
            {"op": "insert", "table": "Logical_Router",
             "row": {"name": "GR_n0", "static_routes": ["named-uuid", "new"]}},
            {"op": "insert", "table": "Logical_Router", "row": {"name": "GR_n0"}},
        ],
    )  # fmt: skip
    with run(server) as harness:
        assert harness.failures == {}
        routes = [row for row in server.rows("Logical_Router_Static_Route") if row["ip_prefix"] == "10.128.0.0/14"]
        assert len(routes) == 2, "one for each gateway router"
        assert by_name(server, "Logical_Router", "GR_n0")
