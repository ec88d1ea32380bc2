"""Endpoint selection against an oracle written from the Kubernetes documentation, on random services."""

from __future__ import annotations

import ipaddress
from typing import Any

import orjson
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.models import NODES
from ovnkit.api.renderers import Role
from ovnkit.network.gateway import L3_GATEWAY, L3Gateway
from ovnkit.network.node import CHASSIS_ID, HOST_CIDRS, NODE_SUBNETS
from ovnkit.network.services import ENDPOINT_SLICES, SERVICES, Endpoint, EndpointPort, ServicePort
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import endpoint_slice, node, service
from ovnkit_services.plugin import ServicesPlugin

NODES_HERE = ("n1", "n2", "")
PORTS = (("web", "TCP", 80), ("dns", "UDP", 53))
CLUSTER = [ipaddress.ip_network("10.128.0.0/14"), ipaddress.ip_network("fd01::/48")]
VIPS = {4: "172.16.1.10", 6: "fd02::10"}
EXTERNAL = {4: "198.51.100.1", 6: "2001:db8:1::1"}
GATEWAY = {4: "192.0.2.1", 6: "2001:db8::1"}
MASQUERADE = {4: "169.254.169.2", 6: "fd69::2"}
POOL = {
    4: ("10.128.2.5", "10.128.2.6", "10.128.4.7", "192.0.2.1", "192.0.2.2", "bogus", "127.0.0.1"),
    6: ("fd01::5", "fd01::6", "fd01:0:0:4::7", "2001:db8::1", "2001:db8::2", "bogus", "10.128.2.5"),
}


@frozen
class Slice:
    family: int
    ports: tuple[EndpointPort, ...]
    endpoints: tuple[Endpoint, ...]


GOING = ((False, True, True), (False, True, False), (False, False, True))
"""Conditions ready, serving, terminating of endpoints that aren't ready."""


@st.composite
def slices(draw: st.DrawFn) -> Slice:
    # Without a share of slices that have no ready endpoint at all, the second choice would hardly ever be made.
    states = draw(st.sampled_from((GOING, ((True, True, False), *GOING))))
    family = draw(st.sampled_from((4, 6)))
    endpoints = st.builds(
        lambda address, node, state: Endpoint((address,), node, *state),
        st.sampled_from(POOL[family]),
        st.sampled_from(NODES_HERE),
        st.sampled_from(states),
    )
    ports = st.builds(
        lambda port, target: EndpointPort(port[0], port[1], target),
        st.sampled_from((*PORTS, *PORTS, ("other", "TCP", 1))),
        st.sampled_from((8080, 9090)),
    )
    return Slice(
        family,
        tuple(draw(st.lists(ports, min_size=1, max_size=3, unique_by=lambda port: (port.name, port.protocol)))),
        tuple(draw(st.lists(endpoints, min_size=1, max_size=5))),
    )


class Oracle:
    """What should be reached, from the documentation alone. Slow and plain."""

    def __init__(self, pieces: list[Slice], everyone: bool) -> None:
        self.pieces = pieces
        self.everyone = everyone

    def usable(self, port: tuple[str, str, int], family: int, on: str | None) -> set[tuple[str, int]]:
        ready, draining = set(), set()
        for piece in self.pieces:
            for target in piece.ports:
                if piece.family != family or (target.name, target.protocol) != port[:2]:
                    continue
                for endpoint in piece.endpoints:
                    try:
                        address = ipaddress.ip_address(endpoint.addresses[0])
                    except ValueError:
                        continue
                    if address.version != family or address.is_loopback:
                        continue
                    where = self.home(str(address), target, port, family)
                    if on is not None and where != on:
                        continue
                    if endpoint.ready or self.everyone:
                        ready.add((str(address), target.port))
                    elif endpoint.serving and endpoint.terminating:
                        draining.add((str(address), target.port))
        return ready or draining

    def home(self, address: str, target: EndpointPort, port: tuple[str, str, int], family: int) -> str:
        """The node of an endpoint that is listed more than once: that of the best listing, the first of those."""
        best: tuple[int, str] | None = None
        for piece in self.pieces:
            if piece.family != family:
                continue
            for other in piece.ports:
                if (other.name, other.protocol, other.port) != (*port[:2], target.port):
                    continue
                for endpoint in piece.endpoints:
                    if endpoint.addresses[0] != address:
                        continue
                    usable = endpoint.ready or self.everyone
                    if not usable and not (endpoint.serving and endpoint.terminating):
                        continue
                    rank = 0 if usable else 1
                    if best is None or rank < best[0]:
                        best = (rank, endpoint.node)
        return best[1] if best else ""

    def hosted(self, port: tuple[str, str, int]) -> bool:
        return any(
            not any(ipaddress.ip_address(address) in network for network in CLUSTER)
            for family in (4, 6)
            for address, _ in self.usable(port, family, None)
        )


