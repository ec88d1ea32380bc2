"""OVN's daemons of a lab die, come back, and come back as another chassis; in one central zone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ovnkit_lab.testing import LabHandle, LabPool, wait_until

pytestmark = pytest.mark.lab

NORTHD, CONTROLLER = "ovn-northd", "ovn-controller"


@pytest.fixture(scope="module")
def central(labs: LabPool) -> Iterator[LabHandle]:
    with labs.own(zones="central") as lab:
        yield lab


def kill(lab: LabHandle, where: str, daemon: str) -> None:
    lab.node(where, "sh", "-c", f"kill -9 $(cut -d' ' -f1 $OVN_RUNDIR/{daemon}.pid)")


def ask(lab: LabHandle, where: str, path: str) -> str:
    """What the ovnkit of a place answers on its socket."""
    return lab.node(where, "sh", "-c", f"curl -s --unix-socket $OVN_RUNDIR/ovnkit-*.sock http://ovnkit/{path}")


def reasons(lab: LabHandle, where: str) -> list[str]:
    found: list[str] = json.loads(ask(lab, where, "readyz"))["reasons"]
    return found


def events(lab: LabHandle, reason: str) -> list[Mapping[str, Any]]:
    items = json.loads(lab.kubectl("get", "events", "-A", "-o", "json"))["items"]
    return [item for item in items if item["reason"] == reason]


def chassis(lab: LabHandle) -> set[str]:
    rows = json.loads(lab.node("control", "ovn-sbctl", "-f", "json", "--columns=name", "list", "Chassis"))["data"]
    return {name for (name,) in rows}


def test_a_dead_northd_and_a_dead_ovn_controller_are_told(central: LabHandle) -> None:
    kill(central, "control", NORTHD)
    kill(central, "node2", CONTROLLER)
    try:
        wait_until(lambda: reasons(central, "node2"), 40, "node2 is not ready")
        assert "ovn-controller isn't running for" in reasons(central, "node2")[0]
        wait_until(lambda: reasons(central, "control"), 110, "the zone is not ready")
        assert "northd doesn't answer: nb_cfg" in reasons(central, "control")[0]
        assert reasons(central, "node1") == []
        told = {item["involvedObject"]["name"] for item in events(central, "NorthdNotWorking")}
        assert told == {"node1", "node2"}
        (event,) = events(central, "OvnControllerNotWorking")
        assert event["involvedObject"]["name"] == "node2"
        works = 'ovnkit_topology_ovn_daemon_works{daemon="ovn-northd",node=""} '
        assert f"{works}0.0" in ask(central, "control", "metrics")
    finally:
        central.run("restart", "control", "northd")
        central.run("restart", "node2", "ovn-controller")
    wait_until(lambda: not reasons(central, "node2") and not reasons(central, "control"), 40, "all is well again")
    assert f"{works}1.0" in ask(central, "control", "metrics")


def test_pods_start_on_a_node_whose_chassis_has_another_name(central: LabHandle) -> None:
    former = chassis(central)
    central.node("node1", "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:system-id=live")
    kill(central, "node2", CONTROLLER)
    central.node("node2", "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:system-id=returned")
    central.run("restart", "node2", "ovn-controller")
    wait_until(lambda: chassis(central) == {"live", "returned"}, 40, "only the chassis of the nodes are there")
    assert {item["involvedObject"]["name"] for item in events(central, "StaleChassis")} == {"node1", "node2"}
    assert not former & chassis(central)
    central.apply(central.pod("renamed1", node="node1"), central.pod("renamed2", node="node2"))
    central.wait_ready("renamed1", "renamed2")
    address = central.pod_ips("renamed2")[0]
    wait_until(lambda: central.pings("renamed1", address), 20, "the tunnel")


def test_the_chassis_of_a_deleted_node_goes(central: LabHandle) -> None:
    before = chassis(central)
    kill(central, "node2", CONTROLLER)
    central.kubectl("delete", "node", "node2", "--wait=false")
    wait_until(lambda: len(chassis(central)) == len(before) - 1, 20, "one chassis less")
