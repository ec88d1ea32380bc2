"""Who reaches whom in every address family and zone layout, and with the host's own OVN, with real packets."""

import ipaddress
import itertools
from collections.abc import Iterator

import pytest

from ovnkit_lab.testing import LabHandle, LabPool, wait_until

pytestmark = pytest.mark.lab

MAKES = [
    pytest.param({"ip_family": family, "zones": zones, "ovn": ovn}, id=f"{family}-{zones}-{ovn or 'recent'}")
    for ovn, zones, family in itertools.product(("", "host"), ("per-node", "central"), ("ipv4", "ipv6", "dual"))
]
PODS = {"near": "node1", "same": "node1", "far": "node2"}


@pytest.fixture(scope="module", params=MAKES)
def cluster(request: pytest.FixtureRequest, labs: LabPool) -> Iterator[LabHandle]:
    with labs.lend(**request.param) as lab:
        server = ["python3", "-m", "http.server", "--bind", "::", "8080"]
        lab.apply(*(lab.pod(name, *server, node=node) for name, node in PODS.items()))
        lab.wait_ready(*PODS)
        yield lab
        lab.delete("pod", *PODS)


def addresses(lab: LabHandle, pod: str) -> list[str]:
    found = lab.pod_ips(pod)
    assert tuple(ipaddress.ip_address(address).version for address in found) == lab.families
    return found


def url(address: str) -> str:
    return f"http://[{address}]:8080/" if ":" in address else f"http://{address}:8080/"


@pytest.mark.parametrize(("source", "target"), [("near", "same"), ("near", "far"), ("far", "near")])
def test_pods_reach_each_other(cluster: LabHandle, source: str, target: str) -> None:
    for address in addresses(cluster, target):
        wait_until(lambda address=address: cluster.pings(source, address), what=f"{source} pings {address}")  # type: ignore[misc]
        fetched = cluster.exec(source, "curl", "-sS", "-m", "5", "-o", "/dev/null", url(address))
        assert fetched.returncode == 0, fetched.stderr


def test_large_packets_pass_unfragmented(cluster: LabHandle) -> None:
    for address in addresses(cluster, "far"):
        size = 1400 - (48 if ":" in address else 28)
        sent = cluster.exec("near", "ping", "-c", "1", "-W", "2", "-M", "do", "-s", str(size), address)
        assert sent.returncode == 0, sent.stdout


@pytest.mark.parametrize("target", ["near", "far"])
def test_hosts_reach_pods(cluster: LabHandle, target: str) -> None:
    for address in addresses(cluster, target):
        cluster.node("node1", "ping", "-c", "1", "-W", "2", address)
        cluster.node("node1", "curl", "-sS", "-m", "5", "-o", "/dev/null", url(address))


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_pods_reach_hosts_by_the_management_port(cluster: LabHandle, node: str) -> None:
    shown = cluster.node(node, "ip", "-o", "address", "show", "dev", "ovn-k8s-mp0", "scope", "global")
    found = [line.split()[3].partition("/")[0] for line in shown.splitlines()]
    assert len(found) == len(cluster.families)
    for address in found:
        wait_until(lambda address=address: cluster.pings("near", address), what=f"near pings {address}")  # type: ignore[misc]


def test_the_node_keeps_what_upstream_keeps_in_annotations(cluster: LabHandle) -> None:
    annotations = cluster.get("node", "node1")["metadata"]["annotations"]
    for name in (
        "node-subnets",
        "node-id",
        "node-chassis-id",
        "node-primary-ifaddr",
        "node-encap-ips",
        "host-cidrs",
    ):
        assert annotations.get(f"k8s.ovn.org/{name}"), name
