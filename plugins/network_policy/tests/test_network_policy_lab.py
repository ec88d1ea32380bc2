"""Policies enforced on packets: connections made and refused between pods on different nodes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ovnkit_lab.testing import LabFactory, LabHandle, wait_until

pytestmark = pytest.mark.lab

LAYOUTS = {
    "dual-per-node": {"ip_family": "dual", "zones": "per-node"},
    "ipv6-central": {"ip_family": "ipv6", "zones": "central"},
}
SERVER = """
import socket, threading
def serve(port):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    while True:
        server.accept()[0].close()
for port in (8080, 8081):
    threading.Thread(target=serve, args=(port,)).start()
"""
CLIENT = """
import socket, sys
for address in sys.argv[2:]:
    socket.create_connection((address, int(sys.argv[1])), 0.7).close()
"""


class Cluster:
    """Namespaces a and b (labelled team=NAME) with a server and a client each, on different nodes."""

    def __init__(self, lab: LabHandle) -> None:
        self.lab = lab
        ports = [{"name": "web", "containerPort": 8080}]
        for name in ("a", "b"):
            lab.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": name}}}
            )
            server = lab.pod("server", sys.executable, "-c", SERVER, namespace=name, node="node1")
            server["spec"]["containers"][0]["ports"] = ports
            server["metadata"]["labels"] = {"app": "server"}
            client = lab.pod("client", namespace=name, node="node2")
            client["metadata"]["labels"] = {"app": "client"}
            lab.apply(server, client)
        for name in ("a", "b"):
            lab.wait_ready("server", "client", namespace=name)
        self.addresses = {name: lab.pod_ips("server", name) for name in ("a", "b")}

    def reaches(self, client: str, server: str = "a", port: int = 8080) -> bool:
        """Whether a namespace's client can connect to a namespace's server, in every family."""
        done = self.lab.exec(f"{client}/client", sys.executable, "-c", CLIENT, str(port), *self.addresses[server])
        return done.returncode == 0

    def settles(self, expected: dict[tuple[str, str, int], bool]) -> None:
        """Wait until each (client, server, port) is as expected."""

        def differing() -> dict[tuple[str, str, int], bool]:
            return {key: wanted for key, wanted in expected.items() if self.reaches(*key) is not wanted}

        wait_until(lambda: not differing(), 20, "connections as the policies say")
        assert differing() == {}, "and they stay so"

    def policy(self, name: str, spec: dict[str, Any], namespace: str = "a") -> None:
        self.lab.apply(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"podSelector": {}, **spec},
            }
        )


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def whole(request: pytest.FixtureRequest, lab_factory: LabFactory) -> Iterator[Cluster]:
    cluster = Cluster(lab_factory(**LAYOUTS[request.param]))
    yield cluster
    cluster.lab.kubectl("delete", "namespace", "a", "b", "--timeout=60s")


@pytest.fixture
def cluster(whole: Cluster) -> Iterator[Cluster]:
    yield whole
    for name in ("a", "b"):
        whole.lab.kubectl("delete", "networkpolicy", "--all", "-n", name)


def test_default_deny_and_its_end(cluster: Cluster) -> None:
    cluster.settles({("a", "a", 8080): True, ("b", "a", 8080): True})
    cluster.policy("deny", {"policyTypes": ["Ingress"]})
    cluster.settles({("a", "a", 8080): False, ("b", "a", 8080): False, ("a", "b", 8080): True})
    cluster.lab.delete("networkpolicy", "deny", namespace="a")
    cluster.settles({("a", "a", 8080): True, ("b", "a", 8080): True})


def test_allow_by_pod_label_and_a_label_that_changes(cluster: Cluster) -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "client", "role": "friend"}}}]
    cluster.policy("friends", {"ingress": [{"from": peers}]})
    cluster.settles({("a", "a", 8080): False, ("b", "a", 8080): False})
    cluster.lab.kubectl("label", "pod", "client", "-n", "a", "role=friend")
    cluster.settles({("a", "a", 8080): True, ("b", "a", 8080): False})
    cluster.lab.kubectl("label", "pod", "client", "-n", "a", "role-")
    cluster.settles({("a", "a", 8080): False})


def test_allow_by_namespace(cluster: Cluster) -> None:
    expression = {"key": "team", "operator": "NotIn", "values": ["a"]}
    peers = [{"namespaceSelector": {"matchExpressions": [expression]}}]
    cluster.policy("others", {"ingress": [{"from": peers}]})
    cluster.settles({("a", "a", 8080): False, ("b", "a", 8080): True})
    cluster.lab.kubectl("label", "namespace", "b", "team=a", "--overwrite")
    cluster.settles({("b", "a", 8080): False})
    cluster.lab.kubectl("label", "namespace", "b", "team=b", "--overwrite")
    cluster.settles({("b", "a", 8080): True})


def test_named_ports_are_not_widened(cluster: Cluster) -> None:
    ports = [{"protocol": "TCP", "port": "web"}]
    cluster.policy("web", {"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"ports": ports}]})
    cluster.settles({("a", "a", 8080): True, ("a", "a", 8081): False, ("b", "a", 8080): True})


def test_port_ranges(cluster: Cluster) -> None:
    cluster.policy("range", {"ingress": [{"ports": [{"protocol": "TCP", "port": 8081, "endPort": 9000}]}]})
    cluster.settles({("b", "a", 8080): False, ("b", "a", 8081): True})


def test_address_blocks_with_exceptions(cluster: Cluster) -> None:
    pods = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}
    client = cluster.lab.pod_ips("client", "b")
    blocks = [
        {
            "ipBlock": {
                "cidr": pods[6 if ":" in address else 4],
                "except": [f"{address}/{128 if ':' in address else 32}"],
            }
        }
        for address in client
    ]
    cluster.policy("blocks", {"ingress": [{"from": blocks}]})
    cluster.settles({("a", "a", 8080): True, ("b", "a", 8080): False})


def test_egress_to_one_namespace_only(cluster: Cluster) -> None:
    peers = [
        {"namespaceSelector": {"matchLabels": {"team": "b"}}, "podSelector": {"matchLabels": {"app": "server"}}}
    ]
    client = {"matchLabels": {"app": "client"}}
    cluster.policy("out", {"podSelector": client, "policyTypes": ["Egress"], "egress": [{"to": peers}]})
    cluster.settles({("a", "b", 8080): True, ("a", "a", 8080): False, ("b", "a", 8080): True})


def test_policies_add_up(cluster: Cluster) -> None:
    cluster.policy("one", {"ingress": [{"from": [{"podSelector": {}}]}]})
    cluster.settles({("a", "a", 8080): True, ("b", "a", 8080): False})
    cluster.policy("two", {"ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 8081}]}]})
    cluster.settles({("a", "a", 8080): True, ("b", "a", 8080): False, ("b", "a", 8081): True})


def test_the_own_node_always_reaches_its_pods(cluster: Cluster) -> None:
    cluster.policy("deny", {"policyTypes": ["Ingress", "Egress"]})
    cluster.settles({("a", "a", 8080): False})
    for address in cluster.addresses["a"]:
        cluster.lab.node("node1", sys.executable, "-c", CLIENT, "8080", address)
