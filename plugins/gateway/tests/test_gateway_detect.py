"""The search for the gateway interface, in the words operators know, on routes as values and on real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from ovnkit.api.errors import HostError
from ovnkit.api.host import Hop, RouteView
from ovnkit_gateway.detect import Outside, found_routes, outside

OVNKIT = Path(sys.executable).parent / "ovnkit"


def route(link: str, via: str | None, metric: int = 0, table: int = 254) -> RouteView:
    hop = ip_address(via) if via else None
    family = hop.version if hop is not None else 4
    everywhere = ip_network("0.0.0.0/0" if family == 4 else "::/0")
    return RouteView(everywhere, (Hop(link, hop),), table=table, metric=metric)


V4, V6 = route("br-ex", "192.168.127.1"), route("br-ex", "fd00::1")


def test_one_interface_for_both_families() -> None:
    found = outside([V4, V6], (4, 6))
    assert found == Outside("br-ex", (ip_address("192.168.127.1"), ip_address("fd00::1")))
    assert [str(item) for item in found_routes([V4, V6], (4, 6))] == [
        "Found default gateway interface br-ex 192.168.127.1",
        "Found default gateway interface br-ex fd00::1",
    ]


def test_different_interfaces_are_refused() -> None:
    with pytest.raises(HostError) as error:
        outside([V4, route("ens4", "fd00::1")], (4, 6))
    assert str(error.value) == "multiple gateway interfaces detected: br-ex ens4"
    assert "\n" not in error.value.advice


@pytest.mark.parametrize(("routes", "families"), [([V4], (4, 6)), ([V6], (4, 6)), ([], (4,)), ([V4], (6,))])
def test_a_family_without_default_route_is_refused(routes: list[RouteView], families: tuple[int, ...]) -> None:
    with pytest.raises(HostError) as error:
        outside(routes, families)
    assert str(error.value) == "failed to get default gateway interface"


def test_a_configured_interface_overrides_the_search() -> None:
    found = outside([V4, route("ens4", "fd00::1")], (4, 6), interface="ens4")
    assert found == Outside("ens4", (ip_address("fd00::1"),))
    hops = (ip_address("192.0.2.254"),)
    assert outside([V4], (4,), interface="ens4", next_hops=hops) == Outside("ens4", hops)


def test_the_other_family_is_not_looked_at_in_a_single_family_cluster() -> None:
    assert outside([V4, route("ens4", "fd00::1")], (4,)).link == "br-ex"


def test_the_lowest_metric_with_a_next_hop_wins() -> None:
    routes = [route("slow", "192.0.2.1", 200), route("tun", None, 10), route("fast", "192.0.2.2", 100)]
    assert outside(routes, (4,)) == Outside("fast", (ip_address("192.0.2.2"),))
    assert outside([*routes, route("other", "192.0.2.9", 1, table=7)], (4,)).link == "fast"


# -- a real host ----------------------------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """A network namespace with two interfaces, br-ex and ens4; the function runs `ip` there."""
    name = f"ovnkit-gw-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", name, *command], capture_output=True, text=True, timeout=60, check=False
        )

    try:
        for link, number in (("br-ex", 1), ("ens4", 2)):
            assert run("ip", "link", "add", link, "type", "veth", "peer", "name", f"peer{number}").returncode == 0
            run("ip", "link", "set", link, "up")
            run("ip", "link", "set", f"peer{number}", "up")
            run("ip", "address", "add", f"192.168.{126 + number}.10/24", "dev", link)
            run("ip", "address", "add", f"fd00:{number}::10/64", "dev", link, "nodad")
        yield run
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def start(run: Callable[..., subprocess.CompletedProcess[str]], *more: str) -> subprocess.CompletedProcess[str]:
    """`ovnkit run --role node` in the namespace; one that is not refused at once is stopped after 3 s."""
    settings = [
        "default.cluster-subnets=10.128.0.0/14/23,fd01::/48/64",
        "kubernetes.service-cidrs=172.30.0.0/16,fd02::/112",
        "kubernetes.apiserver=http://127.0.0.1:1",
        "gateway.mode=shared",
        f"ovspaths.ovn-run-dir=/tmp/ovnkit-gw-{os.getpid()}",
        *more,
    ]
    flags = [word for setting in settings for word in ("--set", setting)]
    return run(
        "timeout", "--preserve-status", "3", str(OVNKIT), "run", "--role", "node", "--node-name", "n1", *flags
    )


def test_a_node_with_two_ways_out_does_not_start(host: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    host("ip", "route", "add", "default", "via", "192.168.127.1", "dev", "br-ex")
    host("ip", "-6", "route", "add", "default", "via", "fd00:2::1", "dev", "ens4")
    done = start(host)
    assert done.returncode == 1
    assert "Found default gateway interface br-ex 192.168.127.1" in done.stdout + done.stderr
    assert "Found default gateway interface ens4 fd00:2::1" in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    at = lines.index("ovnkit: multiple gateway interfaces detected: br-ex ens4")
    assert lines[at + 1].startswith("ovnkit: give both IP families a default route through one interface")

    assert "multiple gateway" not in start(host, "gateway.interface=br-ex").stderr, "configuration overrides"
    host("ip", "-6", "route", "del", "default")
    host("ip", "-6", "route", "add", "default", "via", "fd00:1::1", "dev", "br-ex")
    assert start(host).returncode == 0, "after correcting the host the next start succeeds"


def test_a_node_without_a_way_out_does_not_start(host: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    host("ip", "route", "add", "default", "via", "192.168.127.1", "dev", "br-ex")
    done = start(host)
    assert done.returncode == 1
    assert "ovnkit: failed to get default gateway interface" in done.stderr.splitlines()
    host("ip", "-6", "route", "add", "default", "via", "fd00:1::1", "dev", "br-ex")
    assert start(host).returncode == 0
