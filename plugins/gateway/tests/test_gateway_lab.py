"""North-south traffic and services with real connections: who gets through, and whom the other side sees."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from attrs import frozen

from ovnkit_lab.testing import LabFactory, LabHandle, wait_until

pytestmark = pytest.mark.lab

LAYOUTS = {
    "dual-shared-per-node": {"ip_family": "dual", "zones": "per-node", "mode": "shared"},
    "dual-shared-central": {"ip_family": "dual", "zones": "central", "mode": "shared"},
    "dual-local-per-node": {"ip_family": "dual", "zones": "per-node", "mode": "local"},
    "ipv6-shared-per-node": {"ip_family": "ipv6", "zones": "per-node", "mode": "shared"},
}
SERVER = """
import socket, sys
server = socket.create_server(("::", int(sys.argv[2])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
while True:
    client, peer = server.accept()
    client.sendall(f"{sys.argv[1]} {peer[0].removeprefix('::ffff:')}".encode())
    client.close()
"""
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as connection:
    print(connection.makefile().read())
"""


@frozen
class Answer:
    """Who answered, and whom it saw."""

    server: str
    peer: str


@frozen
class Net:
    """A lab with servers s1 (on node1) and s2 (on node2), a client on node1, and a server outside."""

    lab: LabHandle
    outside: tuple[str, ...]

    def ask(self, where: tuple[str, ...], address: str, port: int) -> Answer | str:
        """Connect from a place (`exec POD`, `node NODE`, `external`): the answer, or the error's last line."""
        done = self.lab.run(*where, "--", sys.executable, "-c", CLIENT, address, str(port), check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no output"])[-1]
        server, peer = done.stdout.split()
        return Answer(server, str(ip_address(peer)))

    def answered(self, where: tuple[str, ...], address: str, port: int) -> Answer:
        """The answer, waited for: rows, flows and neighbours may take a moment."""
        return wait_until(
            lambda: found if isinstance(found := self.ask(where, address, port), Answer) else None,
            15,
            f"{where} reaches {address} port {port}",
        )

    def node_addresses(self, node: str) -> list[str]:
        found = self.lab.get("node", node)["status"]["addresses"]
        return [item["address"] for item in found if item["type"] == "InternalIP"]

    def service(self, name: str, **spec: Any) -> dict[str, Any]:
        """Make a service of the servers; the object as the API server completed it."""
        families = {"ipFamilyPolicy": "PreferDualStack"} if len(self.lab.families) > 1 else {}
        ports = [{"name": "who", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
        self.lab.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": {"app": "who"}, "ports": ports, **families, **spec},
            }
        )
        return self.lab.get("service", name)


POD1, NODE1, OUTSIDE = ("exec", "default/client"), ("node", "node1"), ("external",)


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def net(request: pytest.FixtureRequest, lab_factory: LabFactory) -> Iterator[Net]:
    layout = LAYOUTS[request.param]
    lab = lab_factory(
        ip_family=layout["ip_family"],
        zones=layout["zones"],
        config=f'[gateway]\nmode = "{layout["mode"]}"\nnodeport = true\n',
    )
    servers = [
        {**lab.pod(name, sys.executable, "-c", SERVER, name, "8080", node=node)}
        for name, node in (("s1", "node1"), ("s2", "node2"))
    ]
    for server in servers:
        server["metadata"]["labels"] = {"app": "who"}
    lab.apply(*servers, lab.pod("client", node="node1"))
    lab.wait_ready("s1", "s2", "client")
    command = [sys.executable, "-m", "ovnkit_lab", "external", "--name", lab.name, "--"]
    process = subprocess.Popen([*command, sys.executable, "-c", SERVER, "outside", "8080"])
    shown = lab.external("ip", "-o", "address", "show", "dev", "eth0", "scope", "global", check=True).stdout
    outside = tuple(line.split()[3].partition("/")[0] for line in shown.splitlines())
    try:
        yield Net(lab, outside)
    finally:
        process.terminate()
        process.wait(10)
        lab.delete("service", "--all")
        lab.delete("pod", "s1", "s2", "client")


def test_pods_reach_the_outside_with_the_address_of_their_node(net: Net) -> None:
    for address in net.outside:
        answer = net.answered(POD1, address, 8080)
        assert answer.server == "outside"
        assert answer.peer in net.node_addresses("node1"), "translated to the node's own address"


def test_cluster_ips_from_pod_and_host(net: Net) -> None:
    addresses = net.service("inside")["spec"]["clusterIPs"]
    assert len(addresses) == len(net.lab.families)
    for address in addresses:
        assert net.answered(POD1, address, 80).server in ("s1", "s2")
        assert net.answered(NODE1, address, 80).server in ("s1", "s2")
    servers = {net.answered(POD1, addresses[0], 80).server for _ in range(20)}
    assert servers == {"s1", "s2"}, "both endpoints get their share"


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
    port = net.service("ported", type="NodePort")["spec"]["ports"][0]["nodePort"]
    for node in net.lab.nodes:
        for address in net.node_addresses(node):
            assert net.answered(OUTSIDE, address, port).server in ("s1", "s2")


def test_local_policy_keeps_the_clients_address_and_the_node(net: Net) -> None:
    service = net.service("local", type="NodePort", externalTrafficPolicy="Local")
    port = service["spec"]["ports"][0]["nodePort"]
    for node, server in (("node1", "s1"), ("node2", "s2")):
        for address in net.node_addresses(node):
            assert net.answered(OUTSIDE, address, port) == Answer(
                server, next(ip for ip in net.outside if ip_address(ip).version == ip_address(address).version)
            )


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
        hop = next(ip for ip in net.node_addresses("node2") if ip_address(ip).version == family)
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
        assert {net.answered(where, address, port).server for _ in range(10)} == {first}


def test_without_endpoints_a_connection_is_refused_at_once(net: Net) -> None:
    for address in net.service("empty", selector={"app": "nobody"})["spec"]["clusterIPs"]:
        refused = wait_until(
            lambda address=address: "refused" in str(net.ask(POD1, address, 80)).lower(), 15, "refused"
        )
        assert refused


def test_an_endpoint_that_goes_gets_no_more_connections(net: Net) -> None:
    third = net.lab.pod("s3", sys.executable, "-c", SERVER, "s3", "8080", node="node2")
    third["metadata"]["labels"] = {"app": "who"}
    net.lab.apply(third)
    net.lab.wait_ready("s3")
    address = net.service("shrinking")["spec"]["clusterIPs"][0]
    wait_until(lambda: net.answered(POD1, address, 80).server == "s3", 30, "the third server is asked")
    net.lab.delete("pod", "s3")
    servers = [net.ask(POD1, address, 80) for _ in range(20)]
    assert {getattr(answer, "server", answer) for answer in servers} == {"s1", "s2"}
