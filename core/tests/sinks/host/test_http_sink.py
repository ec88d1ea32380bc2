"""The HTTP sink, asked over both IP families in a network namespace of its own."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from ovnkit.api.host import HttpAnswer
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host.httpsink import HttpSink

A, B = Owner("test", "a", "k"), Owner("test", "b", "k")
HEALTHY = HttpAnswer(30300, 200, '{"localEndpoints": 1}', headers=(("X-Weight", "1"),))


class Kernel:
    """The sink, and what it told."""

    def __init__(self) -> None:
        self.reports: list[tuple[Owner, str]] = []
        self.timers: list[Callable[[], None]] = []
        report = lambda owner, error: self.reports.append((owner, str(error)))  # noqa: E731
        self.sink = HttpSink(report, lambda _seconds, function: self.timers.append(function))

    def want(self, owner: Owner, *items: HttpAnswer) -> None:
        self.sink.want(owner, items)
        self.sink.flush()
        assert self.sink.idle


@pytest.fixture
def kernel(netns: None) -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.sink.stop()


def ask(host: str = "127.0.0.1", port: int = 30300, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    connection = HTTPConnection(host, port, timeout=5)
    try:
        connection.request(method, "/any/path")
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_answers_over_both_families_and_changes_its_answer(kernel: Kernel, host: str) -> None:
    kernel.want(A, HEALTHY)
    status, body, headers = ask(host)
    assert (status, body) == (200, '{"localEndpoints": 1}')
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Weight"] == "1"
    assert ask(host, method="HEAD")[:2] == (200, "")
    kernel.want(A, HttpAnswer(30300, 503, "{}"))
    assert ask(host)[:2] == (503, "{}")


def test_a_port_that_nobody_wants_is_closed_at_once(kernel: Kernel) -> None:
    kernel.want(A, HEALTHY)
    kernel.want(A)
    with pytest.raises(ConnectionRefusedError):
        ask()
    kernel.want(B, HEALTHY)
    assert ask()[0] == 200
    assert kernel.reports == []


def test_of_two_owners_the_first_by_name_has_the_port(kernel: Kernel) -> None:
    kernel.want(B, HttpAnswer(30300, 200, "b"))
    kernel.want(A, HttpAnswer(30300, 200, "a"))
    assert ask()[1] == "a"
    assert kernel.reports == [(B, "port 30300 has the answer of test/a/k")]
    kernel.want(A)
    assert ask()[1] == "b"


def test_a_port_that_somebody_else_has_is_told_once_and_tried_again(kernel: Kernel) -> None:
    with socket.create_server(("", 30300)):
        kernel.want(A, HEALTHY)
        kernel.timers.pop()()
        assert kernel.reports == [(A, "port 30300: Address already in use")]
        status = kernel.sink.status()
        assert (status["owned"], status["last_error"]) == (0, "port 30300: Address already in use")
    kernel.timers.pop()()
    assert ask()[0] == 200
    status = kernel.sink.status()
    assert (status["owned"], status["failed"], status["last_error"]) == (1, {}, "")


def test_without_ipv6_it_answers_over_ipv4(kernel: Kernel, monkeypatch: Any) -> None:
    subprocess.run(("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"), check=True)
    kernel.want(A, HEALTHY)
    assert ask()[0] == 200


def test_a_client_that_says_nothing_keeps_nobody_waiting(kernel: Kernel) -> None:
    kernel.want(A, HEALTHY)
    with socket.create_connection(("127.0.0.1", 30300)):
        assert ask()[0] == 200
