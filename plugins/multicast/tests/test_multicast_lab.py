"""Real group members on real packets: who gets what, over nodes, in both families."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ovnkit_lab.testing import LabHandle, wait_until

pytestmark = pytest.mark.lab

CONFIG = '[plugins]\nenabled = ["multicast"]\n'
GROUPS = {4: "239.1.2.3", 6: "ff3e::4321:1234"}
PORT = 5007

MEMBER = """
import select, socket, struct, sys
def join(family):
    if family == 4:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("", PORT))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                     socket.inet_aton(G4) + struct.pack("=4si", bytes(4), socket.if_nametoindex("eth0")))
    else:
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("::", PORT))
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
index = socket.if_nametoindex("eth0")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", bytes(4), bytes(4), index))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
s.sendto(b"v4 TEXT", (G4, PORT))
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
s.sendto(b"v6 TEXT", (G6, PORT, 0, index))
"""


def program(text: str, **values: str) -> str:
    for name, value in {"G4": repr(GROUPS[4]), "G6": repr(GROUPS[6]), "PORT": str(PORT), **values}.items():
        text = text.replace(name, value)
    return text


@pytest.mark.parametrize(
    "lab",
    [
        pytest.param({"zones": zones, "ip_family": "dual", "config": CONFIG}, id=zones)
        for zones in ("per-node", "central")
    ],
    indirect=True,
)
def test_members_get_what_their_namespace_sends_and_nothing_else(lab: LabHandle, tmp_path: Path) -> None:
    spaces = {"egchat": "true", "egother": "true", "egquiet": ""}
    for name, value in spaces.items():
        annotations = {"k8s.ovn.org/multicast-enabled": value} if value else {}
        lab.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}}
        )
    heard = {name: tmp_path / name for name in spaces}
    for name in spaces:
        heard[name].touch()
        member = program(MEMBER, FILE=str(heard[name]))
        lab.apply(
            lab.pod("member", "python3", "-c", member, namespace=name, node="node2"),
            lab.pod("sender", namespace=name, node="node1"),
        )
    try:
        for name in spaces:
            lab.wait_ready("member", "sender", namespace=name)

        def send(namespace: str, text: str) -> None:
            lab.exec(f"{namespace}/sender", "python3", "-c", program(SENDER, TEXT=text), check=True)

        def chat_heard(text: str) -> bool:
            send("egchat", text)
            lines = heard["egchat"].read_text().splitlines()
            return {f"v4 {text}", f"v6 {text}"} <= set(lines)

        wait_until(lambda: chat_heard("egchat"), 45, "the member of the same namespace hears both families")
        for name in ("egother", "egquiet"):
            send(name, name)
        # a later packet of the allowed sender has arrived, so those before it would have, too
        wait_until(lambda: chat_heard("egchat-again"), 20, "it still hears")
        time.sleep(0.5)
        assert "other" not in heard["egchat"].read_text(), "senders of other namespaces stay out"
        assert "egchat" not in heard["egother"].read_text(), "members of other namespaces stay out"
        assert heard["egquiet"].read_text() == "", "a namespace without the annotation gets nothing"

        lab.kubectl("annotate", "namespace", "egchat", "k8s.ovn.org/multicast-enabled-")

        def deaf() -> bool:
            before = heard["egchat"].read_text()
            send("egchat", "late")
            time.sleep(0.5)
            return heard["egchat"].read_text() == before

        wait_until(deaf, 20, "without the annotation the namespace is put out")
    finally:
        lab.delete("namespace", *spaces)
