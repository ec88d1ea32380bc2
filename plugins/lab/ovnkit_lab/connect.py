"""Try connections: targets as JSON on stdin, results as JSON on stdout.

Runs as a script in a network namespace (`python connect.py`), with nothing but the standard library.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from typing import Any

ATTEMPTS = 4
_TIMEOUT = 1.5
_SAMPLES = 5


def tcp(host: str, port: int) -> float:
    """Seconds to connect; an HTTP request must be answered, too. Raises OSError."""
    begin = time.perf_counter()
    with socket.create_connection((host, port), _TIMEOUT) as connection:
        connected = time.perf_counter() - begin
        connection.settimeout(_TIMEOUT)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if not connection.recv(1):
            raise OSError("the connection was closed without an answer")
    return connected


def udp(host: str, port: int) -> float:
    """Seconds for a datagram to come back. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(_TIMEOUT)
        begin = time.perf_counter()
        client.sendto(b"ovnkit", (host, port))
        if client.recv(100) != b"ovnkit":
            raise OSError("the answer is not what was sent")
        return time.perf_counter() - begin


def ping(host: str, _port: int) -> float:
    """Seconds for an ICMP echo. Raises OSError."""
    result = subprocess.run(
        ["ping", "-n", "-c", "1", "-W", "2", host], capture_output=True, text=True, check=False, timeout=10
    )
    match = re.search(r"time=([\d.]+) ms", result.stdout)
    if result.returncode or not match:
        raise OSError("no answer")
    return float(match[1]) / 1000


_PROTOCOLS = {"tcp": tcp, "udp": udp, "icmp": ping}


def attempt(protocol: str, host: str, port: int, attempts: int) -> dict[str, Any]:
    """Try a target up to `attempts` times: the median time if it answers, else the last error."""
    error = ""
    for _ in range(attempts):
        try:
            one = _PROTOCOLS[protocol]
            one(host, port)
            samples = sorted(one(host, port) for _ in range(_SAMPLES))
            return {"ok": True, "milliseconds": round(samples[_SAMPLES // 2] * 1000, 3)}
        except OSError as failure:
            error = failure.strerror or str(failure) or type(failure).__name__
    return {"ok": False, "error": error}


if __name__ == "__main__":
    json.dump([attempt(*target) for target in json.load(sys.stdin)], sys.stdout)
