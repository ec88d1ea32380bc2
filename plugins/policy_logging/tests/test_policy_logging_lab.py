"""Log lines of real packets: what they name, where they arrive, how many, and when there are none any more."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from ovnkit_lab.testing import LabHandle, LabPool, wait_until

pytestmark = pytest.mark.lab
# Nothing is cleaned up: the labs here have configurations of their own, no other suite shares them.

ANNOTATION = "k8s.ovn.org/acl-logging"
CONFIG = "$OVN_LOGDIR/../ovnkit.toml"
"""Path of a node's configuration, for a shell there."""
EXTERNAL = ("172.18.0.3", "fd00:172:18::3")
SERVER = """
import socket
server = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
while True:
    server.accept()[0].close()
"""
CONNECT = """
import socket, sys
for address in sys.argv[2:]:
    try:
        socket.create_connection((address, int(sys.argv[1])), 0.3).close()
    except OSError:
        pass
"""
FLOOD = """
import socket, sys, time
count, pause, began = int(sys.argv[1]), float(sys.argv[2]), time.monotonic()
family = socket.AF_INET6 if ":" in sys.argv[3] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sender:
    for number in range(count):
        for address in sys.argv[3:]:
            sender.sendto(b"x" * 10, (address, 9))
        time.sleep(pause)
print(time.monotonic() - began)
"""


@frozen
class Line:
    """What a log line says."""

    name: str
    verdict: str
    severity: str
    direction: str
    source: str
    destination: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Line:
        found = re.search(
            r'acl_log\(ovn_pinctrl\d\)\|INFO\|name="(?P<name>[^"]*)", verdict=(?P<verdict>\w+), '
            r"severity=(?P<severity>\w+), direction=(?P<direction>[\w-]+): (?P<flow>\S+)$",
            text,
        )
        assert found is not None, text
        flow = dict(part.partition("=")[::2] for part in found["flow"].split(","))
        kind = "ipv6" if "ipv6_src" in flow else "nw"
        return cls(
            found["name"], found["verdict"], found["severity"], found["direction"],
            flow[f"{kind}_src"], flow[f"{kind}_dst"], int(flow["tp_dst"]),
        )  # fmt: skip


class Cluster:
    """Namespaces a and b with a server on the first node and a client on the last."""

    def __init__(self, lab: LabHandle, *namespaces: str) -> None:
        self.lab = lab
        self.addresses: dict[str, list[str]] = {}
        for name in namespaces:
            lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            server = lab.pod("server", sys.executable, "-c", SERVER, namespace=name, node=lab.nodes[0])
            lab.apply(server, lab.pod("client", namespace=name, node=lab.nodes[-1]))
        for name in namespaces:
            lab.wait_ready("server", "client", namespace=name)
            for pod in ("server", "client"):
                self.addresses[f"{name}/{pod}"] = lab.pod_ips(pod, name)

    def annotate(self, namespace: str, value: str | None) -> None:
        text = f"{ANNOTATION}={value}" if value is not None else f"{ANNOTATION}-"
        self.lab.kubectl("annotate", "--overwrite", "namespace", namespace, text)

    def policy(self, namespace: str, spec: dict[str, Any], name: str = "web") -> None:
        meta = {"name": name, "namespace": namespace}
        self.lab.apply(
            {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
        )

    def connect(self, client: str, *addresses: str, port: int = 8080) -> None:
        self.lab.exec(client, sys.executable, "-c", CONNECT, str(port), *addresses)

    def flood(self, client: str, count: int, pause: float, *addresses: str) -> float:
        """Send this many datagrams to each address; how long it took in seconds."""
        done = self.lab.exec(client, sys.executable, "-c", FLOOD, str(count), str(pause), *addresses, check=True)
        return float(done.stdout)

    def on_node(self, node: str, *words: str, check: bool = True) -> str:
        """What a command on a node prints; its words may have variables."""
        return self.lab.node(node, "sh", "-c", " ".join(words), check=check)

    def file(self, node: str, name: str = "acl-audit-log.log") -> list[str]:
        return self.on_node(node, "cat", f"$OVN_LOGDIR/{name}", check=False).splitlines()

    def lines(self, node: str) -> list[Line]:
        return [Line.parse(text) for text in self.file(node)]


def both(*lists: list[str]) -> Iterable[tuple[str, ...]]:
    """The addresses of each family together."""
    return list(zip(*lists, strict=True))


# -- what lines say: files, dual stack, zones per node ------------------------------------------------------------

FILES = """
[policy_logging]
acl-logging-rate-limit = 100000
max-file-size = 1
max-log-files = 2
"""


@pytest.fixture(scope="module")
def whole(labs: LabPool) -> Iterator[Cluster]:
    with labs.own(ip_family="dual", config=FILES) as lab:
        cluster = Cluster(lab, "lga", "lgb")
        own: dict[str, Any] = {"podSelector": {}}
        cluster.policy(
            "lga",
            {
                "podSelector": {},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [own], "ports": [{"port": 8080}]}],
                "egress": [{"to": [own], "ports": [{"port": 8080}]}],
            },
        )
        yield cluster


