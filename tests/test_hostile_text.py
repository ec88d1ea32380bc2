"""Hostile text in every field of every object that ends in a row, a flow, an nft element or an annotation.

An object goes through what the process does with it: JSON, view, renderers. Whatever comes out is given to those
who read it. `OVNKIT_FUZZ_EXAMPLES` is how many objects are tried (the gate does with few).
"""

from __future__ import annotations

import copy
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from text_consumers import Matches, Packet, misread_elements, misread_flows, reading

from ovnkit.api import text
from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, GatewayOptions, KubernetesOptions
from ovnkit.api.items import Annotation, Row
from ovnkit.api.kinds import Kind
from ovnkit.api.models import NAMESPACES, NODES, PODS
from ovnkit.api.nft import NftItem
from ovnkit.api.renderers import Role
from ovnkit.network import pod as podnetwork
from ovnkit.network.bridges import OVS_BRIDGES, OVS_INTERFACES, OVS_PORTS, OvsBridge, OvsInterface, OvsPort
from ovnkit.network.node import NODE_SUBNETS
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit.network.services import ENDPOINT_SLICES, SERVICES
from ovnkit.testing import ovsdb
from ovnkit.testing.bench import Bench, scope
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS
from ovnkit_egress_firewall.plugin import EgressFirewallPlugin
from ovnkit_gateway.plugin import GatewayPlugin
from ovnkit_management_port.plugin import ManagementPortPlugin
from ovnkit_multicast.plugin import MulticastPlugin
from ovnkit_network_policy.plugin import NetworkPolicyPlugin
from ovnkit_pods.plugin import PodsPlugin
from ovnkit_policy_logging.plugin import PolicyLoggingPlugin
from ovnkit_services.plugin import ServicesPlugin
from ovnkit_topology.plugin import TopologyPlugin

EXAMPLES = int(os.environ.get("OVNKIT_FUZZ_EXAMPLES", "60"))

pytestmark = pytest.mark.timeout(300 + 2 * EXAMPLES)

KINDS = {
    kind.resource.kind: kind
    for kind in (NODES, NAMESPACES, PODS, SERVICES, ENDPOINT_SLICES, NETWORK_POLICIES, EGRESS_FIREWALLS)
}

