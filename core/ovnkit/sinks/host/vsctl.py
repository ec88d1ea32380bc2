"""ovs-vsctl as a function: it returns when ovs-vswitchd has done what was asked."""

from __future__ import annotations

import subprocess
from typing import Any

from attrs import frozen

from ovnkit.api.errors import OvnkitError
from ovnkit.api.text import parse_json, print_json

TIMEOUT = 10
"""Seconds that ovs-vswitchd gets to do what was asked."""


class VsctlError(OvnkitError):
    """ovs-vsctl failed; the text is its message."""


@frozen
class Vsctl:
    """The Open vSwitch whose sockets are in a run directory."""

    run_dir: str

    def __call__(self, *arguments: str) -> str:
        """What one command prints; raises VsctlError with the first line it complains."""
        command = ["ovs-vsctl", f"--db=unix:{self.run_dir}/db.sock", f"--timeout={TIMEOUT}", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT + 5, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise VsctlError(str(error)) from error
        # It also complains, and ends with 0, about a port that ovs-vswitchd could not add.
        if done.returncode or "Error detected" in done.stderr:
            lines = done.stderr.strip().splitlines() or [f"ovs-vsctl ended with {done.returncode}"]
            raise VsctlError(lines[0])
        return done.stdout

    def bridges(self) -> dict[str, dict[str, str]]:
        """The `external_ids` of each bridge, by name."""
        table = parse_json(self("--format=json", "--columns=name,external_ids", "list", "Bridge"))
        return {name: dict(ids[1]) for name, ids in table["data"]}

    def bridge_of(self, port: str) -> str:
        """The bridge a port is on; empty when it is on none."""
        table: dict[str, Any] = parse_json(
            self("--format=json", "--columns=_uuid", "find", "Port", f"name={print_json(port)}")
        )
        return self("port-to-br", port).strip() if table["data"] else ""
