"""The host sink against a real network namespace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.host import Link, LinkAddress, Neighbour, Route, Rule, Sysctl
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host.sink import HostSink

OWNER = Owner("test", "host", "")
MAC = "0a:58:0a:01:00:02"
ITEMS = (
    Route(ip_network("10.0.0.0/8"), "va", ip_address("10.1.0.1"), mtu=1300),
    Route(ip_network("fd00::/48"), "va", ip_address("fd00:1::1")),
    Route(ip_network("172.16.0.0/16"), "va", ip_address("10.1.0.1"), source=ip_address("10.1.0.2"), table=7),
    Rule(4, 30, 7, fwmark=0x1745EC),
    Rule(6, 30, 7, fwmark=0x1745EC),
    Neighbour("va", ip_address("10.1.0.1"), "0a:58:0a:01:00:01"),
    Neighbour("va", ip_address("fd00:1::1"), "0a:58:0a:01:00:01"),
    Sysctl(("net", "ipv4", "conf", "va", "rp_filter"), "2"),
    Sysctl(("net", "ipv6", "conf", "va", "forwarding"), "1"),
    LinkAddress("va", ip_interface("10.1.0.2/24")),
    LinkAddress("va", ip_interface("fd00:1::2/64")),
    Link("va", MAC, 1400),
)


def ip(*arguments: str) -> Any:
    found = subprocess.run(("ip", "-j", *arguments), check=True, capture_output=True, text=True).stdout
    return json.loads(found or "[]")


def addresses() -> set[str]:
    return {
        f"{item['local']}/{item['prefixlen']}"
        for link in ip("addr", "show", "dev", "va")
        for item in link["addr_info"]
        if item["scope"] == "global"
    }


def routes(*arguments: str) -> set[tuple[str, str]]:
    found = ip(*arguments, "route", "show", "table", "all", "proto", "79")
    return {(item["dst"], item.get("gateway", "")) for item in found}


@pytest.fixture
def sink(netns: None, inbox: Any) -> Iterator[HostSink]:
    made: list[HostSink] = []
    reports: list[tuple[Owner, Exception | None]] = []
    sink = start(inbox, reports)
    sink.reports = reports  # type: ignore[attr-defined]
    made.append(sink)
    yield sink
    for one in made:
        one.stop()


def start(inbox: Any, reports: list[Any] | None = None) -> HostSink:
    found = reports if reports is not None else []
    sink = HostSink(inbox.post, lambda owner, error: found.append((owner, error)))
    sink.start()
    inbox.until(lambda: sink.ready, "ready")
    return sink


def everything() -> bool:
    link = ip("link", "show", "dev", "va")[0]
    rules = [rule for family in ("-4", "-6") for rule in ip(family, "rule", "show") if rule["priority"] == 30]
    neighbours = [item for item in ip("neigh", "show", "dev", "va", "nud", "permanent") if "lladdr" in item]
    return (
        addresses() == {"10.1.0.2/24", "fd00:1::2/64"}
        and routes("-4") == {("10.0.0.0/8", "10.1.0.1"), ("172.16.0.0/16", "10.1.0.1")}
        and routes("-6") == {("fd00::/48", "fd00:1::1")}
        and (link["address"], link["mtu"]) == (MAC, 1400)
        and "UP" in link["flags"]
        and {rule["table"] for rule in rules} == {"7"}
        and len(rules) == 2
        and {item["dst"] for item in neighbours} == {"10.1.0.1", "fd00:1::1"}
        and Path("/proc/thread-self/net/dev").exists()
        and sysctl("net/ipv4/conf/va/rp_filter") == "2"
        and sysctl("net/ipv6/conf/va/forwarding") == "1"
    )


def sysctl(name: str) -> str:
    return Path("/proc/sys", name).read_text().strip()


def make_link() -> None:
    subprocess.run(["ip", "link", "add", "name", "va", "type", "veth", "peer", "name", "vb"], check=True)
    subprocess.run(["ip", "link", "set", "dev", "vb", "up"], check=True)


def test_everything_waits_for_its_link_and_then_is_there(sink: HostSink, inbox: Any) -> None:
    sink.want(OWNER, ITEMS)
    sink.flush()
    inbox.until(lambda: {w["wants"] for w in sink.status()["waits"]} == {"link va"}, "waiting for va")
    make_link()
    inbox.until(everything, "all items applied")


def test_a_change_from_outside_is_put_right(veth: None, sink: HostSink, inbox: Any) -> None:
    sink.want(OWNER, ITEMS)
    sink.settle()
    sink.flush()
    inbox.until(everything, "all items applied")
    for command in (
        "ip addr del 10.1.0.2/24 dev va",
        "ip -6 addr del fd00:1::2/64 dev va",
        "ip link set dev va down",
        "ip link set dev va mtu 1200",
        "ip route del 172.16.0.0/16 table 7",
        "ip route replace 10.0.0.0/8 via 10.1.0.9 dev va proto 79",
        "ip route replace 10.0.0.0/8 via 10.1.0.9 dev va",
        "ip -6 route replace fd00::/48 dev lo metric 1024",
        "ip rule del priority 30",
        "ip neigh replace 10.1.0.1 lladdr 0a:00:00:00:00:09 dev va nud permanent",
        "ip link del dev va",
    ):
        subprocess.run(command.split(), check=True)
        if command == "ip link del dev va":
            make_link()
        inbox.quiet(0.3)
        inbox.until(everything, f"healed after {command!r}")


def test_a_restart_changes_nothing_and_leftovers_go_at_settle(veth: None, sink: HostSink, inbox: Any) -> None:
    sink.want(OWNER, ITEMS)
    sink.flush()
    inbox.until(everything, "all items applied")
    sink.stop()
    subprocess.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "va"], check=True)
    subprocess.run(["ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.2"], check=True)
    with subprocess.Popen(["ip", "monitor", "all"], stdout=subprocess.PIPE, text=True) as watch:
        again = start(inbox)
        again.want(OWNER, ITEMS)
        again.flush()
        inbox.quiet(0.5)
        watch.terminate()
        told = watch.stdout.read() if watch.stdout else ""
    assert told == ""
    keep = tuple(item for item in ITEMS if not isinstance(item, Route | Rule))
    again.want(OWNER, keep[:-2])
    again.flush()
    inbox.quiet(0.2)
    assert "fd00:1::2/64" in addresses(), "nothing is removed before everything has been rendered"
    again.settle()
    again.flush()
    inbox.until(lambda: not routes("-4") and not routes("-6"), "leftover routes gone")
    inbox.until(lambda: addresses() == {"10.1.0.2/24", "192.0.2.1/24"}, "only foreign and wanted addresses left")
    assert [rule for rule in ip("rule", "show") if rule["priority"] == 30] == []
    again.want(OWNER, ())
    again.flush()
    inbox.until(lambda: addresses() == {"192.0.2.1/24"}, "ours gone")
    assert sysctl("net/ipv4/conf/va/rp_filter") == "2", "the second run found it so, and leaves it"
    assert [item["dst"] for item in ip("route", "show")] == ["192.0.2.0/24", "203.0.113.0/24"]
    again.stop()


def test_a_sysctl_gets_its_old_value_back(veth: None, sink: HostSink, inbox: Any) -> None:
    item = Sysctl(("net", "ipv4", "conf", "va", "rp_filter"), "2")
    before = sysctl("net/ipv4/conf/va/rp_filter")
    assert before != "2"
    sink.want(OWNER, (item,))
    sink.settle()
    sink.flush()
    inbox.until(lambda: sysctl("net/ipv4/conf/va/rp_filter") == "2", "written")
    sink.want(OWNER, ())
    sink.flush()
    inbox.until(lambda: sysctl("net/ipv4/conf/va/rp_filter") == before, "restored")


def test_a_bad_item_is_reported_and_stops_nobody(veth: None, sink: HostSink, inbox: Any) -> None:
    bad = Route(ip_network("10.9.0.0/16"), "va", ip_address("198.51.100.1"))
    escape = Sysctl(("net", "..", "..", "kernel", "hostname"), "x")
    sink.want(Owner("test", "bad", "n"), (bad, escape))
    sink.want(OWNER, ITEMS)
    sink.flush()
    inbox.until(everything, "the others applied")
    inbox.until(lambda: len(sink.reports) >= 2, "both reported")  # type: ignore[attr-defined]
    assert {str(owner) for owner, _ in sink.reports} == {"test/bad/n"}  # type: ignore[attr-defined]
    assert any("unreachable" in text for text in sink.status()["failed"].values())
    subprocess.run(["ip", "addr", "add", "198.51.100.2/24", "dev", "va"], check=True)
    inbox.until(lambda: ("10.9.0.0/16", "198.51.100.1") in routes("-4"), "applied by the retry")
