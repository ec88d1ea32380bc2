"""Services with real packets: who is served, by whom, over TCP, UDP and SCTP, and what comes of bad input.

What comes from outside and session affinity by connections are in the gateway's suite as well.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from ovnkit_lab.testing import LabHandle, LabPool, wait_until

pytestmark = pytest.mark.lab

LAYOUTS = {
    "dual-shared-per-node": {"ip_family": "dual", "zones": "per-node", "mode": "shared"},
    "dual-shared-central": {"ip_family": "dual", "zones": "central", "mode": "shared"},
    "dual-local-per-node": {"ip_family": "dual", "zones": "per-node", "mode": "local"},
}
ONCE = pytest.mark.parametrize("site", ["dual-shared-per-node"], indirect=True, scope="module")
"""For what no layout can change."""

PROGRAM = str(Path(__file__).with_name("services_lab_program.py"))
PORTS = [
    {"name": "tcp", "port": 80, "targetPort": 8080, "protocol": "TCP"},
    {"name": "udp", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    {"name": "sctp", "port": 2905, "targetPort": 2906, "protocol": "SCTP"},
]
WEB = {"app": "web"}
BALANCED = {4: "203.0.113.18", 6: "2001:db8::18"}
Place = tuple[str, ...]
POD1, HOST1, HOST2, OUTSIDE = ("exec", "default/client"), ("node", "node1"), ("node", "node2"), ("external",)


@frozen
class Answer:
    """Who answered, and whom it saw."""

    server: str
    peer: str


@frozen
class Site:
    """A lab with servers w1 (on node1) and w2 (on node2), a client on node1, and a server outside."""

    lab: LabHandle
    outside: dict[int, str]
    agents: dict[Place, subprocess.Popen[str]] = field(factory=dict)

    @property
    def families(self) -> tuple[int, ...]:
        return self.lab.families

    def ask(self, where: Place, address: str, port: int, protocol: str = "tcp") -> Answer | str:
        """The answer, or the error's name."""
        server, _, peer = self.asked(where, protocol, address, port, 1)[0].partition(" ")
        return Answer(server, str(ip_address(peer))) if peer else server

    def who(self, where: Place, address: str, port: int, times: int = 6) -> set[str]:
        """Who answers several connections over TCP, and errors among them."""
        lines = self.asked(where, "tcp", address, port, times)
        assert len(lines) == times
        return {line.partition(" ")[0] for line in lines}

    def burst(self, where: Place, address: str, port: int, protocol: str = "tcp") -> set[str]:
        """Who answers eight that ask at the same time, and errors among them."""
        return {line.partition(" ")[0] for line in self.asked(where, protocol, address, port, 8, "at-once")}

    def asked(
        self, where: Place, protocol: str, address: str, port: int, times: int = 1, how: str = ""
    ) -> list[str]:
        """Answers, and errors among them, word for word."""
        agent = self.agents[where]
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write(f"{protocol} {address} {port} {times} {how}\n")
        agent.stdin.flush()
        return agent.stdout.readline().strip().split(";")

    def command(self, where: Place, *words: str) -> list[str]:
        """The command line that runs the program somewhere."""
        head = [sys.executable, "-m", "ovnkit_lab", where[0], "--name", self.lab.name, *where[1:], "--"]
        return [*head, sys.executable, PROGRAM, *words]

    @contextlib.contextmanager
    def agent(self, where: Place) -> Iterator[None]:
        """A client that asks whatever it is told to, without a new process each time."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(self.command(where, "agent"), text=True, **pipes) as process:
            self.agents[where] = process
            yield
            process.terminate()

    def until(self, where: Place, address: str, port: int, expected: str, protocol: str = "tcp") -> Answer | str:
        """Ask until a certain server answers, or until a certain error comes."""

        def asked() -> Answer | str | None:
            found = self.ask(where, address, port, protocol)
            return found if getattr(found, "server", found) == expected else None

        return wait_until(asked, 20, f"{expected} for {where} at {address} {protocol} {port}")  # type: ignore[return-value]

    def answered(self, where: Place, address: str, port: int, protocol: str = "tcp") -> Answer:
        """The answer, waited for: rows, flows and neighbours may take a moment."""

        def asked() -> Answer | None:
            found = self.ask(where, address, port, protocol)
            return found if isinstance(found, Answer) else None

        return wait_until(asked, 20, f"{where} reaches {address} {protocol} {port}")

    @contextlib.contextmanager
    def started(self, where: Place, *words: str, log: Path) -> Iterator[Path]:
        """The program runs somewhere, and writes to a file."""
        with log.open("w") as out:
            process = subprocess.Popen(self.command(where, *words), stdout=out)
        try:
            yield log
        finally:
            process.terminate()
            process.wait(10)

    def server(self, name: str, node: str, labels: dict[str, str], **spec: Any) -> dict[str, Any]:
        pod = self.lab.pod(name, sys.executable, PROGRAM, "serve", name, node=node, **spec)
        pod["metadata"]["labels"] = labels
        return pod

    def service(self, name: str, annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
        """Make a service; the specification as the API server completed it."""
        spec = {"selector": WEB, "ports": PORTS, "ipFamilyPolicy": "PreferDualStack", **spec}
        meta = {"name": name, "annotations": annotations or {}}
        self.lab.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
        found: dict[str, Any] = self.lab.get("service", name)["spec"]
        return found

    def announce(self, name: str, *addresses: str) -> None:
        """A load balancer outside takes these addresses for a service."""
        status = {"status": {"loadBalancer": {"ingress": [{"ip": address} for address in addresses]}}}
        patch = ("--subresource=status", "--type=merge", "-p", json.dumps(status))
        self.lab.kubectl("patch", "service", name, *patch)

    def patch(self, name: str, **spec: Any) -> None:
        self.lab.kubectl("patch", "service", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def slice(self, service: str, family: int, *endpoints: dict[str, Any]) -> dict[str, Any]:
        """An EndpointSlice made by hand."""
        return {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": f"{service}-{family}", "labels": {"kubernetes.io/service-name": service}},
            "addressType": f"IPv{family}", "endpoints": list(endpoints),
            "ports": [{"name": "tcp", "port": 8080, "protocol": "TCP"}],
        }  # fmt: skip

    def node_address(self, node: str, family: int) -> str:
        found = self.lab.get("node", node)["status"]["addresses"]
        own = [item["address"] for item in found if item["type"] == "InternalIP"]
        return next(str(text) for text in own if ip_address(text).version == family)

    def pod_address(self, name: str, family: int) -> str:
        return next(text for text in self.lab.pod_ips(name) if ip_address(text).version == family)

    def cluster_ip(self, spec: dict[str, Any], family: int) -> str:
        return next(str(text) for text in spec["clusterIPs"] if ip_address(text).version == family)

    def events(self, name: str) -> set[str]:
        items = self.lab.get("events")["items"]
        return {item["reason"] for item in items if item["involvedObject"]["name"] == name}


def node_port(spec: dict[str, Any], name: str = "tcp") -> int:
    return next(int(port["nodePort"]) for port in spec["ports"] if port["name"] == name)


def endpoint(address: str, node: str = "", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions, **({"nodeName": node} if node else {})}


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def site(request: pytest.FixtureRequest, labs: LabPool, tmp_path_factory: Any) -> Iterator[Site]:
    layout = LAYOUTS[request.param]
    gateway = f'[gateway]\nmode = "{layout["mode"]}"\n'
    with labs.lend(ip_family=layout["ip_family"], zones=layout["zones"], config=gateway) as lab:
        shown = lab.external("ip", "-o", "address", "show", "dev", "eth0", "scope", "global", check=True).stdout
        addresses = [line.split()[3].partition("/")[0] for line in shown.splitlines()]
        site = Site(lab, {ip_address(text).version: text for text in addresses})
        lab.apply(
            site.server("w1", "node1", {**WEB, "place": "one"}),
            site.server("w2", "node2", {**WEB, "place": "two"}),
            lab.pod("client", node="node1"),
        )
        lab.wait_ready("w1", "w2", "client")
        with contextlib.ExitStack() as stack:
            log = tmp_path_factory.mktemp("outside") / "log"
            stack.enter_context(site.started(OUTSIDE, "serve", "outside", log=log))
            for where in (POD1, HOST1, HOST2, OUTSIDE):
                stack.enter_context(site.agent(where))
            yield site
        lab.delete_services()
        lab.delete("pod", "w1", "w2", "client")


@pytest.fixture(autouse=True)
def tidy(site: Site) -> Iterator[None]:
    """Services and slices of a test go with it."""
    yield
    site.lab.delete_services()


# -- protocols --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["udp", "sctp"])
def test_udp_and_sctp_from_pod_host_and_outside(site: Site, protocol: str) -> None:
    spec = site.service("all", type="NodePort")
    port = next(item["port"] for item in spec["ports"] if item["name"] == protocol)
    for family in site.families:
        address = site.cluster_ip(spec, family)
        for where in (POD1, HOST1):
            assert site.answered(where, address, port, protocol).server in ("w1", "w2")
        there = site.node_address("node2", family)
        assert site.answered(OUTSIDE, there, node_port(spec, protocol), protocol).server in ("w1", "w2")


@pytest.mark.parametrize("site", ["dual-shared-per-node", "dual-shared-central"], indirect=True, scope="module")
def test_a_client_that_sends_before_there_is_a_service_is_served_once_there_is_one(
    site: Site, tmp_path: Path
) -> None:
    """UDP from one port all the time, and one TCP connection attempt for each life of the service.

    Not in local gateway mode: there, in the userspace datapath, ovs-vswitchd 3.5 crashes after it when somebody
    lists or flushes what it tracks.
    """
    port, labels = 31053, {"app": "later"}
    site.lab.apply(site.server("later", "node2", labels))
    site.lab.wait_ready("later")
    spec = site.service("reserved")
    site.lab.delete("service", "reserved")
    addresses = {family: site.cluster_ip(spec, family) for family in site.families}
    udp = {"name": "udp", "port": 53, "targetPort": 5353, "protocol": "UDP", "nodePort": port}
    tcp = {"name": "tcp", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    chosen: dict[str, Any] = {"type": "NodePort", "clusterIPs": list(addresses.values()), "selector": labels}

    def served(logs: list[Path], times: int, what: str) -> None:
        began = time.monotonic()
        # A stream that pauses for a second on a busy machine tells of its answers once more.
        wait_until(lambda: all(len(log.read_text().split()) >= times for log in logs), 20, f"served: {what}")
        assert time.monotonic() - began < 8, what

    with contextlib.ExitStack() as stack:
        streams: list[tuple[Place, str, int]] = []
        logs = []
        for family, address in addresses.items():
            own = site.node_address("node1", family)
            streams += [(where, address, 53) for where in (POD1, HOST1)]
            streams += [(where, own, port) for where in (POD1, HOST1, OUTSIDE)]
        for number, (where, address, target) in enumerate(streams):
            log = tmp_path / f"stream-{number}"
            words = ("stream", address, str(target), str(42100 + number))
            logs.append(stack.enter_context(site.started(where, *words, log=log)))
        with contextlib.ExitStack() as connecting:
            ways = [(where, "connect", addresses[4], "80") for where in (POD1, HOST1)]
            attempts = [
                connecting.enter_context(site.started(*way, log=tmp_path / f"connect-{number}"))
                for number, way in enumerate(ways)
            ]
            time.sleep(2)
            site.service("later", ports=[tcp], **chosen)
            # The kernel's next attempts are 4 and 8 s apart by then.
            wait_until(lambda: all(log.read_text() for log in attempts), 20, "connections from before are served")
        time.sleep(1)
        assert [log.read_text() for log in logs] == [""] * len(logs)
        site.service("later", ports=[tcp, udp], **chosen)
        served(logs, 1, "the port was added")
        site.lab.delete("service", "later")
        time.sleep(2)
        site.service("later", ports=[udp], **{**chosen, "selector": {"app": "nobody"}})
        time.sleep(1)
        assert [len(log.read_text().split()) for log in logs] == [1] * len(logs)
        site.patch("later", selector=labels)
        served(logs, 2, "made again, with an endpoint after a while")
    site.lab.delete("pod", "later")


def test_what_a_client_sends_before_the_first_answer_is_answered_too(site: Site) -> None:
    """From outside and the node itself through the node's gateway router, to an endpoint on another node."""
    pod = site.lab.pod("late", sys.executable, PROGRAM, "serve-late", node="node2")
    pod["metadata"]["labels"] = {"app": "late"}
    site.lab.apply(pod)
    site.lab.wait_ready("late")
    spec = site.service("late", type="NodePort", selector={"app": "late"})
    for family in site.families:
        own = (site.node_address("node1", family), node_port(spec, "udp"))
        for where, address, port in ((OUTSIDE, *own), (HOST1, *own), (HOST1, site.cluster_ip(spec, family), 53)):
            way = (where, "eager", address, port)
            wait_until(lambda way=way: site.asked(*way) != [""], 20, "an answer")  # type: ignore[misc]
            for _ in range(2):
                assert site.asked(*way) == ["12345"], way
    site.lab.delete("pod", "late")


