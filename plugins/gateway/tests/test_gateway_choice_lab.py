"""A VPN comes up on a node whose gateway interface is not configured: the gateway stays, also over a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ovnkit_lab.testing import LabHandle, LabPool, wait_until

pytestmark = pytest.mark.lab

SEARCHED = '[gateway]\nmode = "shared"\ninterface = ""\n'


@pytest.fixture
def vpn(labs: LabPool) -> Iterator[LabHandle]:
    """A lab with a link on node1 that gets a default route better than the one there is."""
    with labs.own(config=SEARCHED) as lab:
        lab.apply(lab.pod("out", node="node1"))
        lab.wait_ready("out")
        route = lab.node("node1", "ip", "route", "show", "default").split()
        # what the node's administrator does, and then the VPN
        lab.node("node1", "ip", "route", "replace", "default", "via", route[2], "dev", route[4], "metric", "100")
        lab.node("node1", "ip", "route", "del", "default", "via", route[2], "dev", route[4], "metric", "0")
        lab.node("node1", "ip", "link", "add", "wg0", "type", "veth", "peer", "name", "wg1")
        lab.node("node1", "ip", "link", "set", "wg0", "up")
        lab.node("node1", "ip", "link", "set", "wg1", "up")
        lab.node("node1", "ip", "address", "add", "10.99.0.2/24", "dev", "wg0")
        lab.node("node1", "ip", "route", "add", "default", "via", "10.99.0.1", "dev", "wg0")
        yield lab


def gateway(lab: LabHandle) -> tuple[object, str]:
    """The annotation and the mapping of node1."""
    text = lab.get("node", "node1")["metadata"]["annotations"]["k8s.ovn.org/l3-gateway-config"]
    bridges = lab.node("node1", "ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids:ovn-bridge-mappings")
    return json.loads(text), bridges


def test_pods_go_out_as_before_and_the_node_is_told(vpn: LabHandle) -> None:
    def told() -> list[str]:
        items = json.loads(vpn.kubectl("get", "events", "-A", "-o", "json"))["items"]
        return [item["message"] for item in items if item["reason"] == "DefaultRouteChanged"]

    before = gateway(vpn)
    assert "br-ex" in before[1]
    (message,) = wait_until(told, 20, "an Event on the node")
    assert "wg0 via 10.99.0.1" in message
    outside = vpn.external("sh", "-c", "hostname -I").stdout.split()[0]
    for _ in range(2):
        assert gateway(vpn) == before
        assert vpn.node("node1", "ovs-vsctl", "list-br").split() == ["br-ex", "br-int"]
        wait_until(lambda: vpn.pings("out", outside), 20, "the way out")
        vpn.run("restart", "node1", "ovnkit")
