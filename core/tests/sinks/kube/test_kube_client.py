"""The connection: credentials, errors by meaning, broken connections."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3
import yaml

from ovnkit.api.config import KubernetesOptions
from ovnkit.api.errors import ConfigError
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.errors import (
    Conflict,
    Forbidden,
    Gone,
    KubeError,
    NotFound,
    ServerFailed,
    ServerUnavailable,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
)
from ovnkit.sinks.kube.whole_requests import send_whole_requests

PODS = "/api/v1/pods"


def write_kubeconfig(path: Path, url: str, user: dict[str, Any]) -> str:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, Unprocessable),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (418, KubeError),
        (422, Unprocessable),
        (429, TooManyRequests),
        (500, ServerUnavailable),
        (503, ServerUnavailable),
    ],
)
def test_an_error_comes_as_its_meaning(api: Any, client: Client, code: int, error: type[KubeError]) -> None:
    api.fail(code, message="because", headers={"Retry-After": "7"})
    with pytest.raises(error, match="because") as caught:
        client.get(PODS)
    assert caught.value.code == code
    assert caught.value.retry_after == 7.0


def test_a_500_without_a_time_to_wait_is_about_the_request(api: Any, client: Client) -> None:
    api.fail(500, message="failed calling webhook")
    with pytest.raises(ServerFailed, match="webhook"):
        client.get(PODS)


def test_an_answer_that_is_no_status_is_quoted(api: Any, client: Client) -> None:
    api.collection(PODS)
    with pytest.raises(NotFound) as missing:
        client.get("/api/v1/namespaces/a/pods/b")
    assert missing.value.of_object
    with pytest.raises(NotFound) as unknown:
        client.get("/apis/example.org/v1/things")
    assert not unknown.value.of_object


def test_a_cut_connection_and_a_dead_server_are_unavailable(api: Any, client: Client) -> None:
    api.fail(0)
    with pytest.raises(ServerUnavailable):
        client.get(PODS)
    api.stop()
    with pytest.raises(ServerUnavailable, match="refused"):
        client.get(PODS)
    api.start()


def test_kubeconfig_with_token_and_override_of_the_server(api: Any, tmp_path: Path) -> None:
    api.collection(PODS)
    api.token = "secret"
    path = write_kubeconfig(tmp_path / "config", "http://127.0.0.1:1", {"token": "secret"})
    client = Client.connect(KubernetesOptions(kubeconfig=path, apiserver=api.url))
    assert client.get(PODS)["items"] == []
    client.close()


def test_token_of_an_exec_plugin_is_asked_for_again_after_401(api: Any, tmp_path: Path) -> None:
    api.collection(PODS)
    api.token = "first"
    plugin = tmp_path / "credentials"
    token = tmp_path / "token"
    token.write_text("first")
    plugin.write_text(
        "#!/bin/sh\n"
        'echo \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        f'"status":{{"token":"\'$(cat {token})\'"}}}}\'\n'
    )
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
    client = Client.connect(KubernetesOptions(kubeconfig=write_kubeconfig(tmp_path / "config", api.url, user)))
    assert client.get(PODS)["items"] == []
    api.token = "second"
    token.write_text("second")
    client._loaded = 0.0  # as if the last reload were long ago
    assert client.get(PODS)["items"] == []
    token.write_text("wrong")
    api.token = "third"
    with pytest.raises(Unauthorized):
        client.get(PODS)
    assert len([r for r in api.requests if r.path == PODS]) == 4, "a fresh token that is wrong isn't tried again"


def test_token_file_is_read_again(api: Any, tmp_path: Path) -> None:
    api.collection(PODS)
    api.token = "first"
    token = tmp_path / "token"
    token.write_text("first\n")
    client = Client.connect(KubernetesOptions(apiserver=api.url, token_file=str(token)))
    assert client.get(PODS)["items"] == []
    api.token = "second"
    token.write_text("second\n")
    client._loaded = 0.0
    assert client.get(PODS)["items"] == []


@pytest.mark.parametrize(
    "options",
    [
        KubernetesOptions(kubeconfig="/nonexistent/config"),
        KubernetesOptions(apiserver="https://127.0.0.1:1", cacert="/nonexistent/ca"),
        KubernetesOptions(apiserver="https://127.0.0.1:1", token_file="/nonexistent/token"),
    ],
)
def test_wrong_configuration_is_named(options: KubernetesOptions) -> None:
    with pytest.raises(ConfigError, match="nonexistent"):
        Client.connect(options)


def test_closing_a_watch_wakes_its_reader(api: Any, client: Client, until: Any) -> None:
    api.collection(PODS)
    stream = client.stream(PODS, {"watch": 1, "resourceVersion": 0, "timeoutSeconds": 60})
    ended = threading.Event()

    def read() -> None:
        for _ in stream:
            pass
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    stream.close()
    assert ended.wait(5.0)
    thread.join()


def test_a_request_goes_out_in_one_piece() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.sent: list[bytes] = []

        def settimeout(self, _seconds: object) -> None:
            pass

        def sendall(self, data: bytes) -> None:
            self.sent.append(bytes(data))

    pool = urllib3.HTTPConnectionPool("127.0.0.1", 1)
    send_whole_requests(pool)
    connection: Any = pool.ConnectionCls("127.0.0.1", 1)
    connection.sock = recorder = Recorder()
    connection.request("PATCH", "/x", body=b'{"a": 1}', headers={"X": "y"})
    assert len(recorder.sent) == 1
    head, _, body = recorder.sent[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PATCH /x HTTP/1.1\r\n")
    assert b"X: y" in head.split(b"\r\n")
    assert body == b'{"a": 1}'


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_requests_over_tls_arrive_whole(tmp_path: Path) -> None:
    certificate = tmp_path / "ca.crt"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_address[1]}"
        client = Client.connect(KubernetesOptions(apiserver=url, token="t", cacert=str(certificate)))
        for size in (10, 100_000):
            assert client.request("PATCH", "/x", b"x" * size).body == b"x" * size
        client.close()
        server.shutdown()