def test_a_udp_client_with_one_port_moves_when_its_endpoint_goes(site: Site, tmp_path: Path) -> None:
    labels = {"app": "moving"}
    site.lab.apply(*(site.server(name, node, labels) for name, node in (("m1", "node1"), ("m2", "node2"))))
    site.lab.wait_ready("m1", "m2")
    spec = site.service("moving", type="NodePort", selector=labels)
    with contextlib.ExitStack() as stack:
        logs = []
        for number, family in enumerate(site.families):
            inside = (POD1, site.cluster_ip(spec, family), 53)
            outside = (OUTSIDE, site.node_address("node1", family), node_port(spec, "udp"))
            for where, address, port in (inside, outside):
                log = tmp_path / f"{where[0]}-{family}"
                words = ("stream", address, str(port), str(41000 + number))
                logs.append(stack.enter_context(site.started(where, *words, log=log)))
        wait_until(lambda: all(log.read_text() for log in logs), 20, "all streams are answered")
        gone = logs[0].read_text().split()[-1]
        site.lab.delete("pod", gone)
        left = {"m1": "m2", "m2": "m1"}[gone]
        wait_until(lambda: all(log.read_text().split()[-1] == left for log in logs), 20, f"{left} answers all")
    site.lab.delete("pod", left)


@pytest.mark.parametrize("site", ["dual-local-per-node"], indirect=True, scope="module")
def test_a_udp_client_moves_too_where_the_kernel_chooses_the_pod(site: Site, tmp_path: Path) -> None:
    """A local policy without NodePorts, in local gateway mode: nftables translates to a pod of the node."""
    labels = {"app": "chosen"}
    site.lab.apply(*(site.server(name, "node2", labels) for name in ("k1", "k2")))
    site.lab.wait_ready("k1", "k2")
    more: dict[str, Any] = {
        "allocateLoadBalancerNodePorts": False,
        "externalTrafficPolicy": "Local",
        "selector": labels,
    }
    site.service("chosen", type="LoadBalancer", **more)
    site.announce("chosen", BALANCED[4])
    hop = site.node_address("node2", 4)
    site.lab.external("ip", "route", "replace", BALANCED[4], "via", hop, check=True)
    site.answered(OUTSIDE, BALANCED[4], 53, "udp")
    with site.started(OUTSIDE, "stream", BALANCED[4], "53", "42000", log=tmp_path / "log") as log:
        gone = wait_until(log.read_text, 20, "the stream is answered").split()[-1]
        site.lab.delete("pod", gone)
        left = {"k1": "k2", "k2": "k1"}[gone]
        wait_until(lambda: log.read_text().split()[-1] == left, 20, f"{left} answers")
    site.lab.delete("pod", left)