OBJECTS: list[Any] = list(
    yaml.safe_load_all(
        """
kind: Node
metadata:
  name: n1
  uid: n1-uid
  labels: {zone: a}
  annotations:
    k8s.ovn.org/node-id: "2"
    k8s.ovn.org/node-chassis-id: chassis-n1
    k8s.ovn.org/node-subnets: '{"default":["10.128.2.0/23","fd01:0:0:2::/64"]}'
    k8s.ovn.org/host-cidrs: '["192.0.2.1/24","2001:db8::1/64"]'
    k8s.ovn.org/node-primary-ifaddr: '{"ipv4":"192.0.2.1/24","ipv6":"2001:db8::1/64"}'
    k8s.ovn.org/node-transit-switch-port-ifaddr: '{"ipv4":"100.88.0.2/16","ipv6":"fd97::2/64"}'
    k8s.ovn.org/node-encap-ips: '["192.0.2.1"]'
    k8s.ovn.org/node-ingress-snat-exclude-subnets: '["203.0.113.0/24","2001:db8:9::/48"]'
    k8s.ovn.org/l3-gateway-config: '{"default":{"mode":"shared","bridge-id":"br-ex","interface-id":"br-ex_n1",
      "mac-address":"02:00:00:00:00:01","ip-addresses":["192.0.2.1/24","2001:db8::1/64"],
      "next-hops":["192.0.2.254","2001:db8::fe"],"node-port-enable":"true","vlan-id":"0"}}'
status: {addresses: [{type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: "2001:db8::1"}]}
---
kind: Node
metadata:
  name: n2
  uid: n2-uid
  annotations:
    k8s.ovn.org/node-id: "3"
    k8s.ovn.org/node-chassis-id: chassis-n2
    k8s.ovn.org/node-subnets: '{"default":["10.128.4.0/23","fd01:0:0:4::/64"],"other":["x"]}'
    k8s.ovn.org/host-cidrs: '["192.0.2.2/24","2001:db8::2/64"]'
    k8s.ovn.org/node-transit-switch-port-ifaddr: '{"ipv4":"100.88.0.3/16","ipv6":"fd97::3/64"}'
    k8s.ovn.org/node-encap-ips: '["192.0.2.2"]'
    k8s.ovn.org/zone-name: n2
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
kind: Namespace
metadata:
  name: shop
  labels: {team: a}
  annotations: {k8s.ovn.org/acl-logging: '{"deny":"info","allow":"notice"}', k8s.ovn.org/multicast-enabled: "true"}
---
kind: Pod
metadata:
  name: web
  namespace: shop
  uid: web-uid
  labels: {app: web}
  annotations:
    k8s.ovn.org/pod-networks: '{"default":{"ip_addresses":["10.128.2.5/23","fd01:0:0:2::5/64"],
      "mac_address":"0a:58:0a:80:02:05","gateway_ips":["10.128.2.1","fd01:0:0:2::1"],
      "routes":[{"dest":"10.128.0.0/14","nextHop":"10.128.2.1"}],"role":"primary"},"a/b":{"x":1}}'
spec:
  nodeName: n1
  containers: [{ports: [{name: http, containerPort: 8080, protocol: TCP}]}]
status: {phase: Running, podIPs: [{ip: 10.128.2.5}, {ip: "fd01:0:0:2::5"}]}
---
kind: Pod
metadata:
  name: asks
  namespace: shop
  uid: asks-uid
  annotations:
    v1.multus-cni.io/default-network: '[{"name":"default","ips":["10.128.2.60/23","fd01:0:0:2::60"],
      "mac":"02:00:00:00:00:07"}]'
spec: {nodeName: n1}
---
kind: Service
metadata:
  name: web
  namespace: shop
  uid: web-svc
  creationTimestamp: "2030-01-01T00:00:00Z"
  annotations: {k8s.ovn.org/idled-at: "", ovnkit.io/unidled-at: "2030-01-01T00:00:00+00:00"}
spec:
  type: LoadBalancer
  clusterIPs: [172.16.1.10, "fd02::10"]
  externalIPs: [198.51.100.1, "2001:db8:1::1"]
  loadBalancerSourceRanges: [203.0.113.0/24, "2001:db8:2::/48", 10.0.0.0/8]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  externalTrafficPolicy: Local
  internalTrafficPolicy: Local
  healthCheckNodePort: 30099
  ports:
  - {name: web, port: 80, protocol: TCP, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP, nodePort: 30053}
status: {loadBalancer: {ingress: [{ip: 198.51.100.2}, {ip: "2001:db8:1::2"}]}}
---
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, uid: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: web, port: 8080, protocol: TCP}, {name: dns, port: 5353, protocol: UDP}]
endpoints:
- {addresses: [10.128.2.5], nodeName: n1, conditions: {ready: true}}
- {addresses: [192.0.2.1], nodeName: n1, conditions: {ready: true}}
---
kind: EndpointSlice
metadata: {name: web-2, namespace: shop, uid: web-2, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: web, port: 8080, protocol: TCP}]
endpoints: [{addresses: ["fd01:0:0:2::5"], nodeName: n1, conditions: {ready: true}}]
---
kind: NetworkPolicy
metadata: {name: web, namespace: shop, uid: policy, annotations: {k8s.ovn.org/acl-stateless: "false"}}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [web, db]}]}}]
    ports: [{port: http, protocol: TCP}, {port: 80, endPort: 90}]
  egress:
  - to:
    - {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}
    - {ipBlock: {cidr: "fd00:172:18::/64"}}
    - {namespaceSelector: {matchLabels: {team: a}}}
---
kind: EgressFirewall
metadata: {name: default, namespace: shop, uid: fw, generation: 0}
spec:
  egress:
  - {type: Allow, to: {cidrSelector: 198.51.100.0/24}, ports: [{protocol: TCP, port: 443}]}
  - {type: Deny, to: {cidrSelector: "fd00:172:18::/64"}}
  - {type: Allow, to: {dnsName: www.example.com}}
  - {type: Allow, to: {nodeSelector: {matchLabels: {zone: a}}}}
  - {type: Deny, to: {cidrSelector: 0.0.0.0/0}}
status: {messages: ["n1: EgressFirewall Rules applied"], status: x}
"""
    )
)

# -- hostile values -------------------------------------------------------------------------------------------

