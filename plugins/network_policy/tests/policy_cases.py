"""Invented clusters with policies, as strategies of hypothesis, and connections to try in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import cycle
from typing import Any

from attrs import frozen
from hypothesis import strategies as st
from policy_oracle import NETWORKS as ANNOTATION
from policy_oracle import SUBNETS, Oracle, Probe, Raw, management_addresses, pod_addresses

from ovnkit.api.text import parse_host
from ovnkit.network.node import port_mac

NAMES = ("red", "green", "blue")
PORTS = (("TCP", 80), ("UDP", 53), ("TCP", 81), ("SCTP", 80), ("TCP", 8080), ("ICMP", 0), ("UDP", 81), ("TCP", 88))
"""What is tried. Numbers of rules and containers are near these."""


def of(families: Iterable[int], *texts: str) -> list[str]:
    """Those addresses or networks that are of these IP versions."""
    return [text for text in texts if (6 if ":" in text else 4) in families]


def node(number: int, families: Iterable[int]) -> Raw:
    """A node with its slices of the pod network."""
    subnets = of(families, f"10.128.{2 * number}.0/23", f"fd01:0:0:{number}::/64")
    internal = of(families, f"172.18.0.{number}", f"fd00:18::{number}")
    return {
        "metadata": {
            "name": f"n{number}",
            "uid": f"n{number}",
            "annotations": {
                SUBNETS: json.dumps({"default": subnets}),
                "k8s.ovn.org/node-id": str(number),
                "k8s.ovn.org/node-chassis-id": f"chassis-n{number}",
            },
        },
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in internal]},
    }


def nodes(families: Iterable[int]) -> list[Raw]:
    """The nodes of every cluster."""
    return [node(number, families) for number in (2, 3)]


OUTSIDE = ("203.0.113.5", "2001:db8::5", "198.51.100.77", "2001:db8:1::77")
INTERNAL = ("172.18.0.2", "fd00:18::3")
"""Addresses of nodes, which pods send to; to pods the nodes talk with their addresses on the pod network."""

LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xyz"), max_size=2)


@st.composite
def requirements(draw: st.DrawFn) -> Raw:
    operator = draw(st.sampled_from(("In", "NotIn", "Exists", "DoesNotExist")))
    found: Raw = {"key": draw(st.sampled_from("ab")), "operator": operator}
    if operator in ("In", "NotIn"):
        found["values"] = draw(st.lists(st.sampled_from("xyz"), min_size=1, max_size=2, unique=True))
    return found


SELECTORS = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xyz"), max_size=1),
        "matchExpressions": st.lists(requirements(), max_size=2),
    },
)
NETWORKS = (
    "0.0.0.0/0", "10.128.0.0/14", "10.128.4.0/23", "10.128.4.16/29", "10.128.6.12/32", "203.0.113.0/24",
    "172.18.0.2/32", "10.128.4.2/31",
)  # fmt: skip
NETWORKS_V6 = (
    "::/0", "fd01::/48", "fd01:0:0:2::/64", "fd01:0:0:2::10/125", "fd01:0:0:3::c/128", "2001:db8::/32",
    "fd00:18::/64", "fd01:0:0:3::2/128",
)  # fmt: skip


@st.composite
def blocks(draw: st.DrawFn) -> Raw:
    networks = draw(st.sampled_from((NETWORKS, NETWORKS_V6)))
    found: Raw = {"cidr": draw(st.sampled_from(networks))}
    if draw(st.booleans()):
        found["except"] = draw(st.lists(st.sampled_from(networks), min_size=1, max_size=2, unique=True))
    return found


PEERS = st.one_of(
    st.fixed_dictionaries({"podSelector": SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": SELECTORS}),
    st.fixed_dictionaries({"podSelector": SELECTORS, "namespaceSelector": SELECTORS}),
    st.fixed_dictionaries({"ipBlock": blocks()}),
)


@st.composite
def ports(draw: st.DrawFn) -> Raw:
    found: Raw = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "protocol": st.sampled_from(("TCP", "UDP", "SCTP")),
                "port": st.sampled_from((80, 53, "web", "dns", 81, "none")),
            },
        )
    )
    if isinstance(found.get("port"), int) and draw(st.booleans()):
        found["endPort"] = draw(st.sampled_from((81, 88, 9000)))
    return found


def rules(peers: str) -> st.SearchStrategy[Raw]:
    """A rule; without peers for everybody, without ports for everything."""
    return st.fixed_dictionaries(
        {}, optional={peers: st.lists(PEERS, max_size=3), "ports": st.lists(ports(), max_size=3)}
    )


TYPES = st.sampled_from((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
SPECS = st.fixed_dictionaries(
    {"podSelector": SELECTORS},
    optional={
        "ingress": st.lists(rules("from"), max_size=2),
        "egress": st.lists(rules("to"), max_size=2),
        "policyTypes": TYPES,
    },
)


def policy(number: int, namespace: str, spec: Raw) -> Raw:
    """A policy as an object."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": f"policy{number}", "uid": f"policy{number}"},
        "spec": spec,
    }