@pytest.mark.parametrize("how", ["asked-to-go", "killed"])
@ONCE
def test_when_one_of_three_endpoints_dies_few_connections_are_lost(
    site: Site, tmp_path: Path, how: str, record_property: Any
) -> None:
    """100 connections a second; the server ends at once when it is asked to, like one that is killed."""
    labels, names = {"app": "dying"}, ("d1", "d2", "d3")
    site.lab.apply(*(site.server(name, "node2" if name == "d2" else "node1", labels) for name in names))
    site.lab.wait_ready(*names)
    address = site.service("dying", selector=labels)["clusterIP"]
    wait_until(lambda: site.who(POD1, address, 80, 20) == set(names), 20, "all three answer")
    with site.started(POD1, "rate", address, "80", "3", log=tmp_path / "log") as log:
        wait_until(log.read_text, 10, "the first connection")
        force = ("--grace-period=0", "--force") if how == "killed" else ()
        site.lab.kubectl("delete", "pod", "d2", "--wait=false", *force)
        wait_until(lambda: len(log.read_text().split()) > 1, 30, "the last connection")
    made, failed = map(int, log.read_text().split()[1:])
    record_property("connections made and lost", (made, failed))
    assert made > 100
    assert failed < made / 20, f"{failed} of {made} connections were lost"
    site.lab.delete("pod", "d1", "d3")


