"""A small DNS server for tests, run as a program: `egress_dns_server.py ADDRESS PORT FILE`, over UDP and TCP.

FILE is JSON and read anew for each query: `{"www.example.com": {"ttl": 1, "A": ["192.0.2.1"], "AAAA": [...],
"CNAME": "other.example.com", "rcode": "SERVFAIL", "silent": true, "edns": "FORMERR"}}`. Other names don't exist.
Instead of addresses `null` leaves the question unanswered. `edns` is what happens to a query with EDNS: an rcode,
`garbage` or `silence`. It prints each question.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

UDP_LIMIT = 1232


def write_zone(path: Path, zone: dict[str, Any]) -> None:
    """Replace the file at once."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(zone))
    os.replace(fresh, path)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def answer(wire: bytes, path: Path, limit: int) -> bytes | None:
    query = dns.message.from_wire(wire)
    question = query.question[0]
    say(f"{question.name} {dns.rdatatype.to_text(question.rdtype)}")
    zone = json.loads(path.read_text())
    response = dns.message.make_response(query)
    name = question.name
    while True:
        entry = zone.get(name.to_text(omit_final_dot=True).lower())
        if entry is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            break
        if entry.get("silent"):
            return None
        if query.edns >= 0 and (refusal := entry.get("edns")):
            return refuse_edns(query, refusal)
        response.set_rcode(dns.rcode.from_text(entry.get("rcode", "NOERROR")))
        ttl = entry.get("ttl", 1)
        if "CNAME" in entry:
            alias = dns.rrset.from_text(name, ttl, "IN", "CNAME", entry["CNAME"] + ".")
            response.answer.append(alias)
            name = alias[0].target
            continue
        texts = entry.get(dns.rdatatype.to_text(question.rdtype), ())
        if texts is None:
            return None
        if texts:
            response.answer.append(dns.rrset.from_text(name, ttl, "IN", question.rdtype, *texts))
        break
    encoded = response.to_wire(max_size=65535)
    if len(encoded) > limit:
        response.answer.clear()
        response.flags |= dns.flags.TC
        encoded = response.to_wire()
    return encoded


def refuse_edns(query: dns.message.Message, refusal: str) -> bytes | None:
    if refusal == "silence":
        return None
    if refusal == "garbage":
        return struct.pack("!HHHHHH", query.id, 0x8000, 1, 0, 0, 0) + b"\x03www"
    if refusal == "BADVERS":
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.BADVERS)
        return response.to_wire()
    return struct.pack("!HHHHHH", query.id, 0x8000 | dns.rcode.from_text(refusal), 0, 0, 0, 0)  # as RFC 6891 says


def serve(address: str, port: int, path: Path) -> None:
    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire, link = self.request
            if encoded := answer(wire, path, UDP_LIMIT):
                link.sendto(encoded, self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack("!H", self.rfile.read(2))
            if encoded := answer(self.rfile.read(length), path, 65535):
                self.wfile.write(struct.pack("!H", len(encoded)) + encoded)

    class UdpServer(socketserver.ThreadingUDPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    class TcpServer(socketserver.ThreadingTCPServer):
        address_family = UdpServer.address_family
        allow_reuse_address = True

    stream = TcpServer((address, port), Tcp)
    datagrams = UdpServer((address, stream.server_address[1]), Udp)
    threading.Thread(target=stream.serve_forever, daemon=True).start()
    say(f"port {stream.server_address[1]}")
    datagrams.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
