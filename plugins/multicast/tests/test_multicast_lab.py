"""Real group members on real packets: who gets what, over nodes, in both families."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovnkit_lab.testing import LabHandle, LabPool, wait_until

pytestmark = pytest.mark.lab

CONFIG = '[plugins]\nenabled = ["multicast"]\n'
GROUPS = {4: "239.1.2.3", 6: "ff3e::4321:1234"}
PORT = 5007

MEMBER = """
import select, socket, struct, sys
def join(family):
    if family == 4:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((G4, PORT))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                     socket.inet_aton(G4) + struct.pack("=4si", bytes(4), socket.if_nametoindex("eth0")))
    else:
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((G6, PORT, 0, socket.if_nametoindex("eth0")))
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                     socket.inet_pton(socket.AF_INET6, G6) + struct.pack("=I", socket.if_nametoindex("eth0")))
    return s
sockets = [join(4), join(6)]
while True:
    for ready in select.select(sockets, [], [])[0]:
        data, sender = ready.recvfrom(2000)
        open("FILE", "a").write(data.decode() + chr(10))
"""
SENDER = """
import socket, struct
index = socket.if_nametoindex("DEVICE")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
s.sendto(b"v4 TEXT", (G4, PORT))
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
s.sendto(b"v6 TEXT", (G6, PORT, 0, index))
"""
SPACES = {"mcchat": "true", "mcother": "true", "mcquiet": ""}
"""Namespaces and their annotation."""
MEMBERS = {
    "mcchat/near": "node1",
    "mcchat/far": "node2",
    "mcchat/elsewhere": "node2",
    "mcother/member": "node2",
    "mcquiet/member": "node2",
}
"""Group members by node; `elsewhere` is in other groups."""


def program(text: str, **values: str) -> str:
    groups = {"G4": repr(GROUPS[4]), "G6": repr(GROUPS[6]), "PORT": str(PORT)}
    for name, value in {**groups, **values}.items():
        text = text.replace(name, value)
    return text


class Crowd:
    """Members and senders in the three namespaces, on both nodes, and what each member has heard."""

    def __init__(self, lab: LabHandle, folder: Path) -> None:
        self.lab = lab
        self.files = {member: folder / member.replace("/", "-") for member in MEMBERS}
        for name, value in SPACES.items():
            annotations = {"k8s.ovn.org/multicast-enabled": value} if value else {}
            metadata = {"name": name, "annotations": annotations}
            lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        for member, node in MEMBERS.items():
            self.files[member].touch()
            namespace, name = member.split("/")
            groups = {"G4": "'239.1.2.9'", "G6": "'ff3e::4321:9'"} if name == "elsewhere" else {}
            text = program(MEMBER.replace("FILE", str(self.files[member])), **groups)
            lab.apply(lab.pod(name, "python3", "-c", text, namespace=namespace, node=node))
        for namespace in SPACES:
            lab.apply(lab.pod("sender", namespace=namespace, node="node1"))
        lab.apply(lab.pod("host", namespace="mcchat", node="node1", hostNetwork=True))
        lab.apply(lab.pod("host", namespace="mcquiet", node="node2", hostNetwork=True))
        lab.wait_ready("near", "far", "elsewhere", "sender", "host", namespace="mcchat")
        lab.wait_ready("member", "sender", namespace="mcother")
        lab.wait_ready("member", "sender", "host", namespace="mcquiet")

    def send(self, pod: str, text: str) -> None:
        """One packet in each family."""
        device = "ovn-k8s-mp0" if pod.endswith("/host") else "eth0"
        self.lab.exec(pod, "python3", "-c", program(SENDER, TEXT=text, DEVICE=device), check=True)

    def heard(self, member: str) -> set[str]:
        return set(self.files[member].read_text().splitlines())

    def reaches(self, pod: str, text: str, *members: str) -> None:
        """Send until these have heard both families."""

        def all_heard() -> bool:
            self.send(pod, text)
            return all({f"v4 {text}", f"v6 {text}"} <= self.heard(member) for member in members)

        wait_until(all_heard, 45, f"{', '.join(members)} hear {pod}")


@pytest.fixture(scope="module", params=["per-node", "central"])
def crowd(
    request: pytest.FixtureRequest, labs: LabPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crowd]:
    with labs.lend(zones=request.param, ip_family="dual", config=CONFIG) as lab:
        yield Crowd(lab, tmp_path_factory.mktemp("multicast"))
        lab.delete("namespace", *SPACES)


def test_members_on_all_nodes_get_what_their_namespace_sends_and_nothing_else(crowd: Crowd) -> None:
    crowd.reaches("mcchat/sender", "chat", "mcchat/near", "mcchat/far")
    for namespace in ("mcother", "mcquiet"):
        crowd.send(f"{namespace}/sender", namespace)
    # a later packet of the allowed sender has arrived, so those before it would have, too
    crowd.reaches("mcchat/sender", "chat-again", "mcchat/near", "mcchat/far")
    for member in ("mcchat/near", "mcchat/far"):
        texts = {line.split()[1] for line in crowd.heard(member)}
        assert texts == {"chat", "chat-again"}, "senders of other namespaces stay out"
    crowd.reaches("mcother/sender", "other", "mcother/member")
    assert {line.split()[1] for line in crowd.heard("mcother/member")} <= {"other", "mcother"}
    assert crowd.heard("mcquiet/member") == set(), "a namespace without the annotation gets nothing"
    assert crowd.heard("mcchat/elsewhere") == set(), "nor does a member of other groups"


def test_host_network_pods_send_to_the_members_of_their_namespace(crowd: Crowd) -> None:
    crowd.reaches("mcchat/host", "host", "mcchat/near", "mcchat/far")
    crowd.send("mcquiet/host", "stranger")
    crowd.reaches("mcchat/host", "host-again", "mcchat/near", "mcchat/far")
    for member in MEMBERS:
        assert not any("stranger" in line for line in crowd.heard(member)), "hosts of other namespaces stay out"
        if not member.startswith("mcchat/") or member.endswith("elsewhere"):
            assert not any("host" in line for line in crowd.heard(member))


def test_without_the_annotation_the_namespace_is_put_out(crowd: Crowd) -> None:
    crowd.reaches("mcchat/sender", "before", "mcchat/near", "mcchat/far")
    crowd.lab.kubectl("annotate", "namespace", "mcchat", "k8s.ovn.org/multicast-enabled-")

    def deaf() -> bool:
        before = crowd.heard("mcchat/near") | crowd.heard("mcchat/far")
        for pod in ("mcchat/sender", "mcchat/host"):
            crowd.send(pod, f"late{time.monotonic()}")
        crowd.reaches("mcother/sender", f"clock{time.monotonic()}", "mcother/member")
        return crowd.heard("mcchat/near") | crowd.heard("mcchat/far") == before

    wait_until(deaf, 30, "without the annotation nobody hears")
    crowd.lab.kubectl("annotate", "namespace", "mcchat", "k8s.ovn.org/multicast-enabled=true")
    crowd.reaches("mcchat/sender", "after", "mcchat/near", "mcchat/far")
