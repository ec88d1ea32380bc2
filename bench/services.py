"""What services cost: rows written per change of endpoints, and how load balancers grow with nodes and services.

    python -m bench.services [--services 1000] [--nodes 2,10,50]

The reconciler and the services plugin are real; with ovsdb-server the transactions are counted at the database.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import structlog

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.items import Member, Row
from ovnkit.api.models import NODES, Node
from ovnkit.api.renderers import Role
from ovnkit.network.gateway import L3_GATEWAY
from ovnkit.network.node import CHASSIS_ID, HOST_CIDRS, NODE_SUBNETS
from ovnkit.network.services import ENDPOINT_SLICES, SERVICES, Endpoint, EndpointSlice, Service, ServicePort
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.harness import make_server
from ovnkit.testing.objects import endpoint_slice, node, service
from ovnkit_services.plugin import ServicesPlugin
from ovnkit_topology.plugin import TopologyPlugin

CONFIG = Config(default=DefaultOptions(cluster_subnets=(ClusterSubnet.parse("10.128.0.0/14/23"),)))
CHANGES = 50
"""Single changes of which the mean counts."""


def _node(number: int) -> Node:
    address = f"192.0.{2 + number // 200}.{1 + number % 200}/16"
    gateway = {
        "mode": "shared", "bridge-id": "br-ex", "interface-id": f"br-ex_n{number}",
        "mac-address": "02:00:00:00:00:01", "ip-addresses": [address], "node-port-enable": "true",
    }  # fmt: skip
    annotations = {
        NODE_SUBNETS: json.dumps({"default": [f"10.{128 + number // 128}.{2 * (number % 128)}.0/23"]}),
        CHASSIS_ID: f"chassis-{number}",
        HOST_CIDRS: json.dumps([address]),
        L3_GATEWAY: json.dumps({"default": gateway}),
        "k8s.ovn.org/node-id": str(number + 2),
    }
    return node(f"n{number}", annotations)


def _service(number: int, kind: str) -> Service:
    port = ServicePort("", "TCP", 80, 30000 + number if kind != "ClusterIP" else 0)
    address = f"172.16.{number // 250}.{1 + number % 250}"
    local = kind == "Local"
    return service(
        f"load/s{number}", port, cluster_ips=(address,), type="NodePort" if port.node_port else kind,
        external_local=local,
    )  # fmt: skip


def _slice(number: int, *last: int) -> EndpointSlice:
    endpoints = [Endpoint((f"10.128.{number // 250}.{item}",), "n0") for item in last]
    return endpoint_slice(f"load/s{number}-1", *endpoints, service=f"load/s{number}")


def per_change(services: int) -> tuple[float, float, float]:
    """Transactions, rows and seconds per change of one service's endpoints."""
    with tempfile.TemporaryDirectory(prefix="ovnkit-bench-") as folder:
        server = make_server(Path(folder))
        bench = Bench(
            TopologyPlugin(), ServicesPlugin(), scope=scope(Role.ZONE, zone="n0"), config=CONFIG,
            connect={"nb": server.endpoint},
        )  # fmt: skip
        try:
            bench.put(NODES, _node(0))
            bench.put(SERVICES, *(_service(number, "ClusterIP") for number in range(services)))
            bench.put(ENDPOINT_SLICES, *(_slice(number, 1, 2) for number in range(services)))
            sink = bench.sinks["nb"]
            transactions, rows = sink.transactions, sink.rows_written
            began = time.perf_counter()
            for number in range(CHANGES):
                bench.put(ENDPOINT_SLICES, _slice(number % services, 1, 2, 3))
            seconds = time.perf_counter() - began
            return (
                (sink.transactions - transactions) / CHANGES,
                (sink.rows_written - rows) / CHANGES,
                seconds / CHANGES,
            )
        finally:
            bench.stop()
            server.stop()


def growth(nodes: int, services: int, kind: str) -> tuple[int, int]:
    """Load balancers, and references to them, in one northbound of all nodes."""
    bench = Bench(ServicesPlugin(), scope=scope(Role.ZONE, zone="global", per_node_zones=False), config=CONFIG)
    bench.put(NODES, *(_node(number) for number in range(nodes)))
    bench.put(SERVICES, *(_service(number, kind) for number in range(services)))
    bench.put(ENDPOINT_SLICES, *(_slice(number, 1, 2) for number in range(services)))
    items = bench.databases["nb"].items
    balancers = sum(isinstance(item, Row) and item.table == "Load_Balancer" for item in items)
    references = sum(isinstance(item, Member) and item.slot.column == "load_balancer" for item in items)
    return balancers, references


def lines(services: int, nodes: list[int]) -> Iterator[str]:
    """The report."""
    for count in (services // 10, services):
        transactions, rows, seconds = per_change(count)
        yield (
            f"{count} services: a change of endpoints is {transactions:.2f} transactions, "
            f"{rows:.2f} rows, {seconds * 1e3:.2f} ms with the reply"
        )
    yield "one northbound of all nodes: load balancers / references to them"
    for kind in ("ClusterIP", "NodePort", "Local"):
        for count in nodes:
            balancers, references = growth(count, 100, kind)
            yield f"  100 services {kind}, {count} nodes: {balancers} / {references}"


@click.command()
@click.option("--services", default=1000, show_default=True, help="Services in the database.")
@click.option("--nodes", default="2,10,50", show_default=True, help="Cluster sizes.")
def main(services: int, nodes: str) -> None:
    """Measure what services cost."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for line in lines(services, [int(text) for text in nodes.split(",")]):
        click.echo(line)


if __name__ == "__main__":
    main()
