"""Real processes for tests: an API server, databases, and `ovnkit run` on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from ovnkit.status.read import fetch as fetch

DEADLINE = 30.0
"""Seconds that anything waited for may take."""


def eventually(what: Callable[[], Any], timeout: float = DEADLINE, message: str = "") -> Any:
    """The first true result of `what`; AssertionError with the last one after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    last: Any = None
    while time.monotonic() < deadline:
        try:
            last = what()
        except (OSError, ValueError, LookupError, RuntimeError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.02)
    raise AssertionError(f"{message or 'not what was waited for'} after {timeout:g} s: {last!r}")


class ApiServer:
    """kubelab's API server as a process, without authentication; needs the extra `ovnkit[lab]`.

    Objects survive `restart`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.kubeconfig = folder / "kubeconfig"
        self._listen = "127.0.0.1:0"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> ApiServer:
        """Start, and return when it serves."""
        ready = self.folder / "url"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "kubelab.apiserver", "--listen", self._listen]
        command += ["--data-dir", str(self.folder / "data"), "--ready-file", str(ready)]
        log = self.folder / "apiserver.log"
        with log.open("ab") as file:
            process = self._process = subprocess.Popen(command, stdout=file, stderr=file)

        def url() -> str:
            # Without the extra ovnkit[lab] it exits at once.
            assert process.poll() is None, f"the API server exited: {log.read_text()[-300:]}"
            return ready.read_text().strip()

        self.url = eventually(url, message="API server not up")
        self._listen = self.url.removeprefix("http://")
        entry = {"name": "test", "cluster": {"server": self.url}}
        context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
        config = {"clusters": [entry], "contexts": [context], "users": [{"name": "test", "user": {}}]}
        head = {"apiVersion": "v1", "kind": "Config", "current-context": "test"}
        self.kubeconfig.write_text(json.dumps({**head, **config}))
        return self

    def stop(self) -> None:
        """End it as `kill -9` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def request(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """One request; raises RuntimeError with status and answer for 400 and above."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            data = orjson.dumps(body) if body is not None else None
            connection.request(method, path, data, {"Content-Type": content_type})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {content.decode()}")
            return orjson.loads(content)
        finally:
            connection.close()

    def create(self, manifest: Mapping[str, object], plural: str = "") -> Any:
        """Create an object; `plural` is its kind's name in lower case and an s unless given."""
        return self.request("POST", self._collection(manifest, plural), manifest)

    def delete(self, path: str) -> Any:
        """Delete an object by its path."""
        return self.request("DELETE", path)

    def merge(self, path: str, patch: Mapping[str, object]) -> Any:
        """Merge-patch an object by its path."""
        return self.request("PATCH", path, patch, "application/merge-patch+json")

    def annotations(self, path: str) -> Mapping[str, str]:
        """The annotations of an object."""
        return self.request("GET", path)["metadata"].get("annotations") or {}

    def _collection(self, manifest: Mapping[str, Any], plural: str) -> str:
        version = manifest["apiVersion"]
        namespace = manifest["metadata"].get("namespace")
        prefix = f"/{'apis' if '/' in version else 'api'}/{version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"{prefix}{scope}/{plural or manifest['kind'].lower() + 's'}"

    def __enter__(self) -> ApiServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class OvnkitProcess:
    """`ovnkit run` as a process; `arguments` follow `run`, `environ` is added to the environment."""

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        *arguments: str,
        command: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.socket = folder / "ovnkit.sock"
        self.log = folder / "ovnkit.log"
        self._command = [str(command or Path(sys.executable).parent / "ovnkit"), "run", *arguments]
        self._command += ["--kubeconfig", str(kubeconfig), "--set", f"metrics.socket={self.socket}"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OVNKIT_")}
        self._environ = {**kept, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> OvnkitProcess:
        """Start it; returns at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environ)
        return self

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def status(self) -> dict[str, Any]:
        """What /status says; raises OSError or ValueError while it doesn't answer."""
        if not self.running:
            raise AssertionError(f"ovnkit has ended: {self.log_tail()}")
        state: dict[str, Any] = fetch(self.socket)
        return state

    def wait_ready(self, timeout: float = DEADLINE) -> dict[str, Any]:
        """Wait until it is ready; its status then."""
        return self.wait(lambda state: state["ready"], timeout)

    def wait(self, holds: Callable[[dict[str, Any]], Any], timeout: float = DEADLINE) -> dict[str, Any]:
        """Wait until the status is as wanted; the status then."""

        def look() -> dict[str, Any] | None:
            state = self.status()
            return state if holds(state) else None

        state: dict[str, Any] = eventually(look, timeout, "ovnkit's status isn't as wanted")
        return state

    def log_tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-lines:])

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Log lines with this event."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        return self.wait_ended(timeout)

    def wait_ended(self, timeout: float = 60.0) -> int:
        """Wait until it ends by itself; the exit code."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self._process = None
        return code

    def __enter__(self) -> OvnkitProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
