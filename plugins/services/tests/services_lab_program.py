"""Runs in pods, on nodes and outside: a server that says who it is and whom it sees, and its clients.

    serve NAME                                  TCP 8080, UDP 5353, SCTP 2906
    serve-late                                  UDP 5353, each answer half a second late
    agent                                       reads lines `tcp|udp|sctp|health|eager ADDRESS PORT TIMES`, writes
                                                a line for each: answers, or errors' names, with semicolons;
                                                with `at-once` at its end all are asked at the same time
    keep-asking tcp ADDRESS PORT                connects until it is answered; a refusal ends it
    rate ADDRESS PORT SECONDS                   100 connections a second; in the end how many there were and failed
    connect ADDRESS PORT                        one connection, for which the kernel tries for 20 s
    stream ADDRESS PORT SOURCE_PORT             UDP from one port for ever; a line when somebody else answers, and
                                                when somebody does after a second of silence

SCTP is `ovnkit_lab.sctp`'s; the server's answer is in the cookie.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

from ovnkit_lab import sctp

TCP, UDP, SCTP = 8080, 5353, 2906
TIMEOUT = 1.5


def address_text(address: str) -> str:
    return address.removeprefix("::ffff:")


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# -- servers ----------------------------------------------------------------------------------------------------


def serve_tcp(name: str) -> None:
    server = socket.create_server(("::", TCP), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    while True:
        client, peer = server.accept()
        with client:
            client.sendall(f"{name} {address_text(peer[0])}".encode())


def serve_udp(name: str) -> None:
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", UDP))
    while True:
        _, peer = server.recvfrom(100)
        server.sendto(f"{name} {address_text(peer[0])}".encode(), peer)


def serve_sctp(name: str, family: socket.AddressFamily) -> None:
    server = socket.socket(family, socket.SOCK_RAW, sctp.PROTOCOL)
    while True:
        packet, peer = server.recvfrom(2000)
        found = sctp.read(packet, family)
        if found is not None and (found.target, found.kind) == (SCTP, sctp.INIT):
            text = f"{name} {address_text(peer[0])}".encode()
            server.sendto(sctp.init_ack(found, text), (peer[0], 0))


def serve_late() -> None:
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", UDP))
    while True:
        threading.Timer(0.5, server.sendto, server.recvfrom(100)).start()


def serve(name: str) -> None:
    for target in ((serve_udp, name), (serve_sctp, name, socket.AF_INET), (serve_sctp, name, socket.AF_INET6)):
        threading.Thread(target=target[0], args=target[1:], daemon=True).start()
    serve_tcp(name)


# -- clients ----------------------------------------------------------------------------------------------------


def ask_tcp(address: str, port: int, timeout: float = TIMEOUT) -> str:
    with socket.create_connection((address, port), timeout) as connection:
        return connection.makefile().read()


def ask_udp(address: str, port: int) -> str:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        client.connect((address, port))
        client.send(b"who")
        return client.recv(200).decode()


def ask_eagerly(address: str, port: int) -> str:
    """Which of five datagrams, sent before any answer, are answered."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        client.connect((address, port))
        for number in b"12345":
            client.send(bytes((number,)))
            time.sleep(0.05)
        answers = b""
        with contextlib.suppress(TimeoutError):
            while len(answers) < 5:
                answers += client.recv(10)
        return answers.decode()


def ask_sctp(address: str, port: int) -> str:
    family = family_of(address)
    with socket.socket(family, socket.SOCK_RAW, sctp.PROTOCOL) as client:
        source = 10_000 + time.time_ns() % 20_000
        client.settimeout(TIMEOUT)
        client.sendto(sctp.init(source, port, 1), (address, 0))
        while True:
            packet, peer = client.recvfrom(2000)
            found = sctp.read(packet, family)
            expected = (port, source, sctp.INIT_ACK)
            if found is not None and (found.source, found.target, found.kind) == expected and peer[0] == address:
                return found.cookie.decode()


def ask_health(address: str, port: int) -> str:
    """A health check's status and number of endpoints."""
    connection = HTTPConnection(address, port, timeout=TIMEOUT)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    return f"{answer.status} {json.loads(answer.read())['localEndpoints']}"


ASK = {"tcp": ask_tcp, "udp": ask_udp, "sctp": ask_sctp, "health": ask_health, "eager": ask_eagerly}


def ask(protocol: str, address: str, port: int) -> str:
    try:
        return ASK[protocol](address, port)
    except OSError as error:
        return type(error).__name__


def keep_asking(protocol: str, address: str, port: int) -> str:
    while (answer := ask(protocol, address, port)) == "TimeoutError":
        pass
    return answer


def stream(address: str, port: int, source: int) -> None:
    client = socket.socket(family_of(address), socket.SOCK_DGRAM)
    client.bind(("", source))
    client.settimeout(0.2)
    client.connect((address, port))
    last, heard = "", 0.0
    while True:
        try:
            client.send(b"who")
            answer = client.recv(200).decode().split()[0]
        except TimeoutError:
            continue
        except OSError:
            time.sleep(0.05)
            continue
        if answer != last or time.monotonic() > heard + 1:
            say(answer)
        last, heard = answer, time.monotonic()
        time.sleep(0.05)


def rate(address: str, port: int, seconds: float) -> None:
    answers: list[str] = []
    threads = []
    say("begun")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        thread = threading.Thread(target=lambda: answers.append(ask("tcp", address, port)))
        thread.start()
        threads.append(thread)
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    failed = [answer for answer in answers if " " not in answer]
    say(f"{len(answers)} {len(failed)}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(what: str, *words: str) -> None:
    if what == "serve":
        serve(words[0])
    elif what == "serve-late":
        serve_late()
    elif what == "stream":
        stream(words[0], int(words[1]), int(words[2]))
    elif what == "connect":
        say(ask_tcp(words[0], int(words[1]), 20).split()[0])
    elif what == "rate":
        rate(words[0], int(words[1]), float(words[2]))
    elif what == "agent":
        for line in sys.stdin:
            protocol, address, port, times, *how = line.split()
            with ThreadPoolExecutor(int(times) if how else 1) as workers:
                asked = [workers.submit(ask, protocol, address, int(port)) for _ in range(int(times))]
            say(";".join(answer.result() for answer in asked))
    else:
        say(keep_asking(words[0], words[1], int(words[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
