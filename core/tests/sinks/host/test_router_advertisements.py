"""What the kernel learned from a router in another namespace stays when forwarding is switched on."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.host import Route, Sysctl
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host.sink import HostSink

OWNER = Owner("gateway", "host", "n1")
FORWARDING = Sysctl(("net", "ipv6", "conf", "all", "forwarding"), "1")

# A router advertisement (RFC 4861, 4.2): a lifetime, and one prefix that is on-link and for addresses.
PREFIX = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + ip_address("2001:db8:7::").packed
ADVERTISEMENT = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + PREFIX
ROUTER = f"""
import socket, sys, time
router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
router.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"router")
while True:
    try:
        router.sendto({ADVERTISEMENT!r}, ("ff02::1", 0, 0, socket.if_nametoindex("router")))
    except OSError:
        pass
    time.sleep(0.1)
"""


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def conf(link: str, name: str) -> Path:
    return Path(f"/proc/sys/net/ipv6/conf/{link}/{name}")


def default_routes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sh("ip", "-6", "-j", "route", "show", "default") or "[]")
    return found


@pytest.fixture
def hearing(netns: None, until: Callable[[Callable[[], object]], None]) -> Iterator[None]:
    """`uplink` has learned its default route from a router; `quiet` accepts none, `other` has heard none."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "300"])
    try:
        until(
            lambda: (
                Path(f"/proc/{holder.pid}/ns/net").stat().st_ino != Path("/proc/thread-self/ns/net").stat().st_ino
            )
        )
        conf("default", "accept_ra").write_text("1")
        sh("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "router")
        sh("ip", "link", "add", "other", "type", "veth", "peer", "name", "quiet")
        conf("quiet", "accept_ra").write_text("0")
        sh("ip", "link", "set", "router", "netns", str(holder.pid))
        inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        sh(*inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/router/forwarding")
        sh(*inside, "ip", "link", "set", "router", "up")
        sh("ip", "link", "set", "uplink", "up")
        router = subprocess.Popen([*inside, sys.executable, "-c", ROUTER])
        try:
            until(default_routes)
            yield
        finally:
            router.kill()
            router.wait()
    finally:
        holder.kill()
        holder.wait()


def start(inbox: Any) -> HostSink:
    sink = HostSink(inbox.post, lambda _owner, _error: None)
    sink.start()
    inbox.until(lambda: sink.ready, "ready")
    return sink


def test_forwarding_takes_no_learned_default_route(hearing: None, inbox: Any) -> None:
    (before,) = default_routes()
    assert before["protocol"] == "ra"
    sink = start(inbox)
    try:
        sink.want(OWNER, [FORWARDING])
        sink.flush()
        inbox.until(lambda: conf("uplink", "forwarding").read_text().strip() == "1" and sink.idle, "forwarding")
        assert [route["dev"] for route in default_routes()] == ["uplink"]
        assert {link: conf(link, "accept_ra").read_text().strip() for link in ("uplink", "other", "quiet")} == {
            "uplink": "2",
            "other": "1",
            "quiet": "0",
        }
        # and it is learned anew when it has gone
        sh("ip", "-6", "route", "flush", "default")
        inbox.until(default_routes, "a route that the next advertisement brings", 20)
        sink.settle()
        sink.want(OWNER, [])
        sink.flush()
        inbox.until(lambda: conf("uplink", "forwarding").read_text().strip() == "0" and sink.idle, "given back")
        assert conf("uplink", "accept_ra").read_text().strip() == "1"
    finally:
        sink.stop()


def test_what_the_kernel_alone_would_do(hearing: None) -> None:
    """So the test above tests something."""
    conf("all", "forwarding").write_text("1")
    assert default_routes() == []


def test_a_link_that_accepts_no_advertisements_is_left_so(hearing: None, inbox: Any) -> None:
    sink = start(inbox)
    try:
        for link in ("uplink", "quiet"):
            path = ("net", "ipv6", "conf", link, "accept_ra")
            sink.want(Owner("gateway", "host", link), [Sysctl(path, "2", only_from="1")])
        sink.flush()
        inbox.until(lambda: conf("uplink", "accept_ra").read_text().strip() == "2" and sink.idle, "accept_ra")
        assert conf("quiet", "accept_ra").read_text().strip() == "0"
    finally:
        sink.stop()


def test_an_error_of_the_kernel_names_route_and_link(veth: None, inbox: Any) -> None:
    sh("ip", "link", "set", "va", "up")
    reports: list[str] = []
    sink = HostSink(inbox.post, lambda _owner, error: reports.append(str(error)))
    sink.start()
    try:
        inbox.until(lambda: sink.ready, "ready")
        far = Route(
            ip_network("2001:db8::/32"), "va", via=ip_address("2001:db8:9::1"), source=ip_address("fd00::9")
        )
        sink.want(OWNER, [far])
        sink.flush()
        inbox.until(lambda: reports, "report")
        name = "route 2001:db8::/32 via 2001:db8:9::1 dev va src fd00::9"
        assert reports in ([f"{name}: Invalid argument"], [f"{name}: No route to host"])
        assert sink.status()["last_error"] == reports[0]
    finally:
        sink.stop()
