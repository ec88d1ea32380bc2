"""What changes under a running gateway: the node's address, flows that somebody deletes, the plugin itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from gateway_net import OUTSIDE, POD1, Net

from ovnkit_lab.testing import wait_until

pytestmark = pytest.mark.lab


def layouts(*names: str) -> pytest.MarkDecorator:
    """Run a test in these layouts."""
    return pytest.mark.parametrize("net", names, indirect=True, scope="session")


def l3_addresses(net: Net, node: str) -> list[str]:
    text = net.lab.get("node", node)["metadata"]["annotations"]["k8s.ovn.org/l3-gateway-config"]
    return [item.partition("/")[0] for item in json.loads(text)["default"]["ip-addresses"]]


@layouts("dual-shared-per-node", "dual-local-per-node")
def test_flows_that_somebody_deletes_come_back(net: Net) -> None:
    port = net.node_port("deleted")
    address = net.node_addresses("node1")[0]
    net.answered(OUTSIDE, address, port)
    before = flows(net)
    net.lab.node("node1", "ovs-ofctl", "-OOpenFlow15", "del-flows", net.bridge())
    wait_until(lambda: flows(net) == before, 20, "all flows are back")
    assert net.answered(OUTSIDE, address, port).server in net.servers


def flows(net: Net) -> list[str]:
    shown = net.lab.node("node1", "ovs-ofctl", "-OOpenFlow15", "--no-stats", "dump-flows", net.bridge())
    return sorted(line.strip() for line in shown.splitlines() if "cookie=0x6f" in line)


# -- another address ------------------------------------------------------------------------------------------


@pytest.fixture
def moved(net: Net) -> Iterator[list[str]]:
    """New addresses of the last node, which has the server s2; the old ones return afterwards."""
    node, link = net.lab.nodes[-1], net.bridge()
    old = net.node_addresses(node)
    new = [text + "0" for text in old]
    readdress(net, node, link, old, new)
    try:
        yield new
    finally:
        readdress(net, node, link, new, old)
        wait_until(lambda: l3_addresses(net, node) == old, 60, "the node has its old addresses again")


def readdress(net: Net, node: str, link: str, old: list[str], new: list[str]) -> None:
    """What an administrator does, and then the kubelet."""
    for before, after in zip(old, new, strict=True):
        length = "64" if ":" in after else "16"
        net.lab.node(node, "ip", "address", "del", f"{before}/{length}", "dev", link)
        net.lab.node(node, "ip", "address", "add", f"{after}/{length}", "dev", link)
        hop = ip_address(int(ip_address(before)) & ~0xFFFF | 1) if ":" not in before else "fd00:172:18::1"
        net.lab.node(node, "ip", "route", "replace", "default", "via", str(hop), "dev", link)
    addresses: list[dict[str, Any]] = [{"type": "InternalIP", "address": text} for text in new]
    addresses.append({"type": "Hostname", "address": node})
    patch = json.dumps({"status": {"addresses": addresses}})
    net.lab.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)


@layouts("dual-shared-per-node")
def test_everything_follows_a_node_to_another_address(net: Net, moved: list[str]) -> None:
    """Pods go on: none is made anew."""
    node = net.lab.nodes[-1]
    pod = net.lab.get("pod", "s2")
    port = net.node_port("moved")
    for address in moved:
        assert net.answered(OUTSIDE, address, port).server in net.servers, "NodePorts"
        wait_until(
            lambda address=address: (  # type: ignore[misc]
                getattr(net.ask(("exec", "default/s2"), net.outside_of(address), 8080), "peer", "") == address
            ),
            30,
            "the outside sees the new address",
        )
    assert l3_addresses(net, node) == moved
    wait_until(lambda: net.lab.pings("client", net.lab.pod_ips("s2")[0]), 30, "the tunnel")
    assert net.lab.get("pod", "s2")["metadata"]["uid"] == pod["metadata"]["uid"]


# -- disabled -------------------------------------------------------------------------------------------------


@layouts("dual-shared-single", "ipv6-local-central")
def test_disabled_it_leaves_nothing_on_the_node_and_comes_back(net: Net) -> None:
    node, bare = "node1", net.bridge() == "breth0"
    addresses = net.node_addresses(node)
    net.answered(POD1, net.outside[0], 8080)
    net.configure(node, '[plugins]\ndisabled = ["gateway"]\n')
    link = "eth0" if bare else "br-ex"
    try:
        wait_until(lambda: leftovers(net, node) == [], 30, f"nothing is left: {leftovers(net, node)}")
        assert net.lab.node(node, "ovs-vsctl", "list-br").split() == (["br-int"] if bare else ["br-ex", "br-int"])
        shown = net.lab.node(node, "ip", "-o", "address", "show", "dev", link, "scope", "global")
        assert {line.split()[3].partition("/")[0] for line in shown.splitlines()} == set(addresses)
        for family in net.lab.families:
            assert f"dev {link}" in net.lab.node(node, "ip", f"-{family}", "route", "show", "default")
        for address in addresses:
            assert net.lab.external("ping", "-c", "1", "-W", "2", address).returncode == 0
    finally:
        net.configure(node, "")
    assert net.answered(POD1, net.outside[0], 8080).peer in addresses


def leftovers(net: Net, node: str) -> list[str]:
    """What the gateway has put on a node, in the kernel and in Open vSwitch."""
    found = []
    for family in ("-4", "-6"):
        routes = net.lab.node(node, "ip", family, "route", "show", "table", "all", "proto", "79")
        found += [line for line in routes.splitlines() if "ovn-k8s-mp0" not in line or "table 7" in line]
        found += [
            line for line in net.lab.node(node, "ip", family, "rule", "show").splitlines() if "lookup 7" in line
        ]
    shown = net.lab.node(node, "ip", "-o", "address", "show")
    found += [line for line in shown.splitlines() if "169.254.169.2/" in line or "fd69::2/" in line]
    neighbours = net.lab.node(node, "ip", "neigh", "show", "nud", "permanent")
    found += [line for line in neighbours.splitlines() if "ovn-k8s-mp0" not in line and "PERMANENT" in line]
    ruleset = net.lab.node(node, "nft", "list", "ruleset")
    found += [line for line in ruleset.splitlines() if "local-gw-masq" in line or "pod-subnet-masq" in line]
    settings = net.lab.node(node, "ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids")
    found += ["ovn-bridge-mappings"] if "ovn-bridge-mappings" in settings else []
    for bridge in net.lab.node(node, "ovs-vsctl", "list-br").split():
        if bridge != "br-int":
            dump = net.lab.node(node, "ovs-ofctl", "-OOpenFlow15", "--no-stats", "dump-flows", bridge)
            found += [line for line in dump.splitlines() if "cookie=0x6f" in line and "priority=110" not in line]
    return found
