"""Policies enforced on packets: connections made and refused between pods, nodes and a host outside."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from policy_cases import LABELS, NAMES, NETWORKS, NETWORKS_V6, PORTS, policies
from policy_lab import OUTSIDE, Cluster, Try
from policy_oracle import Oracle, Probe, Raw, management_addresses

from ovnkit_lab.testing import LabPool, wait_until

pytestmark = pytest.mark.lab

LAYOUTS = {
    "dual-per-node": {"ip_family": "dual", "zones": "per-node"},
    "ipv4-central": {"ip_family": "ipv4", "zones": "central"},
    "ipv6-central": {"ip_family": "ipv6", "zones": "central"},
}
NEAR, FAR = Try("red/one", "red/two"), Try("green/one", "red/two")


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def whole(request: pytest.FixtureRequest, labs: LabPool) -> Iterator[Cluster]:
    layout = LAYOUTS[request.param]
    with labs.lend(ip_family=layout["ip_family"], zones=layout["zones"]) as lab:
        cluster = Cluster(lab)
        yield cluster
        cluster.close()


@pytest.fixture
def cluster(whole: Cluster) -> Iterator[Cluster]:
    yield whole
    whole.clean()


def every(source: str, target: str, verdict: bool) -> dict[Try, bool]:
    """The same verdict for every protocol."""
    tried = (("TCP", 80), ("UDP", 53), ("SCTP", 80), ("ICMP", 0))
    return {Try(source, target, *each): verdict for each in tried}


def blocks(cluster: Cluster, end: str) -> list[dict[str, Any]]:
    """An ipBlock for each address of an end."""
    return [{"ipBlock": {"cidr": f"{each}/{128 if ':' in each else 32}"}} for each in cluster.addresses[end]]


def test_default_deny_and_its_end(cluster: Cluster) -> None:
    everything = every("red/one", "red/two", True) | every("green/one", "red/two", True)
    cluster.settles(everything)
    cluster.policy("deny", {"policyTypes": ["Ingress"]})
    cluster.settles(dict.fromkeys(everything, False) | every("red/one", "green/two", True))
    cluster.lab.delete("networkpolicy", "deny", namespace="red")
    cluster.settles(everything)


def test_allow_by_pod_label_and_a_label_that_changes(cluster: Cluster) -> None:
    peers: list[dict[str, Any]] = [{"podSelector": {"matchLabels": {"app": "one", "role": "friend"}}}]
    cluster.policy("friends", {"ingress": [{"from": peers}]})
    cluster.settles({NEAR: False, FAR: False})
    cluster.lab.kubectl("label", "pod", "one", "-n", "red", "role=friend")
    cluster.settles({NEAR: True, FAR: False})
    cluster.lab.kubectl("label", "pod", "one", "-n", "red", "role-")
    cluster.settles({NEAR: False})


def test_allow_by_namespace_and_a_label_that_changes(cluster: Cluster) -> None:
    expression = {"key": "team", "operator": "NotIn", "values": ["red"]}
    cluster.policy("others", {"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [expression]}}]}]})
    cluster.settles({NEAR: False, FAR: True})
    cluster.lab.kubectl("label", "namespace", "green", "team=red", "--overwrite")
    cluster.settles({FAR: False, Try("blue/one", "red/two"): True})
    cluster.lab.kubectl("label", "namespace", "green", "team=green", "--overwrite")
    cluster.settles({FAR: True})


def test_ports_by_name_range_and_protocol(cluster: Cluster) -> None:
    ports = [
        {"protocol": "TCP", "port": "web"},
        {"protocol": "TCP", "port": 81, "endPort": 90},
        {"protocol": "UDP", "port": 53},
        {"protocol": "SCTP", "port": 80},
    ]
    cluster.policy("ports", {"podSelector": {"matchLabels": {"app": "two"}}, "ingress": [{"ports": ports}]})
    allowed = (("TCP", 8080), ("TCP", 81), ("TCP", 88), ("UDP", 53), ("SCTP", 80))
    denied = (("TCP", 80), ("UDP", 81), ("SCTP", 81), ("ICMP", 0))
    cluster.settles(
        {Try("green/one", "red/two", *each): True for each in allowed}
        | {Try("green/one", "red/two", *each): False for each in denied}
    )


def test_address_blocks_with_exceptions(cluster: Cluster) -> None:
    pods = {4: "10.244.0.0/16", 6: "fd00:10:244::/48"}
    peers = [
        {"ipBlock": {"cidr": pods[6 if ":" in address else 4], "except": [block["ipBlock"]["cidr"]]}}
        for address, block in zip(cluster.addresses["green/one"], blocks(cluster, "green/one"), strict=True)
    ]
    cluster.policy("blocks", {"ingress": [{"from": peers}]})
    cluster.settles({NEAR: True, FAR: False, Try("blue/one", "red/two"): True})


def test_egress_to_pods_and_to_the_outside(cluster: Cluster) -> None:
    peers = [
        {"namespaceSelector": {"matchLabels": {"team": "green"}}, "podSelector": {"matchLabels": {"app": "two"}}}
    ]
    out = [{"to": peers}, {"to": blocks(cluster, OUTSIDE), "ports": [{"protocol": "UDP", "port": 53}]}]
    cluster.policy("out", {"policyTypes": ["Egress"], "egress": out})
    cluster.settles(
        every("red/one", "green/two", True)
        | every("red/one", "green/one", False)
        | {Try("red/one", OUTSIDE, "UDP", 53): True, Try("red/one", OUTSIDE): False}
        | {FAR: True, Try("green/one", OUTSIDE): True}
    )


def test_policies_add_up(cluster: Cluster) -> None:
    cluster.policy("one", {"ingress": [{"from": [{"podSelector": {}}]}]})
    cluster.settles({NEAR: True, FAR: False})
    cluster.policy("two", {"ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 81}]}]})
    cluster.settles({NEAR: True, FAR: False, Try("green/one", "red/two", "TCP", 81): True})


def test_replies_pass_and_what_a_policy_forbids_is_cut(cluster: Cluster) -> None:
    both = (Try("red/one", "green/two"), Try("red/one", "green/two", "UDP", 53))
    cluster.policy("deny", {"policyTypes": ["Ingress"]})
    cluster.settles({Try("green/two", "red/one"): False, both[0]: True, both[1]: True})
    opened = {tried: cluster.open(tried) for tried in both}
    for tried, numbers in opened.items():
        assert all(cluster.talks(tried, numbers)), "replies to an isolated pod pass"
    for closed in ("Ingress", "Egress"):
        namespace = "green" if closed == "Ingress" else "red"
        cluster.policy("closed", {"policyTypes": [closed]}, namespace)
        for tried, numbers in opened.items():
            wait_until(lambda it=(tried, numbers): not any(cluster.talks(*it)), 20, f"{tried} is cut")  # type: ignore[misc]
            assert not any(cluster.talks(tried, numbers)), "and it stays cut"
        cluster.lab.delete("networkpolicy", "closed", namespace=namespace)
        for tried, numbers in opened.items():
            wait_until(lambda it=(tried, numbers): all(cluster.talks(*it)), 20, f"{tried} is free again")  # type: ignore[misc]


def test_nodes_and_pods_with_the_hosts_network(cluster: Cluster) -> None:
    """The own node is always let in, whatever address it speaks with; others are known by address only."""
    cluster.policy("deny", {"policyTypes": ["Ingress", "Egress"]})
    own, other, out = Try("hosts/one", "red/one"), Try("hosts/two", "red/one"), Try("red/one", "hosts/one")
    cluster.settles({own: True, other: False, out: False})
    for address, node in zip(cluster.addresses["red/one"], cluster.addresses["hosts/one"], strict=True):
        assert cluster.reach("hosts/one", [("TCP", address, 80)], source=node) == [True]
    # Selectors don't see pods with the host's network: their traffic is their node's.
    peers: list[dict[str, Any]] = [{"namespaceSelector": {}, "podSelector": {}}]
    cluster.policy("pods", {"ingress": [{"from": peers}], "egress": [{"to": peers}]})
    cluster.settles({FAR: True, other: False, out: False})
    cluster.policy("node", {"policyTypes": ["Egress"], "egress": [{"to": blocks(cluster, "hosts/one")}]})
    cluster.settles({out: True})


def test_services_and_a_pod_that_reaches_itself(cluster: Cluster) -> None:
    """Egress is judged by the pod and port behind a service; a pod may always be its own client."""
    good, bad = cluster.service("good", "green/two", 9000, 80), cluster.service("bad", "green/one", 9000, 80)
    itself = cluster.service("itself", "red/one", 9000, 80)
    cluster.settles({Try("red/one", each, "TCP", 9000): True for each in (good, bad, itself)})
    peers: list[dict[str, Any]] = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "two"}}}]
    cluster.policy("out", {"policyTypes": ["Egress"], "egress": [{"to": peers, "ports": [{"port": 80}]}]})
    cluster.settles({Try("red/one", good, "TCP", 9000): True, Try("red/one", bad, "TCP", 9000): False})
    cluster.policy("deny", {"policyTypes": ["Ingress", "Egress"]})
    cluster.settles({Try("red/one", itself, "TCP", 9000): True, Try("green/one", itself, "TCP", 9000): False})


# -- the oracle on packets ------------------------------------------------------------------------------------

EXAMPLES = int(os.environ.get("OVNKIT_ORACLE_LAB", "5"))
HERE = dict(
    zip(
        (*NETWORKS, *NETWORKS_V6),
        (
            "0.0.0.0/0", "10.244.0.0/16", "10.244.0.0/24", "10.244.0.4/30", "10.244.1.3/32", "172.18.0.3/32",
            "172.18.0.0/16", "10.244.0.2/31",
            "::/0", "fd00:10:244::/48", "fd00:10:244::/64", "fd00:10:244::4/126", "fd00:10:244:1::3/128",
            "fd00:172:18::3/128", "fd00:172:18::/64", "fd00:10:244::2/127",
        ),
        strict=True,
    )
)  # fmt: skip
"""The networks of invented policies, and those of the lab that stand in for them."""

PODS = ("red/one", "red/two", "green/one", "green/two", "blue/one")
HOSTS = ("hosts/one", "hosts/two")


def moved(found: Any) -> Any:
    """The same with networks of the lab, and without exceptions that an API server refuses."""
    if isinstance(found, list):
        return [moved(value) for value in found]
    if not isinstance(found, dict):
        return HERE.get(found, found) if isinstance(found, str) else found
    here = {key: moved(value) for key, value in found.items()}
    if "except" in here:
        whole = ip_network(here["cidr"])
        inside = [text for text in here["except"] if text != here["cidr"] and ip_network(text).subnet_of(whole)]  # type: ignore[arg-type]
        here["except"] = inside
    return here


def oracle_of(cluster: Cluster) -> tuple[Oracle, dict[str, list[str]]]:
    """The oracle of what the API server has, and the addresses that pods see of each end."""
    kinds = ("nodes", "namespaces", "pods", "networkpolicies")
    raw = {kind: json.loads(cluster.lab.kubectl("get", kind, "-A", "-o", "json"))["items"] for kind in kinds}
    nodes = {node["metadata"]["name"]: management_addresses(node) for node in raw["nodes"]}
    ends = {name: cluster.addresses[name] for name in (*PODS, OUTSIDE)}
    ends |= {name: nodes[node] for name, node in zip(HOSTS, ("node1", "node2"), strict=True)}
    return Oracle(*raw.values()), ends


def test_connections_are_made_as_the_specification_says(cluster: Cluster) -> None:
    """Every pod to every other and to the outside, and every node to every pod, with all protocols."""
    judged: dict[bool, int] = {True: 0, False: 0}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="OVNKIT_ORACLE_LAB" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(
        st.lists(LABELS, min_size=len(PODS), max_size=len(PODS)),
        st.lists(LABELS, min_size=len(NAMES), max_size=len(NAMES)),
        policies(6),
    )
    def judge(pods: list[dict[str, str]], namespaces: list[dict[str, str]], made: list[Raw]) -> None:
        cluster.clean()
        cluster.lab.apply(
            *(cluster.pod(name, **labels) for name, labels in zip(PODS, pods, strict=True)),
            *(cluster.namespace(name, **labels) for name, labels in zip(NAMES, namespaces, strict=True)),
            *moved(made),
        )
        oracle, ends = oracle_of(cluster)
        expected: dict[Try, bool | list[bool]] = {}
        for source in (*PODS, *HOSTS):
            for target in (*PODS, OUTSIDE) if source in PODS else PODS:
                for protocol, port in PORTS if source != target else ():
                    verdicts = [
                        oracle.allows(Probe(*pair, protocol, port))
                        for pair in zip(ends[source], ends[target], strict=True)
                    ]
                    expected[Try(source, target, protocol, port)] = verdicts
                    for verdict in verdicts:
                        judged[verdict] += 1
        cluster.settles(expected)

    judge()
    sys.stdout.write(f"judged: {judged}\n")
    assert min(judged.values()) > 20 * EXAMPLES, judged


STREAM = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
here = socket.socket(family, socket.SOCK_DGRAM)
if sys.argv[1] == "serve":
    here.bind((sys.argv[2], 5353))
    while True:
        data, sender = here.recvfrom(64)
        here.sendto(data, sender)
here.setblocking(False)
seen, number, end = set(), 0, time.monotonic() + float(sys.argv[3])
while time.monotonic() < end + 1:
    if time.monotonic() < end:
        here.sendto(str(number).encode(), (sys.argv[2], 5353))
        number += 1
    time.sleep(0.005)
    try:
        while True:
            seen.add(here.recv(64))
    except OSError:
        pass
print(number, number - len(seen))
"""
UPDATES, PEERS = 20, 40


def test_what_is_always_allowed_passes_while_sets_of_peers_come_and_go(cluster: Cluster) -> None:
    def update(number: int) -> None:
        peers: list[dict[str, Any]] = [
            {"podSelector": {"matchLabels": {"new": f"{number}-{peer}"}}} for peer in range(PEERS)
        ]
        always = {"namespaceSelector": {"matchLabels": {"team": "green"}}}
        cluster.policy("many", {"ingress": [{"from": [always, *peers]}]})

    def complaints() -> int:
        logs = (cluster.lab.run("logs", node, "ovn-controller").stdout for node in cluster.lab.nodes)
        return sum(log.count("error parsing match") for log in logs)

    before, address = complaints(), cluster.addresses["red/two"][0]
    update(0)
    cluster.settles({FAR: True})
    words = (sys.executable, "-c", STREAM)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(cluster.lab.exec, "red/two", "timeout", "40", *words, "serve", address)
        time.sleep(1)
        stream = pool.submit(cluster.lab.exec, "green/one", *words, "send", address, "20", check=True)
        for number in range(1, UPDATES):
            update(number)
        sent, lost = map(int, stream.result().stdout.split())
    assert sent > 500
    assert lost <= 2, (sent, lost)
    assert complaints() == before
