"""The HTTP server that status, CNI and health checks share."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovnkit.api.http_server import Answer, Handler, listen_unix


class Hello(Handler):
    """Answers GET and HEAD."""

    def do_GET(self) -> None:  # noqa: N802 (the name is the base class')
        self.reply(Answer(200, "text/plain", b"hello", (("X-Colour", "blue"),)))

    do_HEAD = do_GET  # noqa: N815 (the name is the base class')


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "s"
    server = listen_unix(found, Hello)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def ask(path: Path, method: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request(method, "/")
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def test_a_body_is_sent_for_get_and_only_its_length_for_head(path: Path) -> None:
    status, headers, body = ask(path, "GET")
    assert (status, headers["X-Colour"], headers["Content-Type"], body) == (200, "blue", "text/plain", b"hello")
    status, headers, body = ask(path, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


def test_only_root_may_connect(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_client_that_goes_away_disturbs_nobody(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert ask(path, "GET")[2] == b"hello"
    assert capfd.readouterr().err == ""


def test_a_socket_that_is_served_is_not_taken(path: Path) -> None:
    with pytest.raises(OSError, match="in use"):
        listen_unix(path, Hello)