TAILS = [
    "%x", "%", "%lan/64", "/64%x", "/64", "/08", "/255.255.255.0", "/0", "\n", "\r\nadd", " ", "\t", "\0", '"',
    "'", "\\", " || 1", " && ip4", "; drop", "}", ")", "/*", "*/", "$a1", "@a1", ",1", "=1", "_", "\u0661",
    "\u200b", "\N{SNOWMAN}", "\ud800", ".1", ":1",
]  # fmt: skip
WHOLE = [
    "", "0", "-1", "+1", "1_0", "\u0663", "1e3", "NaN", "Infinity", "1e400", "0x10", "null", "{", "[]", "{}",
    '{"default":NaN}', r'{"default":"\ud800"}', '{"default":{"ip_addresses":["fd00::60%x"]}}', "::", "::/0",
    "0.0.0.0", "0.0.0.0/0", "255.255.255.255", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0",
    "fd00::%x/64", "fd00:0::1", "FD01::5", "010.0.0.1", "1.2.3", "224.0.0.1", "127.0.0.1", "ff02::1",
    "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "TCP", "http", "In", "9999-12-31T23:59:59+00:00", "0001-01-01",
    "9" * 400, "a" * 5000, "[" * 3000, "../../etc", "n1", "Allow", "\ufffd", "\u202e",
]  # fmt: skip
DEEP: Any = []
for _ in range(900):
    DEEP = [DEEP]

OTHERS = [
    DEEP,
    None,
    True,
    False,
    0,
    -1,
    1,
    65535,
    65536,
    2**31,
    2**63,
    2**64,
    1.5,
    1e300,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    {"a": 1},
]
NASTY = some.text(
    some.sampled_from("0123456789abcdef:./%\"'\\$@&|{}()=!<> ;,_-*\n\0\u0661\ud800xnTC"), max_size=20
)


@some.composite
def hostile(draw: some.DrawFn, value: Any, *, any_type: bool = True) -> Any:
    """Something else in the place of a value; without `any_type` the type stays: the API server saw to it."""
    if not any_type and type(value) is not str:
        numbers = some.integers(0, 70_000) | some.sampled_from([-1, 2**31, 2**63, 2**64])
        return draw(some.booleans() if isinstance(value, bool) else numbers)
    kind = draw(some.sampled_from(("tail", "tail", "head", "whole", "other", "nasty", "digits")))
    if kind == "other" and any_type:
        return draw(some.sampled_from(OTHERS))
    if kind == "whole":
        return draw(some.sampled_from(WHOLE))
    if kind == "nasty":
        return draw(NASTY)
    if kind == "digits":
        return str(value).translate({ord(digit): chr(0x660 + int(digit)) for digit in "123"})
    tail = draw(some.sampled_from(TAILS))
    return f"{value}{tail}" if kind == "tail" else f"{tail}{value}"


OF_THE_SERVER = ("kind", "uid", "creationTimestamp", "generation")
"""Fields that nobody can write anything into."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where text, numbers and lists are, also inside of JSON in annotations (behind a step `json`)."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        yield from places(json.loads(value), (*path, "json"))
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))
    if path and path[-1] not in OF_THE_SERVER:
        yield path


def is_free(number: int, path: tuple[Any, ...]) -> bool:
    """Whether the API server doesn't know the type of what is there: JSON in text, or another's resource."""
    return "json" in path or (OBJECTS[number]["kind"] == "EgressFirewall" and path[0] == "spec")


def read(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = json.loads(value) if step == "json" and isinstance(value, str) else value[step]
    return value


PLACES = [
    (number, place)
    for number, manifest in enumerate(OBJECTS)
    for place in places(manifest)
    if is_free(number, place) or isinstance(read(manifest, place), str | int)
]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with something else at a place."""
    if not path:
        return new
    step, *rest = path
    if step == "json" and isinstance(value, str):
        return json.dumps(changed(json.loads(value), tuple(rest), new))
    inner = copy.copy(value)
    inner[step] = changed(value[step], tuple(rest), new)
    return inner


# -- a cluster ------------------------------------------------------------------------------------------------


