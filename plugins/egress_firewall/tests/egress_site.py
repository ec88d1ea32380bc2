"""A lab for egress firewall tests: pods of two namespaces, a host outside with several addresses, a DNS server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from egress_dns_server import write_zone

from ovnkit_lab.layout import netns_prefix
from ovnkit_lab.testing import LabHandle

DNS_PORT = 5353
CONFIG = f"""
[gateway]
mode = "shared"
nodeport = true
[egress_firewall]
dns-servers = ["172.18.0.3:{DNS_PORT}"]
"""
OUTSIDE = {
    name: (f"172.18.0.{number}", f"fd00:172:18::{number}")
    for name, number in {"first": 101, "second": 102, "third": 103}.items()
}
EVERYWHERE = ("0.0.0.0/0", "::/0")
Probe = tuple[str, str, int]
"""Protocol (`tcp`, `udp`, `ping`), address, port."""

SERVER = """
import socket, threading
def tcp(port):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
    while True:
        client, peer = server.accept()
        threading.Thread(target=echo, args=(client,), daemon=True).start()
def echo(client):
    try:
        while data := client.recv(100):
            client.sendall(data)
    except OSError:
        pass
    client.close()
def udp(port):
    for family, address in ADDRESSES:
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((address, port))
        threading.Thread(target=reply, args=(server,)).start()
def reply(server):
    while True:
        data, peer = server.recvfrom(100)
        server.sendto(data, peer)
ADDRESSES = [(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in __import__("sys").argv[1:]]
udp(8080)
threading.Thread(target=tcp, args=(8081,)).start()
tcp(8080)
"""
CLIENT = """
import json, socket, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
def probe(item):
    what, address, port = item
    if what == "ping":
        return subprocess.run(["ping", "-c", "1", "-W", "1", address], capture_output=True).returncode == 0
    try:
        if what == "tcp":
            with socket.create_connection((address, port), 1.0) as link:
                link.sendall(b"x")
                return link.recv(1) == b"x"
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(1.0)
            link.connect((address, port))
            link.send(b"x")
            return link.recv(1) == b"x"
    except OSError:
        return False
items = json.loads(sys.argv[1])
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(list(pool.map(probe, items))))
"""


OPEN_SCHEMA = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
RESOLVER_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "dnsnameresolvers.network.openshift.io"},
    "spec": {
        "group": "network.openshift.io",
        "scope": "Namespaced",
        "names": {"plural": "dnsnameresolvers", "singular": "dnsnameresolver", "kind": "DNSNameResolver"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": OPEN_SCHEMA,
            }
        ],
    },
}


class Site:
    """Namespaces shop and free with a pod on each node that serves and asks; what is outside; names."""

    def __init__(self, lab: LabHandle, folder: Path) -> None:
        self.lab = lab
        self.zone_file = folder / "zone"
        self.names({})
        self.netns = f"{netns_prefix(lab.name)}external"
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        addresses = [a for pair in OUTSIDE.values() for a in pair]
        lines = [
            f"address replace {a}/{64 if ':' in a else 16} dev eth0 {'nodad' if ':' in a else ''}"
            for a in addresses
        ]
        subprocess.run(
            ["ip", "-n", self.netns, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True
        )
        self._run(sys.executable, "-c", SERVER, *addresses)
        server = Path(__file__).with_name("egress_dns_server.py")
        self._run(sys.executable, str(server), "172.18.0.3", str(DNS_PORT), str(self.zone_file))
        # Early: who watches looks again after some seconds.
        self.lab.apply(RESOLVER_CRD)
        for namespace in ("shop", "free"):
            self.lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            pods = [
                self.lab.pod(f"p{n}", sys.executable, "-c", SERVER, namespace=namespace, node=f"node{n}")
                for n in (1, 2)
            ]
            for pod in pods:
                pod["metadata"]["labels"] = {"app": pod["metadata"]["name"]}
            self.lab.apply(*pods)
        host = self.lab.pod("host", sys.executable, "-c", SERVER, namespace="free", node="node2", hostNetwork=True)
        host["metadata"]["labels"] = {"app": "host"}
        self.lab.apply(host)
        self.lab.wait_ready("p1", "p2", namespace="shop")
        self.lab.wait_ready("p1", "p2", "host", namespace="free")

    def _run(self, *command: str) -> None:
        # `ip netns exec` becomes the command, so that ending it ends the command.
        whole = ["ip", "netns", "exec", self.netns, *command]
        self._running.append(subprocess.Popen(whole, stdout=subprocess.DEVNULL))

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        self.lab.delete("namespace", "shop", "free")

    def names(self, zone: Mapping[str, Any]) -> None:
        """What the DNS says from now on."""
        write_zone(self.zone_file, dict(zone))

    # -- firewalls ------------------------------------------------------------------------------------------

    def firewall(self, *rules: Mapping[str, Any], namespace: str = "shop") -> None:
        """Make or replace a namespace's firewall."""
        self.lab.apply(
            {
                "apiVersion": "k8s.ovn.org/v1",
                "kind": "EgressFirewall",
                "metadata": {"name": "default", "namespace": namespace},
                "spec": {"egress": list(rules)},
            }
        )

    def status(self) -> Mapping[str, Any]:
        return self.lab.get("egressfirewall", "default", "shop").get("status") or {}

    def acls(self, node: str = "node1") -> list[dict[str, Any]]:
        """The rules' ACLs in a node's northbound, by priority."""
        where = 'external_ids:"k8s.ovn.org/owner-type"=EgressFirewall'
        text = self.lab.node(
            node,
            "ovn-nbctl",
            "--format=json",
            "--columns=priority,action,match,external_ids",
            "find",
            "ACL",
            where,
        )
        found = json.loads(text)
        rows = [dict(zip(found["headings"], row, strict=True)) for row in found["data"]]
        return sorted(rows, key=lambda row: -row["priority"])

    def node_addresses(self, node: str) -> list[str]:
        found = self.lab.get("node", node)["status"]["addresses"]
        return [item["address"] for item in found if item["type"] == "InternalIP"]

    # -- packets --------------------------------------------------------------------------------------------

    def probe(self, where: str, probes: Iterable[Probe]) -> dict[Probe, bool]:
        """Try all at the same time, from a pod (`namespace/name`)."""
        wanted = list(probes)
        done = self.lab.exec(where, sys.executable, "-c", CLIENT, json.dumps(wanted), check=True)
        return dict(zip(wanted, json.loads(done.stdout), strict=True))

    def settles(self, where: str, expected: Mapping[Probe, bool], deadline: float = 20) -> None:
        """Wait until everything is as expected at the same time."""

        def differing() -> dict[Probe, bool]:
            found = self.probe(where, expected)
            return {probe: not wanted for probe, wanted in expected.items() if found[probe] is not wanted}

        end = time.monotonic() + deadline
        while wrong := differing():
            if time.monotonic() > end:
                pytest.fail(f"{where}, after {deadline:.0f} s packets are not as the rules say: {wrong}")


