"""What runs in each pod of the lab tests: it answers on some ports, and tries connections when it is told to.

    python policy_agent.py CONTROL-SOCKET

Servers echo on PORTS of TCP and UDP, in both families; SCTP is `ovnkit_lab.sctp`'s. Over the control socket comes
a JSON request, answered by a JSON value:

    {"do": "try", "probes": [[protocol, address, port], ...], "timeout": 0.5, "source": null}   [true, false, ...]
    {"do": "open", "probe": [protocol, address, port]}      a number, or null
    {"do": "talk", "number": 1, "timeout": 0.5}             whether what is sent on it comes back
    {"do": "exit"}
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ovnkit_lab import sctp

PORTS = {"TCP": (80, 81, 88, 8080), "UDP": (53, 81)}
POOL = ThreadPoolExecutor(128)
OPEN: dict[int, socket.socket] = {}


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# -- servers --------------------------------------------------------------------------------------------------


def echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(2000):
            connection.sendall(data)


def serve_tcp(port: int) -> None:
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
    while True:
        threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()


def serve_udp(family: socket.AddressFamily, port: int) -> None:
    server = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind(("", port))
    while True:
        data, peer = server.recvfrom(2000)
        server.sendto(data, peer)


def serve_sctp(family: socket.AddressFamily) -> None:
    server = socket.socket(family, socket.SOCK_RAW, sctp.PROTOCOL)
    while True:
        data, peer = server.recvfrom(2000)
        found = sctp.read(data, family)
        if found is not None and found.kind == sctp.INIT:
            server.sendto(sctp.init_ack(found), (peer[0], 0, *peer[2:]))


# -- clients --------------------------------------------------------------------------------------------------


def reaches(protocol: str, address: str, port: int, timeout: float, source: str | None = None) -> bool:
    """Whether something comes back."""
    try:
        with connected(protocol, address, port, timeout, source) as client:
            return answers(client, timeout)
    except OSError:
        return False


def connected(protocol: str, address: str, port: int, timeout: float, source: str | None = None) -> socket.socket:
    family = family_of(address)
    if protocol in ("ICMP", "SCTP"):
        icmp = socket.IPPROTO_ICMPV6 if ":" in address else socket.IPPROTO_ICMP
        client: socket.socket = Raw(family, sctp.PROTOCOL if protocol == "SCTP" else icmp, port)
    else:
        client = socket.socket(family, socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM)
    client.settimeout(timeout)
    try:
        if source:
            client.bind((source, 0))
        client.connect((address, 0 if protocol in ("ICMP", "SCTP") else port))
    except OSError:
        client.close()
        raise
    return client


class Raw(socket.socket):
    """ICMP echo, or SCTP's first exchange."""

    def __init__(self, family: socket.AddressFamily, protocol: int, port: int) -> None:
        super().__init__(family, socket.SOCK_RAW, protocol)
        self.port = port
        self.nonce = int.from_bytes(os.urandom(4))

    def ask(self) -> None:
        if self.proto == sctp.PROTOCOL:
            self.send(sctp.init(20000 + self.nonce % 40000, self.port, self.nonce))
            return
        version6 = self.family == socket.AF_INET6
        text = struct.pack("!BBHI", 128 if version6 else 8, 0, 0, self.nonce)
        if not version6:
            total = sum(struct.unpack("!4H", text))
            total = (total >> 16) + (total & 0xFFFF)
            text = text[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + text[4:]
        self.send(text)

    def answered(self) -> bool:
        packet = self.recv(2000)
        if self.proto == sctp.PROTOCOL:
            found = sctp.read(packet, socket.AddressFamily(self.family))
            return found is not None and (found.kind, found.initiate_tag) == (sctp.INIT_ACK, self.nonce)
        start = (packet[0] & 15) * 4 if self.family == socket.AF_INET else 0
        kind, _, _, nonce = struct.unpack_from("!BBHI", packet, start)
        return (kind, nonce) == (129 if self.family == socket.AF_INET6 else 0, self.nonce)


def answers(client: socket.socket, timeout: float) -> bool:
    """Whether what is sent comes back in time. What has no retransmission of its own is sent some times."""
    nonce = os.urandom(8)
    end = time.monotonic() + timeout
    stream = client.type == socket.SOCK_STREAM
    if stream:
        client.sendall(nonce)
    while (left := end - time.monotonic()) > 0:
        client.settimeout(left if stream else min(left, timeout / 3))
        try:
            if isinstance(client, Raw):
                client.ask()
                while not client.answered():
                    pass
                return True
            if not stream:
                client.send(nonce)
            while nonce not in client.recv(2000):
                pass
            return True
        except TimeoutError:
            continue
    return False


# -- control --------------------------------------------------------------------------------------------------


def obey(request: dict[str, Any]) -> Any:
    if request["do"] == "try":
        more = request["timeout"], request.get("source")
        return list(POOL.map(lambda probe: reaches(*probe, *more), request["probes"]))  # type: ignore[call-arg]
    if request["do"] == "open":
        try:
            client = connected(*request["probe"], 2.0)  # type: ignore[call-arg]
            if not answers(client, 2.0):
                return None
        except OSError:
            return None
        OPEN[client.fileno()] = client
        return client.fileno()
    if request["do"] == "exit":
        os._exit(0)
    try:
        return answers(OPEN[request["number"]], request["timeout"])
    except OSError:
        return False


def control(connection: socket.socket) -> None:
    with connection, connection.makefile("rw") as stream:
        json.dump(obey(json.loads(stream.readline())), stream)


def main() -> None:
    for port in PORTS["TCP"]:
        threading.Thread(target=serve_tcp, args=(port,), daemon=True).start()
    for family in (socket.AF_INET, socket.AF_INET6):
        threading.Thread(target=serve_sctp, args=(family,), daemon=True).start()
        for port in PORTS["UDP"]:
            threading.Thread(target=serve_udp, args=(family, port), daemon=True).start()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen(64)
        while True:
            threading.Thread(target=control, args=(server.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