def config() -> Config:
    return Config(
        default=DefaultOptions(cluster_subnets=tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48")))),
        kubernetes=KubernetesOptions(
            service_cidrs=(text.parse_network("172.16.1.0/24"), text.parse_network("fd02::/112"))
        ),
        gateway=GatewayOptions(mode="shared", disable_snat_multiple_gws=True),
    )


class Cluster:
    """The zone and the node role of node n1, and all that came out of them."""

    def __init__(self) -> None:
        zone = (
            PodsPlugin,
            TopologyPlugin,
            GatewayPlugin,
            ServicesPlugin,
            NetworkPolicyPlugin,
            EgressFirewallPlugin,
        )
        logging = (MulticastPlugin, PolicyLoggingPlugin)
        listed = tuple(KINDS.values())
        self.zone = Bench(
            *(plugin() for plugin in (*zone, *logging)),
            scope=scope(Role.ZONE, Role.CLUSTER, zone="n1"),
            config=config(),
            listed=listed,
        )
        self.node = Bench(
            ServicesPlugin(),
            ManagementPortPlugin(),
            scope=scope(Role.NODE, node="n1"),
            config=config(),
            listed=listed,
        )
        self.node.put(OVS_INTERFACES, OvsInterface("i1", "eth1", "", 1, ""))
        self.node.put(OVS_INTERFACES, OvsInterface("i2", "patch-br-ex_n1-to-br-int", "patch", 2, ""))
        self.node.put(OVS_PORTS, *(OvsPort(f"p{n}", f"p{n}", frozenset({f"i{n}"})) for n in (1, 2)))
        self.node.put(OVS_BRIDGES, OvsBridge("br-ex", frozenset({"p1", "p2"}), "netdev"))
        self.matches: dict[str, None] = {}
        self.flows: dict[Any, None] = {}
        self.nft: dict[NftItem, None] = {}
        for manifest in OBJECTS:
            self.put(manifest)
        assert not self.zone.failures
        assert not self.node.failures

    def put(self, manifest: dict[str, Any]) -> None:
        """As the API server sends it; what it can't send, and what no view can be made of, goes no further."""
        try:
            raw = text.parse_json(json.dumps(manifest))
            kind: Kind[Any] = KINDS[manifest["kind"]]
            view = kind.view(raw)
        except Exception:
            return  # an Event says so; the last good view stays
        for bench in (self.zone, self.node):
            bench.put(kind, view)

    def restore(self, original: dict[str, Any], other: dict[str, Any]) -> None:
        """As it was; the other one may have had another name."""
        kind = KINDS[original["kind"]]
        place, name = (str(other["metadata"].get(field) or "") for field in ("namespace", "name"))
        key = f"{place}/{name}" if place else name
        for bench in (self.zone, self.node):
            bench.drop(kind, key)
        self.put(original)

    def check(self) -> None:
        """Nothing failed but by a word to the object's author; and all that can be said of one thing alone."""
        for bench in (self.zone, self.node):
            failed = [failure for failure in bench.reconciler.failures() if failure.what == "failed"]
            assert failed == []
            for _, reason, message in bench.events:
                assert message.isprintable(), (reason, message)
                assert len(message) < 1024
        for items in self.zone.databases["nb"].wanted.values():
            for item in items:
                if isinstance(item, Row):
                    self._check_row(self.zone, item)
        for item in self.zone.kube.items:
            if isinstance(item, Annotation) and isinstance(item.value, str) and item.value[:1] in ("{", "["):
                self._check_annotation(item.name, item.value)
        self.flows |= dict.fromkeys(self.node.node["flows"].items)
        self.nft |= dict.fromkeys(self.node.node["nft"].items)

    def _check_row(self, bench: Bench, row: Row) -> None:
        columns = {name: bench._value(value) for name, value in row.columns.items()}
        for value in columns.values():
            for word in words(value):
                assert not re.search(r"[\x00-\x1f\x7f]", word), (row.table, columns)
        if columns.get("match"):
            self.matches[columns["match"]] = None
        for name in ADDRESS_COLUMNS.get(row.table, ()):
            for word in " ".join(words(columns.get(name) or ())).split():
                if word not in LITERALS and not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", word):
                    assert reading(word if "/" in word else f"{word}/0"), (row.table, name, word)
        if row.table == "Load_Balancer":
            for front, targets in columns["vips"].items():
                for end in (front, *filter(None, targets.split(","))):
                    address, _, port = end.rpartition(":")
                    version = socket.AF_INET6 if address[0] == "[" else socket.AF_INET
                    if address[0] != "^":
                        socket.inet_pton(version, address.strip("[]"))
                    assert port in PORTS or end[0] == "^"

    def _check_annotation(self, name: str, value: str) -> None:
        if name == podnetwork.ANNOTATION:
            found = podnetwork.parse(value)
            assert found is not None
            assert podnetwork.parse(podnetwork.render(value, "default", found)) == found
        if name in SHARED:
            # What other networks have written there is theirs.
            value = text.print_json({"default": text.json_member(value, "default")})
        assert text.parse_json(value) == json.loads(value, parse_constant=pytest.fail)


SHARED = (podnetwork.ANNOTATION, NODE_SUBNETS)
ADDRESS_COLUMNS = {
    "Logical_Switch_Port": ("addresses", "port_security"),
    "Logical_Router_Port": ("networks", "mac"),
    "Logical_Router_Static_Route": ("ip_prefix", "nexthop"),
    "NAT": ("external_ip", "logical_ip"),
    "Address_Set": ("addresses",),
}
PORTS = frozenset(map(str, range(1, 65536)))
LITERALS = {"router", "unknown"}


def words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from words(pair)
    elif isinstance(value, Iterable):
        for item in value:
            yield from words(item)


# -- tests ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not ovsdb.available(), reason="needs ovsdb-server")
def test_whatever_an_object_says_is_refused_or_read_by_all_as_it_was_meant(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.check()

    def attempt(number: int, path: tuple[Any, ...], new: Any) -> None:
        manifest = changed(OBJECTS[number], path, new)
        try:
            cluster.put(manifest)
            cluster.check()
        finally:
            cluster.restore(OBJECTS[number], manifest)

    for number, path in PLACES:
        value = read(OBJECTS[number], path)
        if reading(value) or reading(f"{value}/0"):
            address, slash, length = value.partition("/")
            attempt(number, path, f"{address}%x{slash}{length}")

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(some.data())
    def one(data: some.DataObject) -> None:
        number, path = data.draw(some.sampled_from(PLACES))
        attempt(number, path, data.draw(hostile(read(OBJECTS[number], path), any_type=is_free(number, path))))

    one()
    cluster.check()
    assert len(cluster.matches) > 20
    with Matches(tmp_path, list(cluster.matches)) as matches:
        assert matches.refused() == []
    assert misread_flows(cluster.flows) == []
    assert misread_elements(cluster.nft) == []


@settings(max_examples=EXAMPLES * 5)
@given(some.sampled_from(WHOLE) | some.sampled_from(["10.0.0.0/8", "fd00::/64", "::/0"]).flatmap(hostile))
def test_a_network_is_taken_as_a_program_in_c_takes_it(cidr: Any) -> None:
    meant = reading(cidr)
    try:
        network = text.parse_network(cidr)
    except ValueError:
        assert meant is None
        return
    assert meant is not None
    packed, length = meant
    assert network.prefixlen == length
    assert ip_address(packed) in network


@pytest.mark.skipif(not ovsdb.available(), reason="needs ovsdb-server")
def test_ovn_takes_the_networks_of_rules_for_what_they_are(tmp_path: Path) -> None:
    """Of each network the first and the last address are in it, and the ones beside it are not."""
    cluster = Cluster()
    networks = [
        "198.51.100.0/24",
        "198.51.100.77/25",
        "203.0.113.7/32",
        "2001:DB8:0::/48",
        "2001:db8:1::5/128",
        "::/0",
    ]
    rules = [{"type": "Deny", "to": {"cidrSelector": network}} for network in networks]
    firewall = {"kind": "EgressFirewall", "metadata": {"name": "default", "namespace": "shop", "uid": "x"}}
    cluster.put({**firewall, "spec": {"egress": rules}})
    rows: list[Mapping[str, Any]] = [
        row.columns for row in cluster.zone.databases["nb"].items if isinstance(row, Row)
    ]
    found = {row["external_ids"]["rule-index"]: row["match"] for row in rows if row.get("priority", 0) > 2000}
    ordered = [found[str(number)] for number in range(len(networks))]
    with Matches(tmp_path, ordered) as matches:
        assert matches.refused() == []
        for text_of in networks:
            network = text.parse_network(text_of)
            first, last = int(network.network_address), int(network.broadcast_address)
            for value in {first, last, first - 1, last + 1} - {-1, 2**128}:
                address = ip_address(value.to_bytes(4 if network.version == 4 else 16))
                expected = [address in text.parse_network(other) for other in networks]
                assert matches.taken(Packet(str(address))) == expected, address
