"""Packet sizes from end to end: a path outside that takes less than pods do, and pods that take less than it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from attrs import frozen
from gateway_net import OUTSIDE, Net

from ovnkit_lab.testing import wait_until

LAYOUTS = ("dual-shared-per-node", "dual-shared-central", "dual-local-per-node")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.parametrize("net", LAYOUTS, indirect=True, scope="session"),
]

SIZE = 300_000
NARROW = 1280
"""Bytes that the path to the far host takes: the least that IPv6 allows."""
FAR = {
    4: ("198.18.5.1/24", "198.18.5.2/24", "198.18.5.0/24"),
    6: ("2001:db8:5::1/64", "2001:db8:5::2/64", "2001:db8:5::/64"),
}
BULK = """
import socket, sys, threading
server = socket.create_server(("::", 9090), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
def serve(client):
    with client:
        way, size = client.recv(1), int(sys.argv[1])
        if way == b"D":
            client.sendall(bytes(size))
        elif way == b"U":
            while size > 0 and (data := client.recv(min(65536, size))):
                size -= len(data)
            client.sendall(b"all" if size == 0 else b"some")
        client.shutdown(socket.SHUT_WR)
        client.recv(1)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=server.accept()[:1]).start()
"""
MOVE = """
import socket, sys
way, address, port, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with socket.create_connection((address, port), 5) as connection:
    connection.settimeout(20)
    connection.sendall(way.encode())
    if way == "U":
        connection.sendall(bytes(size))
        print(connection.recv(10).decode())
    else:
        print(sum(map(len, iter(lambda: connection.recv(65536), b""))))
"""
KNOCK = """
import errno, socket, sys, time
address, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
level, discover, mtu = (41, 23, 24) if ":" in address else (0, 10, 14)  # IP(V6)_MTU_DISCOVER, IP(V6)_MTU
client = socket.socket(family, socket.SOCK_DGRAM)
client.setsockopt(level, discover, 2)
client.connect((address, port))
for _ in range(20):
    try:
        client.send(bytes(size))
    except OSError as error:
        if error.errno == errno.EMSGSIZE:
            print(client.getsockopt(level, mtu))
            break
    time.sleep(0.1)
"""


@frozen
class Far:
    """A host behind the outside host, over a link that takes less than anybody thinks."""

    name: str
    addresses: dict[int, str]

    def download(self, address: str, port: int) -> int:
        """Bytes that a server sent to this host, 0 when the connection failed or hung."""
        client = [sys.executable, "-c", MOVE, "D", address, str(port), "0"]
        command = ["ip", "netns", "exec", self.name, *client]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        return int(done.stdout or "0")


@pytest.fixture
def bulk(net: Net) -> Iterator[None]:
    """A pod that sends and takes bulk."""
    pod = net.lab.pod("bulk", sys.executable, "-c", BULK, str(SIZE), node="node1")
    pod["metadata"]["labels"] = {"app": "bulk"}
    net.lab.apply(pod)
    net.lab.wait_ready("bulk")
    yield
    net.lab.delete("pod", "bulk")


@pytest.fixture
def far(net: Net) -> Iterator[Far]:
    name, lab = f"ovnkit-far-{os.getpid()}", net.lab
    outside, fabric = f"ovnlab-{lab.name}.external", f"ovnlab-{lab.name}.fabric"

    def ip(netns: str, *words: str) -> None:
        subprocess.run(["ip", "-n", netns, *words], check=True, capture_output=True)

    subprocess.run(["ip", "netns", "add", name], check=True)
    server = None
    try:
        ends = ("type", "veth", "peer", "name", "eth0", "netns", name)
        ip(outside, "link", "add", "far0", "mtu", str(NARROW), *ends)
        for netns, link in ((outside, "far0"), (name, "eth0")):
            ip(netns, "link", "set", link, "up")
        for near, there, network in FAR.values():
            ip(outside, "address", "add", near, "dev", "far0", *(["nodad"] if ":" in near else []))
            ip(name, "address", "add", there, "dev", "eth0", *(["nodad"] if ":" in near else []))
            ip(name, "route", "add", "default", "via", near.partition("/")[0])
            ip(fabric, "route", "add", network, "via", net.outside_of(near.partition("/")[0]))
        server = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-c", BULK, str(SIZE)], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield Far(name, {family: item[1].partition("/")[0] for family, item in FAR.items()})
    finally:
        if server is not None:
            server.kill()
            server.wait()
        # A namespace's own end of it would go some time after the namespace, and be in the way of the next test.
        subprocess.run(["ip", "-n", outside, "link", "del", "far0"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=True)
        for _, _, network in FAR.values():
            subprocess.run(["ip", "-n", fabric, "route", "del", network], check=False, capture_output=True)


def move(net: Net, way: str, address: str, port: int) -> str:
    """What the client pod says of moving the bulk up or down."""
    return net.lab.exec("client", sys.executable, "-c", MOVE, way, address, str(port), str(SIZE)).stdout.strip()


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_sends_over_a_path_that_is_narrower_than_it_knows(net: Net, far: Far, family: int) -> None:
    address = far.addresses[family]
    wait_until(lambda: net.lab.pings("client", address), 20, "the far host answers")
    assert move(net, "U", address, 9090) == "all"
    shown = net.lab.exec("client", "ip", "route", "get", address).stdout
    assert f"mtu {NARROW}" in shown, "it heard how much the path takes"


@pytest.mark.usefixtures("bulk")
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_a_node_port_answers_over_a_path_that_is_narrower_than_its_pod_knows(
    net: Net, far: Far, policy: str
) -> None:
    """IPv4 only: the userspace datapath damages ICMPv6 errors about connections that it translates."""
    ports = [{"name": "bulk", "port": 80, "targetPort": 9090, "protocol": "TCP"}]
    name, selector = f"bulk-{policy.lower()}", {"app": "bulk"}
    port = net.node_port(name, selector=selector, ports=ports, externalTrafficPolicy=policy)
    for node in net.lab.nodes if policy == "Cluster" else net.lab.nodes[:1]:
        address = next(ip for ip in net.node_addresses(node) if ip_address(ip).version == 4)
        arrived = wait_until(lambda address=address: far.download(address, port), 40, f"an answer of {node}")  # type: ignore[misc]
        assert arrived == SIZE


@pytest.mark.usefixtures("bulk")
@pytest.mark.parametrize("family", [4, 6])
def test_the_outside_hears_that_pods_take_less(net: Net, family: int) -> None:
    ports = [{"name": "datagrams", "port": 81, "targetPort": 9091, "protocol": "UDP"}]
    port = net.node_port("datagrams", selector={"app": "bulk"}, ports=ports)
    address = next(ip for ip in net.node_addresses("node1") if ip_address(ip).version == family)
    knock = [sys.executable, "-c", KNOCK, address, str(port), "1440"]
    heard = wait_until(lambda: net.lab.run(*OUTSIDE, "--", *knock).stdout.strip(), 20, "packet too big")
    assert heard == "1400"
