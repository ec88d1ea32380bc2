"""North-south traffic and services with real connections: who gets through, and whom the other side sees."""

from __future__ import annotations

import json
import sys
from ipaddress import ip_address

import pytest
from gateway_net import LAYOUTS, NODE1, OUTSIDE, POD1, SERVER, Net

from ovnkit_lab.testing import wait_until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.parametrize("net", LAYOUTS, indirect=True, scope="session"),
]


def test_pods_reach_the_outside_with_the_address_of_their_node(net: Net) -> None:
    for address in net.outside:
        answer = net.answered(POD1, address, 8080)
        assert answer.server == "outside"
        assert answer.peer in net.node_addresses("node1"), "translated to the node's own address"


def test_a_node_finds_its_neighbours_while_its_pods_send_to_them(net: Net) -> None:
    """The node and its gateway router have one MAC: the bridge must not take the last one who sent for both."""
    addresses = [*net.outside, *net.node_addresses(net.lab.nodes[-1])]
    for _ in range(5):
        for address in addresses:
            assert net.lab.exec("client", "ping", "-c", "1", "-W", "2", address).returncode == 0
            net.lab.node("node1", "ip", "neigh", "flush", "to", address)
            net.lab.node("node1", "ping", "-c", "1", "-W", "2", address)


def test_a_pod_that_comes_later_reaches_the_outside_too(net: Net) -> None:
    """Where each pod has a translation of its own, it gets one."""
    net.lab.apply(net.lab.pod("late", node="node1"))
    net.lab.wait_ready("late")
    try:
        answer = net.answered(("exec", "default/late"), net.outside[0], 8080)
        assert answer.peer in net.node_addresses("node1")
    finally:
        net.lab.delete("pod", "late")


def test_cluster_ips_from_pod_and_host(net: Net) -> None:
    addresses = net.service("inside")["spec"]["clusterIPs"]
    assert len(addresses) == len(net.lab.families)
    for address in addresses:
        assert net.answered(POD1, address, 80).server in ("s1", "s2")
        assert net.answered(NODE1, address, 80).server in ("s1", "s2")
    answers = net.ask_often(POD1, addresses[0], 80, 20)
    assert not isinstance(answers, str), answers
    assert {answer.server for answer in answers} == {"s1", "s2"}, "both endpoints get their share"


def test_a_pod_reaches_itself_through_its_service(net: Net) -> None:
    own = {"selector": {"app": "who", "statefulset.kubernetes.io/pod-name": "self"}}
    pod = net.lab.pod("self", sys.executable, "-c", SERVER, "self", "8080", node="node1")
    pod["metadata"]["labels"] = own["selector"]
    net.lab.apply(pod)
    net.lab.wait_ready("self")
    try:
        for address in net.service("hairpin", **own)["spec"]["clusterIPs"]:
            assert net.answered(("exec", "default/self"), address, 80).server == "self"
    finally:
        net.lab.delete("pod", "self")


def test_node_ports_from_outside_on_every_node(net: Net) -> None:
    port = net.node_port("ported")
    for node in net.lab.nodes:
        for address in net.node_addresses(node):
            assert net.answered(OUTSIDE, address, port).server in ("s1", "s2")


def test_local_policy_keeps_the_clients_address_and_the_node(net: Net) -> None:
    port = net.node_port("local", externalTrafficPolicy="Local")
    for node in net.lab.nodes:
        here = {server for server, place in net.servers.items() if place == node}
        for address in net.node_addresses(node):
            answer = net.answered(OUTSIDE, address, port)
            assert answer.server in here
            assert answer.peer == net.outside_of(address)


def test_external_and_load_balancer_addresses(net: Net) -> None:
    """Addresses of nobody, routed to a node by the network outside."""
    for family, address, balanced in ((4, "203.0.113.7", "203.0.113.8"), (6, "2001:db8::7", "2001:db8::8")):
        if family not in net.lab.families:
            continue
        service = {"ipFamilies": [f"IPv{family}"], "ipFamilyPolicy": "SingleStack", "externalIPs": [address]}
        net.service(f"external-{family}", type="LoadBalancer", **service)
        status = {"status": {"loadBalancer": {"ingress": [{"ip": balanced}]}}}
        net.lab.kubectl(
            "patch",
            "service",
            f"external-{family}",
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps(status),
        )
        hop = next(ip for ip in net.node_addresses(net.lab.nodes[-1]) if ip_address(ip).version == family)
        for target in (address, balanced):
            net.lab.external("ip", "route", "replace", target, "via", hop, check=True)
            assert net.answered(OUTSIDE, target, 80).server in ("s1", "s2")


def test_affinity_keeps_a_client_at_its_endpoint(net: Net) -> None:
    affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    service = net.service("sticky", type="NodePort", **affinity)
    spec = service["spec"]
    for where, address, port in (
        (POD1, spec["clusterIPs"][0], 80),
        (NODE1, spec["clusterIPs"][0], 80),
        (OUTSIDE, net.node_addresses("node1")[0], spec["ports"][0]["nodePort"]),
    ):
        first = net.answered(where, address, port).server
        answers = net.ask_often(where, address, port, 10)
        assert not isinstance(answers, str), answers
        assert {answer.server for answer in answers} == {first}


def test_without_endpoints_a_connection_is_refused_at_once(net: Net) -> None:
    for address in net.service("empty", selector={"app": "nobody"})["spec"]["clusterIPs"]:
        refused = wait_until(
            lambda address=address: "refused" in str(net.ask(POD1, address, 80)).lower(),  # type: ignore[misc]
            15,
            "refused",
        )
        assert refused


def test_an_endpoint_that_goes_gets_no_more_connections(net: Net) -> None:
    third = net.lab.pod("s3", sys.executable, "-c", SERVER, "s3", "8080", node=net.lab.nodes[-1])
    third["metadata"]["labels"] = {"app": "who"}
    net.lab.apply(third)
    net.lab.wait_ready("s3")
    address = net.service("shrinking")["spec"]["clusterIPs"][0]
    wait_until(lambda: "s3" in str(net.ask_often(POD1, address, 80, 5)), 30, "the third server is asked")
    net.lab.delete("pod", "s3")
    answers = net.ask_often(POD1, address, 80, 20)
    assert not isinstance(answers, str), answers
    assert {answer.server for answer in answers} == {"s1", "s2"}
