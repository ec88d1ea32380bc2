"""Connections that `ovnkit lab demo` tries, from pods and hosts to addresses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from attrs import frozen

from ovnkit_lab import connect
from ovnkit_lab.lab import Lab
from ovnkit_lab.layout import LabError


@frozen
class Connection:
    """One try: from a namespace to an address. `source`, `target` and `where` are for the table."""

    netns: str
    source: str
    target: str
    where: str
    protocol: str
    address: str
    port: int


@frozen
class Outcome:
    """What came of it: the time of an answer, or an error."""

    ok: bool
    milliseconds: float = 0.0
    error: str = ""

    @property
    def text(self) -> str:
        """For the table."""
        return "ok" if self.ok else self.error


def try_all(connections: Sequence[Connection], attempts: int = connect.ATTEMPTS) -> list[Outcome]:
    """What comes of each, in order; one process for each namespace they come from."""
    groups: dict[str, list[Connection]] = {}
    for connection in connections:
        groups.setdefault(connection.netns, []).append(connection)
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda netns: _try_from(netns, groups[netns], attempts), groups)
        found = dict(zip(groups, map(iter, answers), strict=True))
    return [next(found[connection.netns]) for connection in connections]


def _try_from(netns: str, group: Sequence[Connection], attempts: int) -> list[Outcome]:
    targets = [(item.protocol, item.address, item.port, attempts) for item in group]
    command = ["ip", "netns", "exec", netns, sys.executable, "-I", str(connect.__file__)]
    result = subprocess.run(
        command, input=json.dumps(targets), capture_output=True, text=True, check=False, timeout=300
    )
    if result.returncode:
        raise LabError(f"trying connections from {netns} failed: {result.stderr.strip()[-200:]}")
    return [Outcome(**answer) for answer in json.loads(result.stdout)]


def pod_namespaces(lab: Lab) -> dict[str, str]:
    """The network namespaces of the pods that run, by `namespace/name`."""
    records = [json.loads(path.read_text()) for path in lab.files.pods.glob("*.json")]
    return {f"{record['namespace']}/{record['name']}": record["netns"] for record in records}


def endpoint(address: str, port: int) -> str:
    """An address, with its port if there is one."""
    if not port:
        return address
    return f"[{address}]:{port}" if ip_address(address).version == 6 else f"{address}:{port}"