# -- refusal ----------------------------------------------------------------------------------------------------


def test_without_endpoints_everybody_is_refused_at_once_and_waits_when_it_is_idled(site: Site) -> None:
    spec = site.service("nobody", type="LoadBalancer", selector={"app": "nobody"})
    site.announce("nobody", *(BALANCED[family] for family in site.families))
    ways: list[tuple[Place, str, int, str]] = []
    for protocol, port in (("tcp", 80), ("udp", 53)):
        for family in site.families:
            inside = (site.cluster_ip(spec, family), BALANCED[family])
            ways += [(where, address, port, protocol) for where in (POD1, HOST1) for address in inside]
            for node in ("node1", "node2"):
                there = (site.node_address(node, family), node_port(spec, protocol), protocol)
                ways += [(where, *there) for where in (POD1, HOST1, OUTSIDE)]
    for way in ways:
        site.until(*way[:3], "ConnectionRefusedError", way[3])
        began = time.monotonic()
        assert site.ask(*way) == "ConnectionRefusedError", way
        assert time.monotonic() - began < 0.5, way
    site.lab.kubectl("annotate", "service", "nobody", "idling.alpha.openshift.io/idled-at=2030-01-01T00:00:00Z")
    site.until(HOST1, site.cluster_ip(spec, 4), 80, "TimeoutError")
    site.until(HOST1, site.node_address("node1", 4), node_port(spec), "TimeoutError")
    # Deleted and made again with an endpoint: nothing remembers.
    site.lab.delete("service", "nobody")
    spec = site.service("nobody", type="NodePort")
    for where, address, port in (
        (HOST1, site.cluster_ip(spec, 4), 80),
        (HOST1, site.node_address("node1", 4), node_port(spec)),
    ):
        site.answered(where, address, port)


