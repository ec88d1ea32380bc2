"""The processes of a measurement: API server, ovsdb-server, ovnkit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from attrs import field, frozen

from bench import load as loads
from bench.load import Load
from bench.rawapi import Api
from ovnkit.testing.cluster import OvnkitProcess, eventually
from ovnkit.testing.ovsdb import OvsdbServer

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 900.0
"""Seconds that any wait may take."""


class ApiProcess:
    """The lab's API server, everything in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        ready, log = folder / "url", folder / "api.log"
        command = [sys.executable, "-m", "kubelab.apiserver", "--listen", "127.0.0.1:0"]
        command += ["--service-cidr", loads.SERVICES, "--ready-file", str(ready), "--history", "200000"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        self.url = str(eventually(lambda: ready.exists() and ready.read_text().strip()))
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            f"{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: u, user: {{}}}}],"
            f" clusters: [{{name: c, cluster: {{server: '{self.url}'}}}}],"
            f" contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}"
        )
        self.api = Api(self.url)

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(10)


@frozen
class Usage:
    """CPU seconds since the start; resident memory now and at most, in MB."""

    cpu: float
    memory: float
    peak: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Of a process."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        sizes = dict(line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in
                     line or "VmRSS" in line)  # fmt: skip
        kilobytes = {name: int(text.split()[0]) for name, text in sizes.items()}
        return cls(
            (int(fields[11]) + int(fields[12])) / TICKS, kilobytes["VmRSS"] / 1024, kilobytes["VmHWM"] / 1024
        )


@frozen
class Run:
    """One start of ovnkit until steady: seconds from process start, what it used and did."""

    seconds: float
    usage: Usage
    transactions: int
    rows: int
    patches: int
    state: dict[str, Any] = field(repr=False)


class Rig:
    """A folder with processes; `start` and `stop` the measured one."""

    def __init__(self, folder: Path, load: Load) -> None:
        self.folder, self.load = folder, load
        self.apiserver = ApiProcess(folder / "api")
        self.api = self.apiserver.api
        self._made: list[OvsdbServer] = []
        self.database = self.fresh()
        self.ovnkit: OvnkitProcess | None = None
        self._starts = 0

    def fresh(self) -> OvsdbServer:
        """An empty northbound (with the southbound beside it) in a server of its own."""
        name = f"db{len(self._made) + 1}"
        found = OvsdbServer(self.folder / name, "OVN_Northbound", "OVN_Southbound").start()
        self._made.append(found)
        found.transact("OVN_Northbound", [{"op": "insert", "table": "NB_Global", "row": {}}])
        return found

    def replace_database(self) -> None:
        """Throw the northbound away; the new one is empty."""
        self.database.stop()
        self.database = self.fresh()

    def fill(self) -> float:
        """Create all objects of the load; seconds taken."""
        start = time.monotonic()
        for kind in ("Namespace", "Node", "Service", "EndpointSlice", "NetworkPolicy", "Pod"):
            found = [item for item in loads.everything(self.load) if item["kind"] == kind]
            self.api.many([("POST", loads.collection(item), item, "application/json") for item in found])
        return time.monotonic() - start

    def start(self, *, zone: str = "", roles: tuple[str, ...] = ("cluster", "zone")) -> Run:
        """Start ovnkit and wait until everything is in the database and the API."""
        self._starts += 1
        words = [word for role in roles for word in ("--role", role)]
        words += ["--set", f"default.cluster-subnets={loads.CLUSTER}/23"]
        words += ["--set", f"kubernetes.service-cidrs={loads.SERVICES}", "--log-level", "warning"]
        words += ["--set", f"ovnnorth.address={self.database.endpoint}"]
        words += ["--set", f"ovnsouth.address={self.database.endpoint}"]
        words += ["--node-name", zone or "node-0", "--identity", "bench"]
        words += [] if zone else ["--set", "default.zone-mode=central"]
        process = OvnkitProcess(self.folder / f"ovnkit{self._starts}", self.apiserver.kubeconfig, *words)
        began = time.monotonic()
        process.start()
        self.ovnkit = process
        state = process.wait(_steady, PATIENCE)
        seconds = time.monotonic() - began
        sinks = state["sinks"]
        nb = sinks["nb"]
        return Run(seconds, self.usage(), nb["transactions"], nb["rows_written"], sinks["kube"]["patches"], state)

    @property
    def pid(self) -> int:
        """Of the measured process."""
        assert self.ovnkit is not None
        return int(self.ovnkit.status()["pid"])

    def usage(self) -> Usage:
        """Of the measured process."""
        return Usage.of(self.pid)

    @staticmethod
    def usage_of(pid: int) -> Usage:
        """Of a process, without asking it anything."""
        return Usage.of(pid)

    def settle(self) -> None:
        """Wait until the measured process has nothing left to do."""
        assert self.ovnkit is not None
        self.ovnkit.wait(_steady, PATIENCE)

    def stop(self) -> None:
        """Stop the measured process gracefully."""
        if self.ovnkit is not None:
            self.ovnkit.stop(timeout=60)
            self.ovnkit = None

    def close(self) -> None:
        """End everything."""
        if self.ovnkit is not None:
            self.ovnkit.__exit__()
        for server in self._made:
            server.stop()
        self.apiserver.stop()


def _steady(state: dict[str, Any]) -> bool:
    """Ready, but for the daemons of OVN, which there are none of here."""
    missing = [reason for reason in state["not_ready"] if not reason.startswith("plugin topology: ovn-")]
    return bool(not missing and state["synced"])