def policies(most: int) -> st.SearchStrategy[list[Raw]]:
    """Some policies of the namespaces."""
    listed = st.lists(st.tuples(st.sampled_from(NAMES), SPECS), min_size=3, max_size=most)
    return listed.map(lambda found: [policy(number, *each) for number, each in enumerate(found)])


CONTAINER_PORTS = st.fixed_dictionaries(
    {"name": st.sampled_from(("web", "dns")), "containerPort": st.sampled_from((80, 8080, 53))},
    optional={"protocol": st.sampled_from(("TCP", "UDP"))},
)

INIT_CONTAINERS = st.fixed_dictionaries(
    {"ports": st.lists(CONTAINER_PORTS, max_size=1)}, optional={"restartPolicy": st.just("Always")}
)


@st.composite
def pods(draw: st.DrawFn, number: int, families: Iterable[int]) -> Raw:
    """A pod: most run, some have completed, some have their node's network."""
    where = draw(st.sampled_from((2, 3)))
    addresses = of(families, f"10.128.{2 * where}.{10 + number}/23", f"fd01:0:0:{where}::{10 + number:x}/64")
    mac = port_mac([parse_host(text) for text in addresses])
    network = {"default": {"ip_addresses": addresses, "mac_address": mac}}
    state = draw(st.sampled_from(("Running",) * 8 + ("Succeeded", "Failed", "host")))
    host = state == "host"
    return {
        "metadata": {
            "namespace": draw(st.sampled_from(NAMES)),
            "name": f"p{number}",
            "uid": f"p{number}",
            "labels": draw(LABELS),
            "annotations": {} if host else {ANNOTATION: json.dumps(network)},
        },
        "spec": {
            "nodeName": f"n{where}",
            "hostNetwork": host,
            "containers": draw(
                st.lists(
                    st.fixed_dictionaries({"ports": st.lists(CONTAINER_PORTS, max_size=2)}),
                    min_size=1,
                    max_size=2,
                )
            ),
            "initContainers": draw(st.lists(INIT_CONTAINERS, max_size=2)),
        },
        "status": {
            "phase": "Running" if host else state,
            "podIPs": [{"ip": text} for text in of(families, f"172.18.0.{where}", f"fd00:18::{where}") if host],
        },
    }


def former_addresses(pod: Raw) -> list[str]:
    """What a completed pod had: a stranger may have it now."""
    running = {**pod, "status": {"phase": "Running"}}
    return pod_addresses(running) if pod["status"]["phase"] != "Running" else []


@frozen
class Cluster:
    """The raw objects."""

    nodes: list[Raw]
    namespaces: list[Raw]
    pods: list[Raw]
    policies: list[Raw]

    @property
    def oracle(self) -> Oracle:
        """What the specification says of it."""
        return Oracle(self.nodes, self.namespaces, self.pods, self.policies)

    def probes(self, family: int) -> Iterable[Probe]:
        """Each pod to each other, from and to the outside, and from the nodes; another protocol each time."""
        tried = cycle(PORTS)
        inside = [address for pod in self.pods for address in of([family], *pod_addresses(pod))]
        outside = of([family], *OUTSIDE, *(address for pod in self.pods for address in former_addresses(pod)))
        own = of([family], *(address for each in self.nodes for address in management_addresses(each)))
        for source in (*inside, *outside, *own):
            for target in (*inside, *outside, *of([family], *INTERNAL)):
                if source != target and (source in inside or target in inside):
                    yield Probe(source, target, *next(tried))


@st.composite
def clusters(draw: st.DrawFn, families: Iterable[int], most_pods: int = 10, most_policies: int = 8) -> Cluster:
    """A cluster of two nodes and three namespaces."""
    namespaces = [
        {"metadata": {"name": name, "uid": name, "labels": draw(LABELS) | {"kubernetes.io/metadata.name": name}}}
        for name in NAMES
    ]
    count = draw(st.integers(6, most_pods))
    found: list[Any] = [draw(pods(number, families)) for number in range(count)]
    return Cluster(nodes(families), namespaces, found, draw(policies(most_policies)))
