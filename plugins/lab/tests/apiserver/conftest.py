"""A real server process, the machine's kubectl and the official client against it."""

import itertools
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from attrs import define, field

from kubelab.kubeconfig import kubeconfig, write_kubeconfig

_START_SECONDS = 20.0
_names = itertools.count(1)


@define
class Server:
    """One running API server; ``request`` speaks plain HTTP to it."""

    directory: Path
    arguments: list[str] = field(factory=list)
    url: str = ""
    process: "subprocess.Popen[bytes] | None" = None
    certificate: Path | None = None

    def use_tls(self) -> None:
        """Serve HTTPS, with an authority of the server's own; kubectl sends tokens only over TLS."""
        self.certificate, served_pem = self.directory / "ca.crt", self.directory / "server.pem"
        authority = trustme.CA()
        served = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(str(self.certificate))
        served.private_key_and_cert_chain_pem.write_to_path(str(served_pem))
        self.arguments += ["--tls-cert", str(served_pem), "--tls-key", str(served_pem)]

    def start(self, listen: str = "127.0.0.1:0") -> None:
        """Start and wait until it serves."""
        ready = self.directory / "ready"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "kubelab.apiserver", "--listen", listen, "--ready-file", str(ready)]
        log = (self.directory / "log").open("ab")
        command += ["--data-dir", str(self.directory / "data"), *self.arguments]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.directory / "log").read_text())
            time.sleep(0.02)
        self.url = ready.read_text().strip()

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """End the process and wait for it."""
        if self.process is not None:
            self.process.send_signal(sig)
            self.process.wait(10)
            self.process = None

    def kubeconfig(self, token: str = "") -> Path:
        """A kubeconfig for the server."""
        content = kubeconfig(self.url, token, self.certificate)
        return write_kubeconfig(self.directory / f"kubeconfig-{token}", content)

    def context(self) -> ssl.SSLContext | None:
        """What verifies the server's certificate."""
        return ssl.create_default_context(cafile=str(self.certificate)) if self.certificate else None

    def request(
        self, method: str, path: str, body: Any = None, token: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """One request; returns code, decoded body and headers."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers.setdefault("Content-Type", "application/json")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.context()) as answer:
                return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), dict(error.headers)


@define
class Kubectl:
    """Runs kubectl in one namespace."""

    binary: str
    kubeconfig: Path
    namespace: str

    def run(self, *arguments: str, stdin: str = "", ok: bool = True) -> str:
        """Standard output (and error) of a command that must succeed, or with ``ok=False`` must fail."""
        done = self.process(*arguments, stdin=stdin)
        assert (done.returncode == 0) == ok, f"kubectl {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def process(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run to completion."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment(),
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command that keeps running."""
        return subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
        )

    def command(self, *arguments: str) -> list[str]:
        """The full command line."""
        return [self.binary, f"--namespace={self.namespace}", *arguments]

    def environment(self) -> dict[str, str]:
        """The environment with the server's kubeconfig and an own cache."""
        cache = str(self.kubeconfig.parent / "cache")
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": cache}

    def json(self, *arguments: str) -> Any:
        """The JSON output of a get."""
        return json.loads(self.run(*arguments, "-o", "json"))


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the test's own, with options."""
    running: list[Server] = []

    def start(*arguments: str, tls: bool = False) -> Server:
        directory = tmp_path / f"server{len(running)}"
        directory.mkdir()
        server = Server(directory, list(arguments))
        if tls:
            server.use_tls()
        running.append(server)
        server.start()
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def server_class() -> type[Server]:
    """For modules that run a server of their own."""
    return Server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that don't need their own."""
    advice = ["--instead", "log=lab logs", "--instead", "exec=lab exec"]
    server = Server(tmp_path_factory.mktemp("apiserver"), advice)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kubectl_binary() -> str:
    """The kubectl of the machine."""
    binary = shutil.which("kubectl")
    if binary is None:
        pytest.skip("kubectl is not installed")
    return binary


@pytest.fixture
def namespace(shared_server: Server) -> str:
    """A namespace of the test's own."""
    name = f"test-{os.getpid()}-{next(_names)}"
    code, body, _ = shared_server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert code == 201, body
    return name


@pytest.fixture
def kubectl(shared_server: Server, kubectl_binary: str, namespace: str) -> Kubectl:
    """Kubectl in a namespace of the test's own."""
    return Kubectl(kubectl_binary, shared_server.kubeconfig(), namespace)
