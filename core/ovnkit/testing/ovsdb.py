"""A throw-away ovsdb-server with the schemas of OVN and Open vSwitch, for tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import orjson

DEBIAN_13 = Path(os.environ.get("OVNKIT_OVN_ROOT", "/var/cache/ovnkit/debian-13"))
"""Root with a newer OVN; its schemas are used when the host has none, or on request."""
SCHEMAS = {
    "OVN_Northbound": "usr/share/ovn/ovn-nb.ovsschema",
    "OVN_Southbound": "usr/share/ovn/ovn-sb.ovsschema",
    "Open_vSwitch": "usr/share/openvswitch/vswitch.ovsschema",
}
DEADLINE = 20.0


def available() -> bool:
    """Whether ovsdb-server can be run here."""
    return shutil.which("ovsdb-server") is not None and shutil.which("ovsdb-tool") is not None


def schema_path(database: str, root: Path | None = None) -> Path:
    """The schema file of a database, from `root`, the host, or the Debian 13 root; raises FileNotFoundError."""
    for base in (root,) if root is not None else (Path("/"), DEBIAN_13):
        path = base / SCHEMAS[database]
        if path.exists():
            return path
    raise FileNotFoundError(f"no schema of {database} on this machine")


class OvsdbServer:
    """One ovsdb-server process with one or more databases in a folder.

    `schema` names a schema file instead of the installed one. `cluster` makes a raft cluster of one, or joins
    the one at the given raft address. Use it as a context manager, or `start()` and `stop()`.
    """

    def __init__(
        self,
        folder: Path,
        *databases: str,
        schema: Path | None = None,
        listen: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        cluster: str | None = None,
        join: str | None = None,
    ) -> None:
        self.folder = folder
        self.databases = databases or ("OVN_Northbound",)
        self.socket = folder / "db.sock"
        self.control = folder / "db.ctl"
        self.process: subprocess.Popen[bytes] | None = None
        self._listen = listen
        self._options = options
        folder.mkdir(parents=True, exist_ok=True)
        for database in self.databases:
            path = self.file(database)
            if path.exists():
                continue
            if cluster and join:
                command = ["join-cluster", str(path), database, cluster, join]
            elif cluster:
                command = ["create-cluster", str(path), str(schema or schema_path(database)), cluster]
            else:
                command = ["create", str(path), str(schema or schema_path(database))]
            subprocess.run(["ovsdb-tool", *command], check=True, capture_output=True)

    @property
    def endpoint(self) -> str:
        """The unix socket, as an endpoint."""
        return f"unix:{self.socket}"

    def file(self, database: str) -> Path:
        """The file of a database."""
        return self.folder / f"{database}.db"

    def start(self, *, wait: bool = True) -> OvsdbServer:
        """Start the process; with `wait` until it answers on its socket (and, clustered, knows its leader)."""
        remotes = [f"--remote=punix:{self.socket}", *(f"--remote={item}" for item in self._listen)]
        files = [str(self.file(database)) for database in self.databases]
        with (self.folder / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    "ovsdb-server", "--no-chdir", f"--unixctl={self.control}", "-vconsole:off", "-vfile:info",
                    f"--log-file={self.folder / 'ovsdb.log'}", *remotes, *self._options, *files,
                ],
                stdout=output,
                stderr=output,
                env={**os.environ, "OVS_RUNDIR": str(self.folder)},
            )  # fmt: skip
        if wait:
            self._await()
        return self

    def _await(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            try:
                if self.call("list_dbs", []):
                    self.transact(self.databases[0], [])
                    return
            except (OSError, RuntimeError, ValueError):
                time.sleep(0.01)
        log = self.folder / "ovsdb.log"
        raise RuntimeError(f"ovsdb-server did not start: {log.read_text()[-2000:] if log.exists() else ''}")

    def stop(self) -> None:
        """End the process."""
        self._end("terminate")

    def kill(self) -> None:
        """End the process as `kill -9` does."""
        self._end("kill")

    def _end(self, how: str) -> None:
        if self.process is not None:
            getattr(self.process, how)()
            self.process.wait(10)
            self.process = None
        self.socket.unlink(missing_ok=True)

    def __enter__(self) -> OvsdbServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(self, method: str, params: list[Any]) -> Any:
        """One JSON-RPC request on a connection of its own; raises RuntimeError with the server's error."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(str(self.socket))
            sock.sendall(orjson.dumps({"id": 0, "method": method, "params": params}))
            data = bytearray()
            while True:
                piece = sock.recv(1 << 20)
                if not piece:
                    raise RuntimeError("connection closed")
                data += piece
                if not data.endswith(b"}"):
                    continue
                try:
                    answer = orjson.loads(data)
                except orjson.JSONDecodeError:
                    continue
                break
        if answer.get("error"):
            raise RuntimeError(str(answer["error"]))
        return answer["result"]

    def transact(self, database: str, operations: list[Any]) -> list[Any]:
        """Run a transaction; raises RuntimeError when any part of it fails."""
        results: list[Any] = self.call("transact", [database, *operations])
        for result in results:
            if result and "error" in result:
                raise RuntimeError(f"{result['error']}: {result.get('details', '')}")
        return results

    def rows(self, table: str, database: str = "", columns: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """All rows of a table as JSON, `_uuid` as a plain string."""
        operation: dict[str, Any] = {"op": "select", "table": table, "where": []}
        if columns:
            operation["columns"] = ["_uuid", *columns]
        rows: list[dict[str, Any]] = self.transact(database or self.databases[0], [operation])[0]["rows"]
        for row in rows:
            row["_uuid"] = row["_uuid"][1]
        return rows

    def control_command(self, *words: str) -> str:
        """Run `ovs-appctl` against the server (`cluster/status OVN_Northbound`)."""
        command = ["ovs-appctl", "-t", str(self.control), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
