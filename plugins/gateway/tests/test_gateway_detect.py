"""The search for the gateway interface, in the words operators know, on routes as values and on real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.errors import HostError
from ovnkit.api.host import Hop, RouteView
from ovnkit.testing.harness import make_server
from ovnkit.testing.ovsdb import OvsdbServer
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
    """`ovnkit run --role node` in the namespace; one that is not refused is killed as it starts: code 0."""
    settings = [
        "default.cluster-subnets=10.128.0.0/14/23,fd01::/48/64",
        "kubernetes.service-cidrs=172.30.0.0/16,fd02::/112",
        "kubernetes.apiserver=http://127.0.0.1:1",
        "gateway.mode=shared",
        f"ovspaths.ovn-run-dir=/tmp/ovnkit-gw-{os.getpid()}",
        *more,
    ]
    flags = [word for setting in settings for word in ("--set", setting)]
    return run(sys.executable, "-c", STARTER, str(OVNKIT), "run", "--role", "node", "--node-name", "n1", *flags)


STARTER = """
import subprocess, sys
process = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True)
for line in process.stderr:
    print(line, end="", file=sys.stderr, flush=True)
    if '"event": "starting"' in line:
        process.kill()
        process.wait()
        sys.exit(0)
sys.exit(process.wait())
"""


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


@pytest.fixture
def ovs(tmp_path: Path) -> Iterator[tuple[OvsdbServer, str]]:
    """The database of an Open vSwitch, and the setting by which ovnkit finds it."""
    server = make_server(tmp_path)
    yield server, f"ovspaths.ovs-run-dir={tmp_path}"
    server.stop()


def add_bridge(server: OvsdbServer, name: str, *ports: str, made_for: str = "") -> None:
    """A bridge with ports, as rows: no ovs-vswitchd is there to act on them."""
    operations: list[dict[str, Any]] = []
    for port in (name, *ports):
        interface = {
            "op": "insert",
            "table": "Interface",
            "row": {"name": port},
            "uuid-name": f"i{len(operations)}",
        }
        row = {"name": port, "interfaces": ["named-uuid", interface["uuid-name"]]}
        operations += [
            interface,
            {"op": "insert", "table": "Port", "row": row, "uuid-name": f"p{len(operations)}"},
        ]
    refs = ["set", [["named-uuid", item["uuid-name"]] for item in operations if item["table"] == "Port"]]
    ids = ["map", [["ovnkit.io/uplink", made_for]] if made_for else []]
    bridge = {"name": name, "ports": refs, "external_ids": ids}
    operations.append({"op": "insert", "table": "Bridge", "row": bridge, "uuid-name": "bridge"})
    mutation = ["bridges", "insert", ["named-uuid", "bridge"]]
    operations.append({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [mutation]})
    server.transact("Open_vSwitch", operations)


ROUTES = (("", "192.168.127.1", "br-ex"), ("-6", "fd00:1::1", "br-ex"))
Host = Callable[..., subprocess.CompletedProcess[str]]


def routed(host: Host, *routes: tuple[str, str, str]) -> None:
    for family, via, link in routes:
        done = host("ip", *filter(None, [family]), "route", "add", "default", "via", via, "dev", link)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["gateway.interface=ens9"], "there is no gateway interface ens9"),
        (["gateway.interface=slave"], "gateway interface slave belongs to br0, it can't be a port of a bridge"),
        (["gateway.interface=inner"], "gateway interface inner is a port of bridge br-int"),
        (
            ["gateway.interface=ens4", "gateway.bridge=br-ex"],
            "gateway interface ens4 is a port of bridge br-other, not br-ex",
        ),
        (["gateway.interface=a23456789012345"], "bra23456789012345 is too long for the name of a bridge"),
    ],
)
def test_an_interface_that_cannot_be_the_gateways_is_told_and_ends_it(
    host: Host, ovs: tuple[OvsdbServer, str], settings: list[str], line: str
) -> None:
    server, setting = ovs
    for command in (
        "link add slave type veth peer name s2",
        "link add br0 type bridge",
        "link set slave master br0",
        "link add inner type veth peer name i2",
        "link add a23456789012345 type veth peer name a2",
    ):
        assert host("ip", *command.split()).returncode == 0
    add_bridge(server, "br-int", "inner")
    add_bridge(server, "br-other", "ens4")
    done = start(host, setting, *settings)
    assert done.returncode == 1
    lines = [text for text in done.stderr.splitlines() if text.startswith("ovnkit: ")]
    assert lines[0] == f"ovnkit: {line}"
    assert len(lines) == 2, "and one on how to mend it"


def test_a_start_that_was_cut_short_while_routes_moved_goes_on(host: Host, ovs: tuple[OvsdbServer, str]) -> None:
    """IPv4 is on the bridge already, IPv6 on the interface still: that is one gateway interface."""
    server, setting = ovs
    routed(host, ROUTES[0], ("-6", "fd00:2::1", "ens4"))
    assert "multiple gateway interfaces" in start(host, setting).stderr
    add_bridge(server, "br-ex", "ens4", made_for="ens4")
    assert start(host, setting).returncode == 0


def test_a_bridge_of_ours_that_lost_its_addresses_is_no_reason_to_stop(
    host: Host, ovs: tuple[OvsdbServer, str]
) -> None:
    server, setting = ovs
    host("ip", "address", "flush", "dev", "br-ex")
    assert "failed to get default gateway interface" in start(host, setting).stderr
    add_bridge(server, "br-ex", "ens4", made_for="ens4")
    assert start(host, setting).returncode == 0


def test_a_node_without_a_way_out_does_not_start(host: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    host("ip", "route", "add", "default", "via", "192.168.127.1", "dev", "br-ex")
    done = start(host)
    assert done.returncode == 1
    assert "ovnkit: failed to get default gateway interface" in done.stderr.splitlines()
    host("ip", "-6", "route", "add", "default", "via", "fd00:1::1", "dev", "br-ex")
    assert start(host).returncode == 0
