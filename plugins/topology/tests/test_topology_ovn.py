"""The topology on real databases, with northd to judge it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.models import NODES, Node
from ovnkit.api.renderers import Role
from ovnkit.network.northd import NORTHD, Northd
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node
from ovnkit.testing.zone import RELEASES, Zone, zone_of
from ovnkit_topology.plugin import TopologyPlugin

pytestmark = pytest.mark.ovn

DUAL = Config(
    default=DefaultOptions(cluster_subnets=tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48"))))
)


@pytest.fixture(params=RELEASES)
def zone(request: pytest.FixtureRequest) -> Iterator[Zone]:
    with zone_of(request.param, Zone) as made:
        yield made


def annotated(name: str, number: int) -> Node:
    return node(
        name,
        {
            "k8s.ovn.org/node-subnets": json.dumps(
                {"default": [f"10.128.{2 * number}.0/23", f"fd01:0:0:{number}::/64"]}
            ),
            "k8s.ovn.org/node-id": str(number),
            "k8s.ovn.org/node-chassis-id": f"chassis-{name}",
            "k8s.ovn.org/node-encap-ips": json.dumps([f"192.0.2.{number}"]),
            "k8s.ovn.org/node-transit-switch-port-ifaddr": json.dumps(
                {"ipv4": f"100.88.0.{number}/16", "ipv6": f"fd97::{number}/64"}
            ),
        },
    )


@pytest.fixture
def connect(zone: Zone) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def start(name: str = "a", *, per_node_zones: bool = True) -> Bench:
        place = scope(Role.ZONE, zone=name, per_node_zones=per_node_zones)
        bench = Bench(TopologyPlugin(), scope=place, config=DUAL, connect=zone.endpoints)
        made.append(bench)
        return bench

    yield start
    for bench in made:
        bench.stop()


def written(zone: Zone, bench: Bench) -> None:
    """Return when northd has made the port bindings, and what goes into them has been written."""
    zone.sync()
    done = bench.inbox.run_until(
        lambda: bench.reconciler.synced and not any(sink.status()["waiting"] for sink in bench.sinks.values()), 20
    )
    assert done, [sink.status() for sink in bench.sinks.values()]


def test_northd_takes_the_topology_and_packets_go_to_the_other_zone(
    zone: Zone, connect: Callable[..., Bench]
) -> None:
    bench = connect()
    bench.put(NODES, annotated("a", 2), annotated("b", 3))
    assert bench.failures == {}
    zone.nb(
        "lsp-add", "a", "probe", "--", "lsp-set-addresses", "probe", "0a:58:0a:80:04:09 10.128.4.9 fd01:0:0:2::9"
    )
    zone.sync()
    assert zone.nb("get", "NB_Global", ".", "name").strip() in ("a", '"a"')
    assert "ovn_cluster_router" in zone.nb("lr-list")
    switches = {line.split("(")[1].rstrip(")") for line in zone.nb("ls-list").splitlines()}
    assert switches == {"a", "join", "transit_switch"}
    binding = zone.sb(
        "--bare", "--columns=type,tunnel_key", "find", "Port_Binding", "logical_port=tstor-b"
    ).split()
    assert binding == ["remote", "3"]
    chassis = zone.sb("--bare", "--columns=name,hostname,other_config", "list", "Chassis").split()
    assert chassis == ["chassis-b", "b", "is-remote=true"]
    assert zone.sb("--bare", "--columns=ip,type", "list", "Encap").split() == ["192.0.2.3", "geneve"]

    traced = zone.trace(
        "a",
        'inport=="probe" && eth.src==0a:58:0a:80:04:09 && eth.dst==0a:58:0a:80:04:01 && ip.ttl==64 && '
        "ip4.src==10.128.4.9 && ip4.dst==10.128.6.9 && icmp4.type==8",
    )
    assert 'output to "tstor-b"' in traced
    traced = zone.trace(
        "a",
        'inport=="probe" && eth.src==0a:58:0a:80:04:09 && eth.dst==0a:58:0a:80:04:01 && ip.ttl==64 && '
        "ip6.src==fd01:0:0:2::9 && ip6.dst==fd01:0:0:3::9 && icmp6.type==128",
    )
    assert 'output to "tstor-b"' in traced


def test_a_restart_writes_nothing_and_a_removed_node_leaves_nothing(
    zone: Zone, connect: Callable[..., Bench]
) -> None:
    first = connect()
    first.settle()
    empty = counts(zone)
    assert empty["Logical_Switch"] == 2
    first.put(NODES, annotated("a", 2), annotated("b", 3))
    written(zone, first)
    first.stop()
    second = connect()
    second.put(NODES, annotated("a", 2), annotated("b", 3))
    assert {name: sink.transactions for name, sink in second.sinks.items()} == {"nb": 0, "sb": 0}
    second.drop(NODES, "a", "b")
    assert counts(zone) == empty
    assert zone.sb("--bare", "--columns=name", "list", "Chassis").split() == []


def test_whatever_is_broken_in_the_database_is_mended(zone: Zone, connect: Callable[..., Bench]) -> None:
    bench = connect()
    bench.put(NODES, annotated("a", 2), annotated("b", 3))
    zone.sync()
    before = dump(zone)
    bench.stop()
    zone.nb("lr-route-del", "ovn_cluster_router", "--", "ls-del", "a", "--", "lrp-del", "rtots-a")
    zone.nb("set", "Logical_Switch_Port", "tstor-b", "options:requested-tnl-key=77", "addresses=unknown")
    zone.nb("ls-add", "theirs")
    assert dump(zone) != before
    again = connect()
    again.put(NODES, annotated("a", 2), annotated("b", 3))
    assert "theirs" in zone.nb("ls-list")
    zone.nb("ls-del", "theirs")
    assert dump(zone) == before


def test_the_acl_is_in_the_policies_tier_where_there_are_tiers(zone: Zone, connect: Callable[..., Bench]) -> None:
    bench = connect()
    bench.put(NODES, annotated("a", 2))
    assert bench.failures == {}
    schema = json.loads(zone.install.schema("nb").read_text())
    columns = zone.nb("--bare", "--columns=match", "list", "ACL").split()
    assert len(columns) == 2
    if "tier" in schema["tables"]["ACL"]["columns"]:
        assert zone.nb("--bare", "--columns=tier", "list", "ACL").split() == ["2", "2"]


def test_what_northd_copies_into_the_southbound_stays(zone: Zone, connect: Callable[..., Bench]) -> None:
    bench = connect()
    bench.put(NODES, annotated("a", 2), annotated("b", 3))
    written(zone, bench)
    bindings = set(zone.sb("--bare", "--columns=_uuid", "list", "Port_Binding").split())
    assert bindings
    bench.stop()
    again = connect()
    again.put(NODES, annotated("a", 2), annotated("b", 3))
    zone.sync()
    assert set(zone.sb("--bare", "--columns=_uuid", "list", "Port_Binding").split()) == bindings
    assert again.sinks["sb"].transactions == 0


def test_one_central_zone_has_all_nodes(zone: Zone, connect: Callable[..., Bench]) -> None:
    bench = connect("global", per_node_zones=False)
    bench.put(NODES, annotated("a", 2), annotated("b", 3))
    for name, address in (("a", "10.128.4.9"), ("b", "10.128.6.9")):
        mac = "0a:58:" + ":".join(f"{int(part):02x}" for part in address.split("."))
        zone.nb("lsp-add", name, f"probe-{name}", "--", "lsp-set-addresses", f"probe-{name}", f"{mac} {address}")
    zone.sync()
    traced = zone.trace(
        "a",
        'inport=="probe-a" && eth.src==0a:58:0a:80:04:09 && eth.dst==0a:58:0a:80:04:01 && ip.ttl==64 && '
        "ip4.src==10.128.4.9 && ip4.dst==10.128.6.9 && icmp4.type==8",
    )
    assert 'output to "probe-b"' in traced


TABLES = (
    "Logical_Switch",
    "Logical_Switch_Port",
    "Logical_Router",
    "Logical_Router_Port",
    "Logical_Router_Static_Route",
    "Gateway_Chassis",
    "ACL",
    "Copp",
    "Meter",
    "Meter_Band",
    "Load_Balancer_Group",
    "Port_Group",
)


def counts(zone: Zone) -> dict[str, int]:
    return {table: len(zone.nb("--bare", "--columns=_uuid", "list", table).split()) for table in TABLES}


def dump(zone: Zone) -> str:
    """The content of the northbound, without what northd writes."""
    lines: list[str] = []
    for table in TABLES:
        text = zone.nb("--format=json", "list", table)
        headings, rows = json.loads(text)["headings"], json.loads(text)["data"]
        skip = {"up", "dynamic_addresses"}
        for row in rows:
            pairs = [
                f"{name}={json.dumps(_sorted(value))}"
                for name, value in zip(headings, row, strict=True)
                if name not in skip
            ]
            lines.append(f"{table} {' '.join(pairs)}")
    return "\n".join(sorted(lines))


def _sorted(value: object) -> object:
    if isinstance(value, list) and len(value) == 2 and value[0] in ("set", "map"):
        return [value[0], sorted(value[1], key=json.dumps)]
    return value


def test_a_remote_port_is_bound_to_its_chassis_with_old_and_new_northd(
    zone: Zone, connect: Callable[..., Bench]
) -> None:
    bench = connect()
    bench.put(NORTHD, Northd("nb-global", zone.install.ovn_version[:2]))
    bench.put(NODES, annotated("a", 2), annotated("b", 3))
    chassis = zone.sb("--bare", "--columns=_uuid", "find", "Chassis", "name=chassis-b").strip()
    assert chassis

    def bound_to() -> str:
        zone.sync()
        return zone.sb("--bare", "--columns=chassis", "find", "Port_Binding", "logical_port=tstor-b").strip()

    assert bench.inbox.run_until(lambda: bound_to() == chassis, 20)


def test_a_transit_switch_of_others_gives_its_tunnel_key_to_ours(
    zone: Zone, connect: Callable[..., Bench]
) -> None:
    for switch in ("transit_switch", "transit_switch", "a", "theirs"):
        zone.nb("--add-duplicate", "ls-add", switch)
    for uuid in zone.nb("--bare", "--columns=_uuid", "find", "Logical_Switch", "name=transit_switch").split():
        zone.nb("set", "Logical_Switch", uuid, "other_config:requested-tnl-key=16711683")
    zone.nb("lr-add", "ovn_cluster_router")
    zone.sync()
    bench = connect()
    bench.put(NODES, annotated("a", 2), annotated("b", 3))
    assert bench.failures == {}
    names = sorted(line.split("(")[1].rstrip(")") for line in zone.nb("ls-list").splitlines())
    assert names == ["a", "join", "theirs", "transit_switch"]
    assert zone.nb("lr-list").count("ovn_cluster_router") == 1

    def key() -> str:
        name = "external_ids:name=transit_switch"
        return zone.sb("--bare", "--columns=tunnel_key", "find", "Datapath_Binding", name).strip()

    assert bench.inbox.run_until(lambda: key() == "16711683", 20)