@pytest.fixture
def cluster(whole: Cluster) -> Cluster:
    whole.annotate("lga", '{"allow":"notice","deny":"alert"}')
    return whole


def appears(
    cluster: Cluster, node: str, wanted: set[Line], client: str, *addresses: str, port: int = 8080
) -> None:
    """Connect until a node's log has these lines."""

    def missing() -> set[Line]:
        cluster.connect(client, *addresses, port=port)
        return wanted - set(cluster.lines(node))

    wait_until(lambda: not missing(), 30, f"lines {wanted} on {node}")


def test_allowed_connections_in_both_directions(cluster: Cluster) -> None:
    client, server = cluster.addresses["lga/client"], cluster.addresses["lga/server"]
    out = {
        Line("NP:lga:web:Egress:0", "allow", "notice", "from-lport", c, s, 8080) for c, s in both(client, server)
    }
    into = {
        Line("NP:lga:web:Ingress:0", "allow", "notice", "to-lport", c, s, 8080) for c, s in both(client, server)
    }
    assert len(out) == 2, "a line per family"
    appears(cluster, "node2", out, "lga/client", *server)
    appears(cluster, "node1", into, "lga/client", *server)


def test_denied_connections_in_both_directions(cluster: Cluster) -> None:
    inner, outer = cluster.addresses["lga/server"], cluster.addresses["lgb/client"]
    denied = {Line("NP:lga:Ingress", "drop", "alert", "to-lport", c, s, 8080) for c, s in both(outer, inner)}
    appears(cluster, "node1", denied, "lgb/client", *inner)
    inner, outer = cluster.addresses["lga/client"], cluster.addresses["lgb/server"]
    denied = {Line("NP:lga:Egress", "drop", "alert", "from-lport", c, s, 8080) for c, s in both(inner, outer)}
    appears(cluster, "node2", denied, "lga/client", *outer)
    assert not {line for line in cluster.lines("node2") if line.name.startswith("NP:lgb")}


