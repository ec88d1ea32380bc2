"""Packets lost while a part of a node is restarted: `python -m bench.loss`, or `make bench-loss`.

A lab of two nodes; from a pod on node1 to a service, from the outside to a node port of node1, and from pod to
pod, 100 datagrams a second go to an echo on node2, each with a number. One part of node1 after the other is
restarted meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from ovnkit.api.terminal import print_table
from ovnkit_lab.testing import LabHandle, exports, ovnkit_lab, wait_until

PARTS = ("ovnkit", "ovn-controller", "ovs-vswitchd")
RATE = 100
"""Datagrams per second of each stream."""
BEFORE, AFTER = 2.0, 8.0
"""Seconds of stream before and after a restart begins."""

ECHO = """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(("::", 7000))
while True:
    data, peer = server.recvfrom(2000)
    server.sendto(data, peer)
"""
STREAM = """
import json, socket, sys, threading, time
address, port, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect((address, port))
client.settimeout(1.5)
sent, heard = int(rate * seconds), set()
def listen():
    while True:
        try:
            heard.add(int(client.recv(2000)))
        except ConnectionRefusedError:
            continue
        except OSError:
            return
listener = threading.Thread(target=listen)
listener.start()
begin = time.monotonic()
for number in range(sent):
    time.sleep(max(0.0, begin + number / rate - time.monotonic()))
    try:
        client.send(str(number).encode())
    except OSError:
        pass
listener.join()
longest = run = 0
for number in range(sent):
    run = 0 if number in heard else run + 1
    longest = max(longest, run)
print(json.dumps([sent, sent - len(heard), longest]))
"""


def prepared(lab: LabHandle) -> dict[str, list[str]]:
    """Make the echo and its service; the arguments of each stream."""
    echo = lab.pod("echo", sys.executable, "-c", ECHO, node="node2")
    echo["metadata"]["labels"] = {"app": "echo"}
    ports = [{"port": 7, "targetPort": 7000, "protocol": "UDP"}]
    spec: dict[str, Any] = {"type": "NodePort", "selector": {"app": "echo"}, "ports": ports}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"}, "spec": spec}
    lab.apply(echo, lab.pod("client", node="node1"), service)
    lab.wait_ready("echo", "client")
    spec = lab.get("service", "echo")["spec"]
    addresses = lab.get("node", "node1")["status"]["addresses"]
    node = next(item["address"] for item in addresses if item["type"] == "InternalIP")
    return {
        "pod to service": ["exec", "default/client", spec["clusterIP"], "7"],
        "outside to node port": ["external", node, str(spec["ports"][0]["nodePort"])],
        "pod to pod": ["exec", "default/client", lab.pod_ips("echo")[0], "7000"],
    }


def begin(lab: LabHandle, words: list[str], seconds: float) -> subprocess.Popen[str]:
    """Start a stream."""
    *where, address, port = words
    command = [sys.executable, "-m", "ovnkit_lab", where[0], "--name", lab.name, *where[1:], "--"]
    stream = [sys.executable, "-c", STREAM, address, port, str(RATE), str(seconds)]
    return subprocess.Popen([*command, *stream], stdout=subprocess.PIPE, text=True)


def measure(lab: LabHandle, streams: dict[str, list[str]], part: str) -> dict[str, list[int]]:
    """Datagrams sent, lost, and lost in a row, by stream, while a part is restarted."""
    running = {name: begin(lab, words, BEFORE + AFTER) for name, words in streams.items()}
    time.sleep(BEFORE)
    if part:
        lab.run("restart", "node1", part)
    return {name: json.loads(process.communicate(timeout=120)[0]) for name, process in running.items()}


def works(lab: LabHandle, streams: dict[str, list[str]]) -> bool:
    """Whether a short moment of each stream is answered."""
    running = [begin(lab, words, 0.2) for words in streams.values()]
    return all(json.loads(process.communicate(timeout=60)[0])[1] == 0 for process in running)


@click.command()
@click.option("--repeat", default=3, show_default=True, help="Restarts of each part.")
def main(repeat: int) -> None:
    """Bring a lab up, restart parts of its first node under traffic, print what was lost."""
    name = f"loss{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "ovnkit.toml")
        config.write_text('[gateway]\nmode = "shared"\nnodeport = true\n')
        ovnkit_lab("up", "--name", name, "--config", str(config), check=True)
    rows = []
    try:
        lab = LabHandle(name=name, environment=exports(name))
        streams = prepared(lab)
        for part in ("", *PARTS):
            for _ in range(repeat if part else 1):
                wait_until(lambda: works(lab, streams), 60, "all streams being answered")
                for stream, (sent, lost, row) in measure(lab, streams, part).items():
                    rows.append((part or "nothing", stream, sent, lost, row))
    finally:
        ovnkit_lab("down", "--name", name)
    print_table(("restarted", "stream", "sent", "lost", "lost in a row"), rows)


if __name__ == "__main__":
    main()