# -- session affinity -------------------------------------------------------------------------------------------


def test_with_affinity_one_client_is_one_endpoint_from_the_first_packet_on(site: Site) -> None:
    """Bursts of a client that nobody knows (any more), and calls one after the other."""
    labels, names = {"app": "sticky"}, ("a1", "a2", "a3")
    site.lab.apply(*(site.server(name, "node2" if name == "a2" else "node1", labels) for name in names))
    site.lab.wait_ready(*names)
    timeout: dict[str, Any] = {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}
    spec = site.service("sticky", type="NodePort", selector=labels, sessionAffinity="ClientIP", **timeout)
    ways: list[tuple[Place, str, int]] = []
    for family in site.families:
        ways += [(where, site.cluster_ip(spec, family), 80) for where in (POD1, HOST1)]
        ways += [(where, site.node_address("node1", family), node_port(spec)) for where in (HOST1, OUTSIDE)]
    for way in ways:
        site.answered(*way)
    for _ in range(3):
        time.sleep(3)  # longer than the session, and than Open vSwitch takes to let it go
        for way in ways:
            found = site.burst(*way) | site.who(*way)
            assert len(found) == 1, f"{way}: {found}"
            assert found <= set(names), f"{way}: {found}"
    site.lab.delete("pod", *names)


# -- idling -----------------------------------------------------------------------------------------------------