def test_egress_firewall(cluster: Cluster) -> None:
    client = cluster.addresses["lgb/client"]
    rules = [
        {"type": kind, "to": {"cidrSelector": network}, **({"ports": ports} if ports else {})}
        for kind, ports in (("Allow", [{"protocol": "TCP", "port": 443}]), ("Deny", []))
        for network in ("0.0.0.0/0", "::/0")
    ]
    meta = {"name": "default", "namespace": "lgb"}
    cluster.lab.apply(
        {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": meta, "spec": {"egress": rules}}
    )
    cluster.annotate("lgb", '{"allow":"debug","deny":"warning"}')
    try:
        for port, rule, verdict, severity in ((443, 0, "allow", "debug"), (80, 2, "drop", "warning")):
            wanted = {
                Line(f"EF:lgb:{rule + number}", verdict, severity, "to-lport", c, s, port)
                for number, (c, s) in enumerate(zip(client, EXTERNAL, strict=True))
            }
            appears(cluster, "node2", wanted, "lgb/client", *EXTERNAL, port=port)
    finally:
        cluster.annotate("lgb", None)
        cluster.lab.delete("egressfirewall", "default", namespace="lgb")


def severities(cluster: Cluster) -> set[str]:
    """Severities of the lines that one more denied connection leaves."""
    before = len(cluster.file("node1"))
    cluster.connect("lgb/client", *cluster.addresses["lga/server"])
    time.sleep(1.2)  # more than twice what lines take to the file
    return {Line.parse(text).severity for text in cluster.file("node1")[before:]}


def test_the_annotation_is_followed(cluster: Cluster) -> None:
    wait_until(lambda: severities(cluster) == {"alert"}, 30, "lines of severity alert")
    cluster.annotate("lga", '{"deny":"info"}')
    wait_until(lambda: severities(cluster) == {"info"}, 30, "lines of severity info")
    cluster.annotate("lga", None)
    wait_until(lambda: severities(cluster) == set(), 30, "no more lines")
    assert severities(cluster) == set(), "and it stays so"


def test_a_wrong_annotation_is_told_on_its_namespace(cluster: Cluster) -> None:
    def messages() -> list[str]:
        items = cluster.lab.get("events")["items"]
        told = [item for item in items if item["involvedObject"].get("name") == "lga"]
        return [item["message"] for item in told if item["reason"] == "InvalidAnnotation"]

    cluster.annotate("lga", '{"deny":"info","allow":"loud"}')
    wait_until(lambda: any("allow is 'loud'" in text for text in messages()), 30, "an Event about the severity")
    wait_until(lambda: severities(cluster) == {"info"}, 30, "the rest holds")
    cluster.annotate("lga", '{"deny":')
    wait_until(lambda: any("is not JSON" in text for text in messages()), 30, "an Event about the JSON")
    wait_until(lambda: severities(cluster) == set(), 30, "no lines")


def test_the_name_in_a_line_leads_to_its_policy(cluster: Cluster) -> None:
    def explain(name: str) -> dict[str, str]:
        [row] = json.loads(cluster.on_node("node1", "ovnkit explain", name, "--config", CONFIG, "--output json"))
        return dict(row)

    rule = explain("NP:lga:web:Ingress:0")
    assert (rule["table"], rule["object"]) == ("ACL", "NetworkPolicy/lga/web")
    assert "policy lga/web" in rule["sentence"]
    assert explain("acl-logging")["sentence"] == "limits the log lines of ACLs, on each node"


def test_nothing_is_lost_while_ovnkit_restarts_and_the_log_is_rotated(cluster: Cluster) -> None:
    """As logrotate does it. What ovn-controller wrote and what arrived are compared line by line."""

    def logged() -> list[str]:
        files = ("ovn-controller.log.1", "ovn-controller.log")
        return [text for name in files for text in cluster.file("node1", name) if "|acl_log(" in text]

    wait_until(lambda: severities(cluster) == {"alert"}, 30, "lines")
    before = len(cluster.file("node1"))
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(cluster.flood, "lgb/client", 1200, 0.004, cluster.addresses["lga/server"][0])
        wait_until(lambda: len(cluster.file("node1")) > before + 50, 30, "the first lines")
        cluster.lab.run("restart", "node1", "ovnkit")
        cluster.on_node("node1", "cd $OVN_LOGDIR; mv ovn-controller.log ovn-controller.log.1")
        assert not flood.done(), "all of it under fire"
        cluster.on_node("node1", "ovn-appctl -t ovn-controller vlog/reopen")
        flood.result()
    assert len(logged()) > before + 1000, "most packets have a line"
    wait_until(lambda: cluster.file("node1") == logged(), 30, "the same lines in both")


def test_files_are_rotated(cluster: Cluster) -> None:
    def rotated() -> list[str]:
        cluster.flood("lgb/client", 3000, 0.0005, cluster.addresses["lga/server"][0])
        return cluster.on_node("node1", 'cd $OVN_LOGDIR; stat -c "%n %s %i" acl-audit*').splitlines()

    cluster.annotate("lga", '{"deny":"info"}')
    wait_until(lambda: len(rotated()) == 2, 60, "a second file")
    first = rotated()[1].split()[2]
    found = wait_until(lambda: [row for row in [rotated()] if row[1].split()[2] != first], 60, "a third file")[0]
    assert [row.split()[0] for row in found] == ["acl-audit-log.log", "acl-audit-log.log.1"], "and no more"
    assert all(int(row.split()[1]) <= 1_000_000 for row in found)
    assert {Line.parse(text).name for text in cluster.file("node1", "acl-audit-log.log.1")} == {"NP:lga:Ingress"}


# -- syslog, and how many lines -----------------------------------------------------------------------------------

RATE = 10


class Counted:
    """Two namespaces whose servers deny everything, and a third that sends to both."""

    def __init__(self, lab: LabHandle) -> None:
        self.cluster = Cluster(lab, "lgx", "lgy", "lgz")
        self.targets = [self.cluster.addresses[f"{name}/server"][0] for name in ("lgx", "lgy")]
        for name in ("lgx", "lgy"):
            self.cluster.policy(name, {"podSelector": {}, "policyTypes": ["Ingress"]})
            self.cluster.annotate(name, '{"deny":"warning"}')

    def flood(self, seconds: float) -> float:
        return self.cluster.flood("lgz/client", int(seconds * 50), 0.02, *self.targets)

    def probe(self) -> None:
        self.cluster.flood("lgz/client", 1, 0, *self.targets)


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    """The socket of a syslog daemon."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path_factory.mktemp("syslog") / "log"))
        server.settimeout(2)
        yield server


@pytest.fixture(scope="module")
def unix(labs: LabPool, sink: socket.socket) -> Iterator[Counted]:
    """A lab of the machine's own OVN, the oldest that is supported."""
    options = {
        "acl-logging-rate-limit": RATE, "destination": f"unix:{sink.getsockname()}", "syslog-facility": "local3",
    }  # fmt: skip
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
    with labs.own(nodes=1, config=f"[policy_logging]\n{text}", ovn="host") as lab:
        yield Counted(lab)


def received(server: socket.socket) -> list[str]:
    """Everything until nothing comes for a while."""
    found = []
    try:
        while True:
            found.append(server.recv(8192).decode())
    except TimeoutError:
        return found


def test_syslog_over_a_unix_socket_and_the_rate_of_each_acl(unix: Counted, sink: socket.socket) -> None:
    def said() -> list[str]:
        unix.probe()
        return received(sink)

    messages = wait_until(lambda: [text for text in [said()] if len(text) >= 2], 60, "lines of both")[0]
    priority = 19 * 8 + 4  # local3.warning
    for text in messages:
        assert re.match(rf"<{priority}>\w{{3}} [ \d]\d [\d:]{{8}} node1 ovn-controller: ovs\|\d+\|acl_log", text)
    elapsed = unix.flood(4)
    names = [Line.parse(text).name for text in received(sink)]
    for name in ("NP:lgx:Ingress", "NP:lgy:Ingress"):
        assert RATE * (elapsed - 2) <= names.count(name) <= RATE * (elapsed + 2)
    assert len(names) > RATE * (elapsed + 2), "each ACL has the rate for itself"


def test_an_ovn_controller_that_restarts_is_followed(unix: Counted, sink: socket.socket) -> None:
    unix.cluster.lab.run("restart", "node1", "ovn-controller")

    def said() -> list[str]:
        unix.probe()
        return received(sink)

    wait_until(lambda: any("NP:lgx:Ingress" in text for text in said()), 60, "lines of the new one")
    rows = unix.cluster.lab.node("node1", "ovn-appctl", "-t", "ovn-controller", "vlog/list").splitlines()
    assert ["acl_log", "OFF", "OFF", "INFO"] in [row.split() for row in rows]


RECEIVER = """
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
    server.bind(("::1", 5514))
    print("ready", flush=True)
    while True:
        print(server.recv(8192).decode(), flush=True)
"""


@pytest.fixture(scope="module")
def udp(labs: LabPool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Counted, Path]]:
    """A lab that sends to UDP in its node's namespace, where a receiver writes what comes to a file."""
    options = {"acl-logging-rate-limit": RATE, "rate-limit-per": "node", "destination": "udp:[::1]:5514"}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
    with labs.own(nodes=1, ip_family="ipv6", zones="central", config=f"[policy_logging]\n{text}") as lab:
        path = tmp_path_factory.mktemp("udp") / "received"
        command = [sys.executable, "-m", "ovnkit_lab", "node", "--name", lab.name, "node1", "--"]
        with path.open("w") as out, subprocess.Popen(
            [*command, sys.executable, "-c", RECEIVER], stdout=out, stdin=subprocess.DEVNULL
        ) as receiver:  # fmt: skip
            try:
                wait_until(lambda: path.read_text().startswith("ready"), 30, "the receiver")
                yield Counted(lab), path
            finally:
                receiver.terminate()


def test_syslog_over_udp_and_a_rate_that_all_acls_share(udp: tuple[Counted, Path]) -> None:
    counted, path = udp

    def said() -> bool:
        counted.probe()
        return {"NP:lgx:Ingress", "NP:lgy:Ingress"} <= {Line.parse(text).name for text in lines()}

    def lines() -> list[str]:
        return path.read_text().splitlines()[1:]

    wait_until(said, 60, "lines of both")
    assert all(text.startswith(f"<{16 * 8 + 4}>") for text in lines()), "local0.warning"
    time.sleep(1.5)
    before = len(lines())
    elapsed = counted.flood(4)
    time.sleep(1.5)
    assert RATE * (elapsed - 2) <= len(lines()) - before <= RATE * (elapsed + 2)
