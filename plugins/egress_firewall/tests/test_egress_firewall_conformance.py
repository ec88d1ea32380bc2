"""The conformance suite for egress_firewall."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from ovnkit.api.host import ADDRESSES, LINKS, AddressView, LinkView
from ovnkit.api.kinds import Kind
from ovnkit.testing.conformance import ConformanceSuite, family_config
from ovnkit.testing.harness import Harness, make_server
from ovnkit.testing.manifests import objects
from ovnkit_egress_firewall.dnsnames import DNS_ANSWERS, DnsAnswer

SHOP = """
apiVersion: v1
kind: Node
metadata: {name: n1, uid: n1-uid, annotations: {
  k8s.ovn.org/node-id: "2", k8s.ovn.org/node-chassis-id: chassis-n1, k8s.ovn.org/node-subnets: 'SUBNETS'}}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: chat}
---
apiVersion: v1
kind: Namespace
metadata: {name: quiet}
---
apiVersion: v1
kind: Pod
metadata: {name: member, namespace: chat}
spec: {nodeName: n1, containers: [{name: c, image: x}]}
---
apiVersion: k8s.ovn.org/v1
kind: EgressFirewall
metadata: {name: default, namespace: chat}
spec:
  egress:
    - {type: Allow, to: {cidrSelector: 192.0.2.0/24}, ports: [{protocol: TCP, port: 443}]}
    - {type: Allow, to: {cidrSelector: "2001:db8::/32"}}
    - {type: Allow, to: {dnsName: www.example.com}, ports: [{protocol: TCP, port: 443}]}
    - {type: Deny, to: {dnsName: nobody.example.com}}
    - {type: Deny, to: {cidrSelector: 0.0.0.0/0}}
"""
SUBNETS = {
    "ipv4": '{"default":["10.128.4.0/23"]}',
    "ipv6": '{"default":["fd01:0:0:4::/64"]}',
    "dual": '{"default":["10.128.4.0/23","fd01:0:0:4::/64"]}',
}


@pytest.mark.ovn
def test_a_changed_address_is_one_mutation_of_one_set(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    manifests = objects(SHOP.replace("SUBNETS", SUBNETS["dual"]))
    suite = TestEgressFirewallConformance()
    try:
        with Harness(
            server, ["egress_firewall"], manifests, config=family_config("dual"), facts=suite.facts()
        ) as harness:
            written: list[Any] = []
            session = harness.sinks["nb"].session
            transact = session.transact
            session.transact = lambda ops, done: (written.extend(ops), transact(ops, done))  # type: ignore[assignment, func-returns-value]
            found = (ip_address("192.0.2.8"), ip_address("192.0.2.7"), ip_address("2001:db8::7"))
            harness.reconciler.observe(DNS_ANSWERS, [("www.example.com", DnsAnswer("www.example.com", found))])
            harness.settle()
            [change] = [op for op in written if op["op"] not in ("wait", "assert", "comment")]
            assert (change["op"], change["table"]) == ("mutate", "Address_Set")
            assert change["mutations"] == [["addresses", "insert", ["set", ["192.0.2.8"]]]]
    finally:
        server.stop()


@pytest.mark.ovn
class TestEgressFirewallConformance(ConformanceSuite):
    plugin = "egress_firewall"
    scenarios = {"rules of all sorts": SHOP}

    def prepare(self, text: str, family: str) -> str:
        return text.replace("SUBNETS", SUBNETS[family])

    def facts(self) -> Iterable[tuple[Kind[Any], Any]]:
        yield LINKS, LinkView("eth0", 2, "02:00:00:00:00:01", 1500, True)
        yield ADDRESSES, AddressView("eth0", ip_interface("192.0.2.2/24"))
        yield DNS_ANSWERS, DnsAnswer("www.example.com", (ip_address("192.0.2.7"), ip_address("2001:db8::7")))
        yield DNS_ANSWERS, DnsAnswer("nobody.example.com", fault="there is no such name")
