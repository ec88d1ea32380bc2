"""Invented clusters and policies, judged by an oracle and by ovn-trace on what northd makes of our rows.

Both must agree on each probe: source, destination, protocol and port. `OVNKIT_ORACLE_CLUSTERS` is the number of
clusters for each OVN and choice of IP families (80 to 170 probes each, by the families).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from attrs import define
from hypothesis import HealthCheck, Phase, given, settings
from policy_cases import Cluster, clusters, nodes
from policy_oracle import NETWORKS, SUBNETS, Probe, management_addresses, pod_addresses

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.models import NAMESPACES, NODES, PODS
from ovnkit.api.renderers import Role
from ovnkit.network.node import gateway_address, management_address, port_mac
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.daemons import Daemon, northd, ovsdb_server
from ovnkit.testing.installs import OvnInstall, locate
from ovnkit_network_policy.plugin import NetworkPolicyPlugin

SUBNETS_OF = {4: "10.128.0.0/14/23", 6: "fd01::/48"}
CLUSTERS = int(os.environ.get("OVNKIT_ORACLE_CLUSTERS", "25"))
CT_STEPS = 3000
"""Look-ups in the connection table that one ovn-trace answers with "new"; after that all would be established."""


class Zone:
    """A central zone: databases, northd, the rows of a bench, and ovn-trace on what they hold."""

    def __init__(self, install: OvnInstall, families: tuple[int, ...]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ovnkit-policy-"))
        self.install, self.families = install, families
        self.endpoints = {db: f"unix:{self.folder}/{db}.sock" for db in ("nb", "sb")}
        self.daemons: list[Daemon] = [
            ovsdb_server(
                install,
                self.folder,
                {db: self.folder / f"{db}.db"},
                name=f"ovsdb-{db}",
                remotes=[f"punix:{self.folder}/{db}.sock"],
                log_dir=self.folder,
            )
            for db in ("nb", "sb")
        ]
        nb, sb = self.endpoints["nb"], self.endpoints["sb"]
        self.daemons.append(northd(install, self.folder, nb=nb, sb=sb, log_dir=self.folder))
        for daemon in self.daemons:
            daemon.start()
        self.bench = _bench(families, self.endpoints)
        self.bench.put(NODES, *map(NODES.view, nodes(families)))
        self.judged: Counter[str] = Counter()

    def judge(self, cluster: Cluster) -> None:
        """Compare what the rows of a cluster do with what the oracle says."""
        kinds = ((NAMESPACES, cluster.namespaces), (PODS, cluster.pods), (NETWORK_POLICIES, cluster.policies))
        try:
            for kind, raws in kinds:
                self.bench.put(kind, *map(kind.view, raws))
            assert not self.bench.failures
            assert not self.bench.events
            oracle = cluster.oracle
            tracer = Tracer(self, cluster)
            try:
                for family in self.families:
                    for probe in cluster.probes(family):
                        expected = oracle.allows(probe)
                        assert tracer.allows(probe) == expected, (probe, cluster)
                        self.judged["allowed" if expected else "denied"] += 1
                        isolated = oracle.isolated(probe.source, "Egress") or oracle.isolated(
                            probe.target, "Ingress"
                        )
                        self.judged["allowed by a rule"] += expected and isolated
            finally:
                tracer.stop()
        finally:
            for kind, raws in reversed(kinds):
                self.bench.drop(kind, *(kind.view(raw).key for raw in raws))

    def stop(self) -> None:
        self.bench.stop()
        for daemon in reversed(self.daemons):
            daemon.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _bench(families: tuple[int, ...], endpoints: dict[str, str]) -> Bench:
    topology = pytest.importorskip("ovnkit_topology.plugin")
    pods = pytest.importorskip("ovnkit_pods.plugin")
    management = pytest.importorskip("ovnkit_management_port.plugin")
    subnets = tuple(ClusterSubnet.parse(SUBNETS_OF[family]) for family in families)
    return Bench(
        topology.TopologyPlugin(),
        pods.PodsPlugin(),
        management.ManagementPortPlugin(),
        NetworkPolicyPlugin(),
        scope=scope(Role.ZONE, zone="global", per_node_zones=False),
        config=Config(default=DefaultOptions(cluster_subnets=subnets)),
        connect=endpoints,
    )


@define
class Port:
    """Where a packet enters a switch, or leaves it."""

    switch: str
    name: str
    mac: str


class Tracer:
    """One snapshot of the southbound, asked over the daemon's control socket."""

    def __init__(self, zone: Zone, cluster: Cluster) -> None:
        zone.install.run("ovn-nbctl", f"--db={zone.endpoints['nb']}", "--wait=sb", "--timeout=60", "sync")
        self._socket = zone.folder / "trace.ctl"
        zone.install.run(
            "ovn-trace",
            f"--db={zone.endpoints['sb']}",
            f"--unixctl={self._socket}",
            f"--pidfile={zone.folder / 'trace.pid'}",
            "--detach",
            "--no-chdir",
            *["--ct=new"] * CT_STEPS,
        )
        self._ports = {
            address: Port(pod["spec"]["nodeName"], f"{pod['metadata']['namespace']}_{pod['metadata']['name']}",
                          json.loads(pod["metadata"]["annotations"][NETWORKS])["default"]["mac_address"])
            for pod in cluster.pods for address in pod_addresses(pod)
        }  # fmt: skip
        self._pods = set(self._ports)
        self._gateways: dict[str, Port] = {}
        for node in cluster.nodes:
            name = node["metadata"]["name"]
            networks = [
                ip_network(text) for text in json.loads(node["metadata"]["annotations"][SUBNETS])["default"]
            ]
            self._gateways[name] = Port(
                name, f"stor-{name}", port_mac([gateway_address(each) for each in networks])
            )
            mac = port_mac([management_address(each) for each in networks])
            for address in management_addresses(node):
                self._ports[address] = Port(name, f"k8s-{name}", mac)

    def allows(self, probe: Probe) -> bool:
        """Whether the packet gets where it is to."""
        target = self._ports.get(probe.target)
        # What comes from outside enters the switch of its target through the router.
        source = self._ports.get(probe.source) or self._gateways[self._ports[probe.target].switch]
        near = target if target is not None and target.switch == source.switch else self._gateways[source.switch]
        ip = f"ip{ip_address(probe.source).version}"
        if probe.protocol == "ICMP":
            layer4 = "icmp4.type==8" if ip == "ip4" else "icmp6.type==128"
        else:
            layer4 = "{0} && {0}.src==40000 && {0}.dst=={1}".format(probe.protocol.lower(), probe.port)
        flow = (
            f'inport=="{source.name}" && eth.src=={source.mac} && eth.dst=={near.mac} && ip.ttl==64'
            f" && {ip}.src=={probe.source} && {ip}.dst=={probe.target} && {layer4}"
        )
        shown = self._ask("trace", "--summary", source.switch, flow)
        if probe.target in self._pods:
            return f'output to "{self._ports[probe.target].name}"' in shown
        return 'dp="ovn_cluster_router"' in shown

    def _ask(self, method: str, *words: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self._socket))
            client.sendall(json.dumps({"id": 0, "method": method, "params": list(words)}).encode())
            text = ""
            while True:
                text += client.recv(1 << 20).decode()
                try:
                    answer = json.loads(text)
                except ValueError:
                    continue
                assert not answer["error"], answer["error"]
                return str(answer["result"])

    def stop(self) -> None:
        self._ask("exit")


ZONES = {
    "host-dual": ("", (4, 6)),
    "new-dual": ("/var/cache/ovnkit/debian-13", (4, 6)),
    "new-ipv4": ("/var/cache/ovnkit/debian-13", (4,)),
    "new-ipv6": ("/var/cache/ovnkit/debian-13", (6,)),
}


@pytest.fixture(scope="module", params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[Zone]:
    root, families = ZONES[request.param]
    if not Path(root or "/", "usr/bin/ovn-northd").exists():
        pytest.skip("that OVN isn't on this machine")
    made = Zone(locate(root or "host"), families)
    yield made
    made.stop()


@pytest.mark.ovn
@pytest.mark.timeout(60 + 4 * CLUSTERS)
def test_northd_makes_of_the_rows_what_the_specification_says(zone: Zone) -> None:
    @settings(
        max_examples=CLUSTERS,
        deadline=None,
        derandomize="OVNKIT_ORACLE_CLUSTERS" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(clusters(zone.families))
    def judge(cluster: Cluster) -> None:
        zone.judge(cluster)

    judge()
    sys.stdout.write(f"judged: {dict(zone.judged)}\n")
    assert min(zone.judged.values()) > 4 * CLUSTERS, zone.judged
