"""Ports of running pods in a lab: packets flow again whatever is done to them, and refused pods go at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from ovnkit_lab.testing import LabHandle, LabPool, wait_until

pytestmark = pytest.mark.lab

HARMS = {
    "the port removed": "ovs-vsctl del-port {port}",
    "the interface removed": "ip link del {port}",
    "the interface down": "ip link set {port} down",
    "the ids changed": "ovs-vsctl set Interface {port} external_ids:iface-id=other",
    "the bridge removed": "ovs-vsctl del-br br-int",
}


@pytest.fixture(scope="module")
def pair(labs: LabPool) -> Iterator[LabHandle]:
    """Two pods on two nodes."""
    with labs.own(ip_family="dual") as found:
        found.apply(found.pod("kept", node="node1"), found.pod("peer", node="node2"))
        found.wait_ready("kept", "peer")
        yield found


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_packets_flow_again(pair: LabHandle, harm: str) -> None:
    lines = pair.node("node1", "ovs-vsctl", "--no-headings", "--format=json", "--columns=name,external_ids",
                     "list", "Interface")  # fmt: skip
    rows = [(name, dict(ids[1])) for name, ids in json.loads(lines)["data"]]
    (port,) = [name for name, ids in rows if ids.get("iface-id") == "default_kept"]
    peer = pair.pod_ips("peer")
    assert all(pair.pings("kept", address) for address in peer)
    pair.node("node1", *harm.format(port=port).split())
    time.sleep(1)  # the last flows of what was there
    wait_until(lambda: all(pair.pings("kept", address) for address in peer), 20, what="packets flowing again")


def test_a_refused_pod_goes_at_once(pair: LabHandle) -> None:
    refused = pair.pod("refused", node="node1")
    request = [{"name": "default", "mac": "0a:58:a9:fe:01:01"}]
    refused["metadata"]["annotations"] = {"v1.multus-cni.io/default-network": json.dumps(request)}
    pair.apply(refused)
    wait_until(lambda: "InvalidNetworkRequest" in pair.kubectl("get", "events"), 20, what="the Event")
    began = time.monotonic()
    pair.delete("pods", "refused")
    assert time.monotonic() - began < 15