def both(name: str, port: int = 8080, what: str = "tcp") -> list[Probe]:
    """Probes of one of the outside names in both families."""
    return [(what, address, port) for address in OUTSIDE[name]]


def expect(*groups: tuple[Iterable[Probe], bool]) -> dict[Probe, bool]:
    return {probe: wanted for probes, wanted in groups for probe in probes}


def to(kind: str, *cidrs: str, ports: Iterable[tuple[str, int]] = ()) -> list[dict[str, Any]]:
    """A rule per CIDR."""
    return [_rule(kind, {"cidrSelector": cidr}, ports) for cidr in cidrs]


def to_host(kind: str, name: str, ports: Iterable[tuple[str, int]] = ()) -> list[dict[str, Any]]:
    """Rules on the addresses of an outside name, one per family."""
    return to(kind, *(f"{a}/{128 if ':' in a else 32}" for a in OUTSIDE[name]), ports=ports)


def to_name(kind: str, name: str, ports: Iterable[tuple[str, int]] = ()) -> dict[str, Any]:
    return _rule(kind, {"dnsName": name}, ports)


def to_nodes(kind: str, **labels: str) -> dict[str, Any]:
    return _rule(kind, {"nodeSelector": {"matchLabels": labels}}, ())


def _rule(kind: str, destination: dict[str, Any], ports: Iterable[tuple[str, int]]) -> dict[str, Any]:
    listed = [{"protocol": protocol, "port": port} for protocol, port in ports]
    return {"type": kind, "to": destination, **({"ports": listed} if listed else {})}


@contextmanager
def site(lab: LabHandle, folder: Path) -> Iterator[Site]:
    made = Site(lab, folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
