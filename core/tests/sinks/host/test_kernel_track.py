"""Connections of the kernel, made by real packets in a network namespace of its own."""

from __future__ import annotations

import socket
import subprocess
from ipaddress import ip_address

import pytest

from ovnkit.sinks.host import kerneltrack

RULES = """
table inet services {
    chain output {
        type nat hook output priority -100;
        ip daddr 203.0.113.5 udp dport 53 udp sport 4001 dnat to 10.9.0.1:5353
        ip daddr 203.0.113.5 udp dport 53 udp sport 4002 dnat to 10.9.0.2:5353
        ip6 daddr 2001:db8::5 udp dport 53 udp sport 4001 dnat to [fd09::1]:5353
        ip6 daddr 2001:db8::5 udp dport 53 udp sport 4002 dnat to [fd09::2]:5353
    }
}
"""
VIP = {4: "203.0.113.5", 6: "2001:db8::5"}
TARGETS = {4: ("10.9.0.1", "10.9.0.2"), 6: ("fd09::1", "fd09::2")}
UDP = 17


@pytest.fixture
def rules(netns: None) -> None:
    for family in (4, 6):
        for address in (VIP[family], *TARGETS[family]):
            subprocess.run(("ip", "addr", "add", address, "dev", "lo"), check=True)
    subprocess.run(("nft", "-f", "-"), input=RULES, text=True, check=True)


def send(family: int, source: int) -> None:
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.bind(("", source))
        client.sendto(b"x", (VIP[family], 53))


@pytest.mark.parametrize("family", [4, 6])
def test_only_connections_of_a_target_are_forgotten(rules: None, family: int) -> None:
    vip = ip_address(VIP[family])
    for source in (4001, 4002):
        send(family, source)
    one, two = ((target, 5353) for target in TARGETS[family])
    assert kerneltrack.forget(UDP, vip, 53, one) == 1
    assert kerneltrack.forget(UDP, vip, 53, one) == 0
    assert kerneltrack.forget(UDP, vip, 54, two) == 0
    assert kerneltrack.forget(6, vip, 53, two) == 0
    send(family, 4001)
    assert kerneltrack.forget(UDP, vip, 53, None) == 2


@pytest.mark.parametrize("family", [4, 6])
def test_what_nobody_translated_is_forgotten_unless_it_was_answered(rules: None, family: int) -> None:
    vip, itself = ip_address(VIP[family]), (str(ip_address(VIP[family])), 53)
    send(family, 4001)
    send(family, 4003)
    assert kerneltrack.forget(UDP, vip, 53, itself, unanswered=True) == 1, "only the one without a rule"
    with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind((VIP[family], 53))
        send(family, 4003)
        _, peer = server.recvfrom(10)
        server.sendto(b"x", peer)
    assert kerneltrack.forget(UDP, vip, 53, itself, unanswered=True) == 0
    assert kerneltrack.forget(UDP, vip, 53, itself) == 1