def test_an_idled_service_asks_for_its_pods_and_then_serves_who_waited(site: Site, tmp_path: Path) -> None:
    labels = {"app": "sleeper"}
    idled = {"idling.alpha.openshift.io/idled-at": "2030-01-01T00:00:00Z"}
    spec = site.service("sleeper", idled, type="NodePort", selector=labels)
    inside = ("keep-asking", "tcp", spec["clusterIP"], "80")
    outside = ("keep-asking", "tcp", site.node_address("node2", 4), str(node_port(spec)))
    for where, words in ((POD1, inside), (OUTSIDE, outside)):
        site.until(where, words[2], int(words[3]), "TimeoutError")
    with (
        site.started(POD1, *inside, log=tmp_path / "inside") as one,
        site.started(OUTSIDE, *outside, log=tmp_path / "outside") as other,
    ):
        wait_until(lambda: "NeedPods" in site.events("sleeper"), 20, "the Event")
        site.lab.kubectl("annotate", "service", "sleeper", "idling.alpha.openshift.io/idled-at-")
        wait_until(
            lambda: "k8s.ovn.org/unidled-at" in site.lab.get("service", "sleeper")["metadata"]["annotations"],
            20,
            "the end of idling is noted",
        )
        # Ready when it listens: before that its own kernel would refuse.
        pod = site.server("sleeper", "node2", labels)
        pod["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        site.lab.apply(pod)
        answers = [wait_until(log.read_text, 30, "those who waited are served") for log in (one, other)]
    assert {answer.split()[0] for answer in answers} == {"sleeper"}
    site.lab.delete("pod", "sleeper")


# -- load balancers outside -------------------------------------------------------------------------------------


def health(site: Site, node: str, family: int, port: int) -> str:
    """Status and number of endpoints that a node tells a load balancer outside, or the error's name."""
    return site.asked(OUTSIDE, "health", site.node_address(node, family), port)[0]


def test_health_checks_tell_where_the_endpoints_are(site: Site) -> None:
    spec = site.service("checked", type="LoadBalancer", externalTrafficPolicy="Local", selector={"place": "one"})
    port = spec["healthCheckNodePort"]
    for family in site.families:
        for node, expected in (("node1", "200 1"), ("node2", "503 0")):
            wait_until(
                lambda node=node, family=family, expected=expected: health(site, node, family, port) == expected,  # type: ignore[misc]
                20,
                f"{node} says {expected}",
            )
    site.patch("checked", selector={"place": "two"})
    wait_until(lambda: health(site, "node1", 4, port) == "503 0", 20, "node1 has none any more")
    assert health(site, "node2", 4, port) == "200 1"


def test_source_ranges_let_only_those_in_who_are_named(site: Site) -> None:
    everybody = [f"{site.outside[family]}/{32 if family == 4 else 128}" for family in site.families]
    pods = [f"{site.pod_address('client', family)}/{32 if family == 4 else 128}" for family in site.families]
    spec = site.service("guarded", type="LoadBalancer", loadBalancerSourceRanges=everybody)
    site.announce("guarded", *(BALANCED[family] for family in site.families))
    for family in site.families:
        hop = site.node_address("node2", family)
        site.lab.external("ip", "route", "replace", BALANCED[family], "via", hop, check=True)
        site.answered(OUTSIDE, BALANCED[family], 80)
        assert site.ask(POD1, BALANCED[family], 80) == "TimeoutError", "the client's pod is not named"
        site.answered(POD1, site.cluster_ip(spec, family), 80)
    site.patch("guarded", loadBalancerSourceRanges=pods)
    for family in site.families:
        site.answered(POD1, BALANCED[family], 80)
        site.until(OUTSIDE, BALANCED[family], 80, "TimeoutError")


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_load_balancers_without_node_ports(site: Site, policy: str) -> None:
    more: dict[str, Any] = {"allocateLoadBalancerNodePorts": False, "externalTrafficPolicy": policy}
    spec = site.service("portless", type="LoadBalancer", **more)
    assert not any(port.get("nodePort") for port in spec["ports"])
    site.announce("portless", *(BALANCED[family] for family in site.families))
    for family in site.families:
        hop = site.node_address("node2", family)
        site.lab.external("ip", "route", "replace", BALANCED[family], "via", hop, check=True)
        answer = site.answered(OUTSIDE, BALANCED[family], 80)
        if policy == "Local":
            assert answer == Answer("w2", site.outside[family])
        else:
            assert answer.server in ("w1", "w2")


# -- endpoints --------------------------------------------------------------------------------------------------


def test_without_a_selector_the_endpoints_are_those_given_in_or_out_of_the_cluster(site: Site) -> None:
    spec = site.service("given", selector=None, type="NodePort")
    for family in site.families:
        address = site.cluster_ip(spec, family)
        inside = endpoint(site.pod_address("w2", family), "node2", ready=True)
        site.lab.apply(site.slice("given", family, inside))
        site.until(POD1, address, 80, "w2")
        site.lab.apply(site.slice("given", family, endpoint(site.outside[family], ready=True)))
        site.until(POD1, address, 80, "outside")
        site.until(HOST1, address, 80, "outside")


@ONCE
def test_several_slices_make_one_service(site: Site) -> None:
    spec = site.service("sliced", selector=None)
    pieces = [site.slice("sliced", 4, endpoint(site.pod_address(name, 4), ready=True)) for name in ("w1", "w2")]
    for number, piece in enumerate(pieces):
        piece["metadata"]["name"] = f"sliced-{number}"
    site.lab.apply(*pieces)
    address = site.cluster_ip(spec, 4)
    wait_until(lambda: site.who(POD1, address, 80, 20) == {"w1", "w2"}, 20, "endpoints of both slices")


@ONCE
def test_those_who_go_serve_while_nobody_is_ready_and_the_unready_only_if_asked_for(site: Site) -> None:
    spec = site.service("going", selector=None)
    address = site.cluster_ip(spec, 4)
    one, two = (site.pod_address(name, 4) for name in ("w1", "w2"))
    going = endpoint(one, "node1", ready=False, serving=True, terminating=True)
    site.lab.apply(site.slice("going", 4, going, endpoint(two, "node2", ready=True)))
    site.until(POD1, address, 80, "w2")
    assert site.who(POD1, address, 80) == {"w2"}
    unready = endpoint(two, "node2", ready=False, serving=False)
    site.lab.apply(site.slice("going", 4, going, unready))
    site.until(POD1, address, 80, "w1")
    site.lab.apply(site.slice("going", 4, unready))
    site.until(POD1, address, 80, "ConnectionRefusedError")
    site.patch("going", publishNotReadyAddresses=True)
    site.until(POD1, address, 80, "w2")


def test_processes_of_a_node_as_endpoints(site: Site) -> None:
    labels = {"app": "hosted"}
    site.lab.apply(site.server("hosted", "node2", labels, hostNetwork=True))
    site.lab.wait_ready("hosted")
    spec = site.service("hosted", type="NodePort", selector=labels)
    for family in site.families:
        address = site.cluster_ip(spec, family)
        for where in (POD1, HOST1, HOST2):
            site.until(where, address, 80, "hosted")
        for node in ("node1", "node2"):
            site.until(OUTSIDE, site.node_address(node, family), node_port(spec), "hosted")
    site.patch("hosted", externalTrafficPolicy="Local", internalTrafficPolicy="Local")
    for family in site.families:
        there = site.node_address("node2", family)
        wait_until(
            lambda there=there, family=family: (  # type: ignore[misc]
                site.ask(OUTSIDE, there, node_port(spec)) == Answer("hosted", site.outside[family])
            ),
            20,
            "the source is kept",
        )
        site.until(HOST2, site.cluster_ip(spec, family), 80, "hosted")
    site.lab.delete("pod", "hosted")


def test_an_internal_policy_keeps_calls_on_their_node(site: Site) -> None:
    spec = site.service("near", internalTrafficPolicy="Local")
    for family in site.families:
        address = site.cluster_ip(spec, family)
        for where, expected in ((POD1, "w1"), (HOST1, "w1"), (HOST2, "w2")):
            site.until(where, address, 80, expected)
            assert site.who(where, address, 80) == {expected}
    site.service("far", internalTrafficPolicy="Local", selector={"app": "nobody"})
    site.until(POD1, site.lab.get("service", "far")["spec"]["clusterIP"], 80, "ConnectionRefusedError")


def test_nodes_reach_node_ports_and_load_balancer_addresses_too(site: Site) -> None:
    spec = site.service("open", type="LoadBalancer")
    site.announce("open", *(BALANCED[family] for family in site.families))
    for family in site.families:
        for node in ("node1", "node2"):
            site.answered(HOST1, site.node_address(node, family), node_port(spec))
            site.answered(POD1, site.node_address(node, family), node_port(spec))
        site.answered(HOST1, BALANCED[family], 80)
        site.answered(POD1, BALANCED[family], 80)


# -- bad input --------------------------------------------------------------------------------------------------


@ONCE
def test_bad_input_is_told_to_its_author_and_harms_nobody(site: Site) -> None:
    shared: dict[str, Any] = {"externalIPs": ["203.0.113.99"]}
    pair = ("good", "thief")
    for name in pair:
        site.service(name, **shared)
    many = [{"name": f"p{number}", "port": number, "protocol": "TCP"} for number in range(1, 1201)]
    site.service("many", ports=many)
    site.service("strange", selector=None)
    odd = site.slice("strange", 4, endpoint("127.0.0.1", ready=True), endpoint(site.pod_address("w1", 4)))
    site.lab.apply(odd)
    for name, reason in (("many", "TooManyPorts"), ("strange-4", "InvalidEndpoint")):
        wait_until(lambda name=name, reason=reason: reason in site.events(name), 20, f"{reason} on {name}")  # type: ignore[misc]
    # Which of two that were made within one second counts as the older is nobody's business.
    told = wait_until(lambda: [events for name in pair if (events := site.events(name))], 20, "the Event")
    assert told == [{"DuplicateExternalIP"}]
    site.answered(POD1, "203.0.113.99", 80)
    for name in (*pair, "strange"):
        site.answered(POD1, site.lab.get("service", name)["spec"]["clusterIP"], 80)
