"""Chassis that are no node's any more go from the southbound; those of others stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ovnkit.api.hooks import Scope
from ovnkit.api.renderers import Role
from ovnkit.testing.harness import Harness, make_server
from ovnkit.testing.manifests import Manifest
from ovnkit.testing.ovsdb import OvsdbServer

pytestmark = pytest.mark.ovn

SB = "OVN_Southbound"
CENTRAL = Scope(frozenset({Role.ZONE}), "", "global", False)
PER_NODE = Scope(frozenset({Role.ZONE}), "n1", "n1", True)
PLACES = pytest.mark.parametrize("place", [CENTRAL, PER_NODE], ids=["central", "per-node"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OvsdbServer]:
    made = make_server(tmp_path)
    yield made
    made.stop()


def node(name: str, chassis: str | None) -> Manifest:
    annotations = {} if chassis is None else {"k8s.ovn.org/node-chassis-id": chassis}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"{name}-uid", "annotations": annotations},
        "status": {},
    }


def register(server: OvsdbServer, name: str, hostname: str, address: str) -> None:
    """What ovn-controller writes of itself."""
    chassis = {"hostname": hostname, "name": name, "encaps": ["named-uuid", "tunnel"]}
    private = {"name": name, "chassis": ["named-uuid", "chassis"]}
    encap = {"type": "geneve", "ip": address, "chassis_name": name}
    server.transact(
        SB,
        [
            {"op": "insert", "table": "Encap", "uuid-name": "tunnel", "row": encap},
            {"op": "insert", "table": "Chassis", "uuid-name": "chassis", "row": chassis},
            {"op": "insert", "table": "Chassis_Private", "row": private},
        ],
    )


def chassis(server: OvsdbServer) -> set[str]:
    """Names in both tables, which must agree, each with a tunnel."""
    found: set[str] = {row["name"] for row in server.rows("Chassis", SB)}
    assert {row["name"] for row in server.rows("Chassis_Private", SB)} == found
    assert {row["chassis_name"] for row in server.rows("Encap", SB)} == found
    return found


def run(server: OvsdbServer, place: Scope, *objects: Manifest) -> Harness:
    return Harness(server, ["topology"], objects, scope=place)


def events(harness: Harness) -> list[tuple[str, str]]:
    return [(event.object, event.reason) for event in harness.kube.events]


@PLACES
def test_a_chassis_of_a_node_that_has_another_one_goes(server: OvsdbServer, place: Scope) -> None:
    register(server, "old", "n1", "192.0.2.1")
    register(server, "theirs", "gateway.example.com", "192.0.2.77")
    register(server, "unknown", "", "192.0.2.78")
    with run(server, place, node("n1", "new")) as harness:
        assert chassis(server) == {"theirs", "unknown"}
        assert events(harness) == [("n1", "StaleChassis")]
        register(server, "new", "n1", "192.0.2.1")
        harness.settle()
        assert chassis(server) == {"new", "theirs", "unknown"}
        assert harness.failures == {}


@PLACES
def test_a_chassis_goes_when_the_system_id_changes(server: OvsdbServer, place: Scope) -> None:
    register(server, "first", "n1", "192.0.2.1")
    with run(server, place, node("n1", "first")) as harness:
        assert chassis(server) == {"first"}
        harness.observe(node("n1", "second"))
        assert chassis(server) == set()


@PLACES
def test_the_chassis_of_a_deleted_node_goes_also_if_it_was_deleted_meanwhile(
    server: OvsdbServer, place: Scope
) -> None:
    register(server, "one", "n1", "192.0.2.1")
    register(server, "two", "n2", "192.0.2.2")
    register(server, "three", "n3", "192.0.2.3")
    objects = [node("n1", "one"), node("n2", "two"), node("n3", "three")]
    with run(server, place, *objects) as harness:
        assert chassis(server) == {"one", "two", "three"}
        harness.remove(objects[1])
        assert chassis(server) == {"one", "three"}
    with run(server, place, objects[0]):
        assert chassis(server) == {"one"}


@PLACES
def test_what_has_no_annotation_yet_stays_and_a_restart_writes_nothing(server: OvsdbServer, place: Scope) -> None:
    register(server, "one", "n1", "192.0.2.1")
    register(server, "two", "n2", "192.0.2.2")
    objects = [node("n1", "one"), node("n2", None)]
    with run(server, place, *objects):
        assert chassis(server) == {"one", "two"}
    with run(server, place, *objects) as harness:
        assert harness.transactions["sb"] == 0
        assert chassis(server) == {"one", "two"}
        assert events(harness) == []


def test_a_chassis_that_comes_back_is_alive_and_stays(server: OvsdbServer) -> None:
    """Its ovn-controller runs with a system id that the node has not told yet: no fight over the row."""
    register(server, "unknown-yet", "n1", "192.0.2.1")
    with run(server, CENTRAL, node("n1", "former")) as harness:
        assert chassis(server) == set()
        register(server, "unknown-yet", "n1", "192.0.2.1")
        harness.settle()
        assert chassis(server) == {"unknown-yet"}
        assert ("n1", "UnknownChassis") in events(harness)
    with run(server, CENTRAL, node("n1", "former")) as harness:
        assert chassis(server) == {"unknown-yet"}
        assert harness.transactions["sb"] == 0
        harness.observe(node("n1", "unknown-yet"))
        assert chassis(server) == {"unknown-yet"}
        assert not any("removed-chassis" in str(row["external_ids"]) for row in server.rows("SB_Global", SB))


@pytest.mark.parametrize("former", ["before", "two"])
def test_the_remote_chassis_of_another_zone_is_replaced(server: OvsdbServer, former: str) -> None:
    remote = node("n2", "two")
    remote["metadata"]["annotations"] |= {
        "k8s.ovn.org/node-subnets": '{"default":["10.128.4.0/23"]}',
        "k8s.ovn.org/node-id": "2",
        "k8s.ovn.org/node-encap-ips": '["192.0.2.2"]',
        "k8s.ovn.org/node-transit-switch-port-ifaddr": '{"ipv4":"100.88.0.2/16"}',
    }
    register(server, former, "n2", "192.0.2.2")
    with run(server, PER_NODE, remote) as harness:
        rows = server.rows("Chassis", SB)
        assert [(row["name"], row["hostname"]) for row in rows] == [("two", "n2")]
        assert [row["chassis_name"] for row in server.rows("Encap", SB)] == ["two"]
        assert harness.failures == {}
