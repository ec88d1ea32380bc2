"""A lab with servers, a client and a host outside, shared by the tests that send packets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from attrs import frozen

from ovnkit_lab.layout import Files
from ovnkit_lab.testing import LabHandle, LabPool, wait_until

LAYOUTS: dict[str, dict[str, Any]] = {
    "dual-shared-per-node": {"ip_family": "dual"},
    "dual-shared-central": {"ip_family": "dual", "zones": "central"},
    "dual-local-per-node": {"ip_family": "dual", "mode": "local"},
    "ipv6-shared-per-node": {"ip_family": "ipv6"},
    "ipv6-local-central": {"ip_family": "ipv6", "zones": "central", "mode": "local"},
    # One node, whose bridge ovnkit makes.
    "dual-shared-single": {"ip_family": "dual", "nodes": 1, "interface": "eth0"},
    # A translation for each pod instead of one for the cluster.
    "ipv4-shared-per-pod": {"ip_family": "ipv4", "disable-snat-multiple-gws": True},
}
SERVER = """
import socket, sys, threading
server = socket.create_server(("::", int(sys.argv[2])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
def serve(client, peer):
    client.sendall(f"{sys.argv[1]} {peer[0].removeprefix('::ffff:')}".encode())
    client.close()
while True:
    threading.Thread(target=serve, args=server.accept()).start()
"""
CLIENT = """
import socket, sys
for _ in range(int(sys.argv[3])):
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as connection:
        print(connection.makefile().read(), flush=True)
"""


@frozen
class Answer:
    """Who answered, and whom it saw."""

    server: str
    peer: str


@frozen
class Net:
    """A lab with servers s1 (on the first node) and s2 (on the last), a client on node1, and a server outside."""

    lab: LabHandle
    outside: tuple[str, ...]
    mode: str

    @property
    def servers(self) -> dict[str, str]:
        """The node of each server."""
        return {"s1": self.lab.nodes[0], "s2": self.lab.nodes[-1]}

    def ask(self, where: tuple[str, ...], address: str, port: int) -> Answer | str:
        """Connect from a place (`exec POD`, `node NODE`, `external`): the answer, or the error's last line."""
        found = self.ask_often(where, address, port, 1)
        return found if isinstance(found, str) else found[0]

    def ask_often(self, where: tuple[str, ...], address: str, port: int, times: int) -> list[Answer] | str:
        """The answers to connections one after another, or the last line of the error that ended them."""
        client = [sys.executable, "-c", CLIENT, address, str(port), str(times)]
        done = self.lab.run(*where, "--", *client, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no output"])[-1]
        answers = (line.split() for line in done.stdout.splitlines())
        return [Answer(server, str(ip_address(peer))) for server, peer in answers]

    def answered(self, where: tuple[str, ...], address: str, port: int) -> Answer:
        """The answer, waited for: rows, flows and neighbours may take a moment."""

        def answer() -> Answer | None:
            return found if isinstance(found := self.ask(where, address, port), Answer) else None

        found = wait_until(answer, 20, f"{where} reaches {address} port {port}")
        assert found is not None
        return found

    def node_addresses(self, node: str) -> list[str]:
        """The InternalIPs of a node."""
        found = self.lab.get("node", node)["status"]["addresses"]
        return [item["address"] for item in found if item["type"] == "InternalIP"]

    def outside_of(self, address: str) -> str:
        """The outside host's address of the family of another."""
        return next(ip for ip in self.outside if ip_address(ip).version == ip_address(address).version)

    def service(self, name: str, **spec: Any) -> dict[str, Any]:
        """Make a service of the servers; the object as the API server completed it."""
        families = {"ipFamilyPolicy": "PreferDualStack"} if len(self.lab.families) > 1 else {}
        ports = [{"name": "who", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
        spec = {"selector": {"app": "who"}, "ports": ports, **families, **spec}
        self.lab.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
        return self.lab.get("service", name)

    def node_port(self, name: str, **spec: Any) -> int:
        """Make a service with a node port; its number."""
        return int(self.service(name, type="NodePort", **spec)["spec"]["ports"][0]["nodePort"])

    def bridge(self, node: str = "node1") -> str:
        """The external bridge of a node."""
        bridges = self.lab.node(node, "ovs-vsctl", "list-br").split()
        return next(name for name in bridges if name != "br-int")

    def configure(self, node: str, text: str) -> None:
        """Add to the configuration of a node's ovnkit, or take the addition away (empty), and restart it."""
        path = Files(self.lab.name).config(node)
        before = path.read_text().partition("# added\n")[0]
        path.write_text(f"{before}# added\n{text}" if text else before)
        self.lab.run("restart", node, "ovnkit")


POD1, NODE1, OUTSIDE = ("exec", "default/client"), ("node", "node1"), ("external",)


@contextmanager
def made_net(labs: LabPool, layout: str) -> Iterator[Net]:
    """The lab of a layout with everything in it; it is clean again afterwards."""
    options = dict(LAYOUTS[layout])
    gateway = {"mode": options.pop("mode", "shared"), "nodeport": True}
    for key in ("interface", "disable-snat-multiple-gws"):
        if key in options:
            gateway[key] = options.pop(key)
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in gateway.items()]
    with labs.lend(config="[gateway]\n" + "".join(lines), **options) as lab:
        net = Net(lab, (), gateway["mode"])
        server_command = [sys.executable, "-c", SERVER]
        servers = [lab.pod(name, *server_command, name, "8080", node=node) for name, node in net.servers.items()]
        for server in servers:
            server["metadata"]["labels"] = {"app": "who"}
        lab.apply(*servers, lab.pod("client", node="node1"))
        lab.wait_ready("s1", "s2", "client")
        command = [sys.executable, "-m", "ovnkit_lab", "external", "--name", lab.name, "--"]
        process = subprocess.Popen([*command, *server_command, "outside", "8080"])
        shown = lab.external("ip", "-o", "address", "show", "dev", "eth0", "scope", "global", check=True).stdout
        outside = tuple(line.split()[3].partition("/")[0] for line in shown.splitlines())
        try:
            yield Net(lab, outside, gateway["mode"])
        finally:
            process.terminate()
            process.wait(10)
            lab.delete_services()
            lab.delete("pod", "s1", "s2", "client")