def bench() -> Bench:
    subnets = tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48")))
    found = Bench(
        ServicesPlugin(),
        scope=scope(Role.ZONE, zone="n1"),
        config=Config(default=DefaultOptions(cluster_subnets=subnets)),
    )
    interfaces = tuple(ipaddress.ip_interface(f"{GATEWAY[family]}/{8 * family}") for family in (4, 6))
    annotations = {
        NODE_SUBNETS: orjson.dumps({"default": ["10.128.2.0/23", "fd01::/64"]}).decode(),
        CHASSIS_ID: "chassis-1",
        HOST_CIDRS: orjson.dumps([str(interface) for interface in interfaces]).decode(),
        L3_GATEWAY: L3Gateway("shared", "br-ex", "br-ex_n1", "02:00:00:00:00:01", interfaces, (), True).encode(),
    }
    found.put(NODES, node("n1", annotations))
    return found


def reached(found: Bench, where: str) -> dict[tuple[str, str], set[tuple[str, int]]]:
    """What a switch or router of the node maps: targets by protocol and address:port."""
    scopes = {"switch": ("_node_switch_", "+switch_"), "router": ("_node_router_", "_local_router_", "router+")}
    result: dict[tuple[str, str], set[tuple[str, int]]] = {}
    for name, columns in found.rows("Load_Balancer").items():
        if not name.endswith("_cluster") and not any(part in name for part in scopes[where]):
            continue
        for vip, targets in columns["vips"].items():
            assert (columns["protocol"], vip) not in result, "two load balancers for one address and port"
            result[columns["protocol"], vip] = {split(text) for text in targets.split(",") if text}
    return result


def split(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(slices(), min_size=1, max_size=4),
    everyone=st.booleans(),
    internal=st.booleans(),
    external=st.booleans(),
    first=st.sampled_from((4, 6)),
)
def test_every_address_reaches_what_the_documentation_says(
    pieces: list[Slice], everyone: bool, internal: bool, external: bool, first: int
) -> None:
    families = (first, 10 - first)
    found = bench()
    for number, piece in enumerate(pieces):
        key = f"default/web-{number}"
        view = endpoint_slice(key, *piece.endpoints, service="default/web", ports=piece.ports, family=piece.family)
        found.put(ENDPOINT_SLICES, view)
    more: dict[str, Any] = {"publish_not_ready": everyone, "internal_local": internal, "external_local": external}
    ports = [ServicePort(name, protocol, port, 30000 + port) for name, protocol, port in PORTS]
    cluster_ips = tuple(VIPS[family] for family in families)
    external_ips = tuple(EXTERNAL[family] for family in families)
    found.put(
        SERVICES,
        service(
            "default/web", *ports, cluster_ips=cluster_ips, type="NodePort", external_ips=external_ips, **more
        ),
    )
    assert found.failures == {}
    oracle = Oracle(pieces, everyone)
    switch, router = reached(found, "switch"), reached(found, "router")
    for port in PORTS:
        hosted = oracle.hosted(port)
        for family in (4, 6):
            everywhere = oracle.usable(port, family, None)
            here = oracle.usable(port, family, "n1")

            def masked(targets: set[tuple[str, int]], family: int = family) -> set[tuple[str, int]]:
                return {(MASQUERADE[family] if a == GATEWAY[family] else a, p) for a, p in targets}

            def at(address: str, number: int, port: tuple[str, str, int] = port) -> tuple[str, str]:
                text = f"[{address}]" if ":" in address else address
                return port[1].lower(), f"{text}:{number}"

            cluster_ip = at(VIPS[family], port[2])
            assert switch[cluster_ip] == (here if internal else everywhere)
            assert router[cluster_ip] == (masked(everywhere) if internal or hosted else everywhere)
            for address, number in ((EXTERNAL[family], port[2]), (GATEWAY[family], 30000 + port[2])):
                assert switch[at(address, number)] == everywhere
                expected = here if external else everywhere
                assert router[at(address, number)] == masked(expected)
