"""Egress firewalls on packets: what gets out, in both families and both zone layouts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovnkit_lab.testing import LabPool, wait_until

sys.path.insert(0, str(Path(__file__).parent))
from egress_site import (
    CLIENT,
    CONFIG,
    EVERYWHERE,
    OUTSIDE,
    Site,
    both,
    expect,
    site,
    to,
    to_host,
    to_name,
    to_nodes,
)

pytestmark = pytest.mark.lab
APPLIED = "EgressFirewall Rules applied"
per_node_only = pytest.mark.parametrize("whole", ["per-node"], indirect=True)
"""For what has nothing to do with zones."""


@pytest.fixture(scope="module", params=["per-node", "central"])
def whole(
    request: pytest.FixtureRequest, labs: LabPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with (
        labs.own(ip_family="dual", zones=request.param, config=CONFIG) as lab,
        site(lab, tmp_path_factory.mktemp("egress")) as made,
    ):
        yield made


@pytest.fixture
def net(whole: Site) -> Iterator[Site]:
    yield whole
    whole.lab.delete("egressfirewall", "default", namespace="shop")


def pods(net: Site, *names: str) -> list[Any]:
    return [("tcp", a, 8080) for name in names for a in net.lab.pod_ips(name.split("/")[1], name.split("/")[0])]


def test_networks_and_ports_and_what_is_never_touched(net: Site) -> None:
    inside = pods(net, "shop/p2", "free/p1", "free/p2")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "inside", "namespace": "free"}}
    families = {"ipFamilyPolicy": "PreferDualStack"}
    net.lab.apply({**service, "spec": {"selector": {"app": "p2"}, "ports": [{"port": 8080}], **families}})
    vips = [("tcp", a, 8080) for a in net.lab.get("service", "inside", "free")["spec"]["clusterIPs"]]
    rules = [*to_host("Allow", "first", [("TCP", 8080), ("UDP", 8081)]), *to_host("Allow", "second")]
    net.firewall(*rules, *to("Deny", *EVERYWHERE))
    cut = [*both("first", 8081), *both("first", 8080, "udp"), *both("first", 0, "ping"), *both("third")]
    reached = [*both("first"), *both("second", 8081), *both("second", 8080, "udp"), *both("second", 0, "ping")]
    for client in ("shop/p1", "shop/p2"):
        net.settles(client, expect((reached, True), (cut, False), (inside, True), (vips, True)))
    net.settles("free/p1", expect((cut, True), (inside, True)))
    net.lab.delete("egressfirewall", "default", namespace="shop")
    net.settles("shop/p1", expect((cut, True)))


def test_the_first_rule_that_matches_decides(net: Site) -> None:
    net.firewall(*to_host("Deny", "first"), *to("Allow", *EVERYWHERE), *to_host("Deny", "second"))
    net.settles("shop/p1", expect((both("first"), False), (both("second"), True)))
    net.firewall(*to("Allow", *EVERYWHERE), *to_host("Deny", "first"))
    net.settles("shop/p1", expect((both("first"), True)))


def test_nodes_by_their_labels_and_services_on_them(net: Site) -> None:
    host = [("tcp", a, 8080) for a in net.node_addresses("node2")]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "host", "namespace": "free"}}
    families = {"ipFamilyPolicy": "PreferDualStack"}
    net.lab.apply({**service, "spec": {"selector": {"app": "host"}, "ports": [{"port": 8080}], **families}})
    vips = [("tcp", a, 8080) for a in net.lab.get("service", "host", "free")["spec"]["clusterIPs"]]
    net.settles("shop/p1", expect((host, True), (vips, True)))
    net.firewall(to_nodes("Allow", role="gate"), *to("Deny", *EVERYWHERE))
    net.settles("shop/p1", expect((host, False), (vips, False)))
    net.lab.kubectl("label", "node", "node2", "role=gate")
    try:
        net.settles("shop/p1", expect((host, True), (vips, True), (both("first"), False)))
    finally:
        net.lab.kubectl("label", "node", "node2", "role-")
    net.settles("shop/p1", expect((host, False), (vips, False)))


def entry(*names: str, ttl: int = 1) -> dict[str, Any]:
    return {"ttl": ttl, "A": [OUTSIDE[name][0] for name in names], "AAAA": [OUTSIDE[name][1] for name in names]}


def test_names_and_their_changing_addresses(net: Site) -> None:
    net.names({"www.example.com": entry("first"), "bad.example.com": entry("third")})
    net.firewall(
        to_name("Deny", "bad.example.com"), to_name("Allow", "WWW.example.com."), *to("Deny", *EVERYWHERE)
    )
    net.settles("shop/p1", expect((both("first"), True), (both("second"), False), (both("third"), False)))
    wait_until(lambda: net.status().get("status") == APPLIED, 20, "all zones have said so")
    before = net.acls()
    net.names({"www.example.com": entry("first", "second", "third"), "bad.example.com": entry("third")})
    net.settles("shop/p1", expect((both("first"), True), (both("second"), True), (both("third"), False)))
    net.names({"www.example.com": entry("second"), "bad.example.com": {"rcode": "SERVFAIL"}})
    net.settles("shop/p2", expect((both("first"), False), (both("second"), True), (both("third"), False)))
    assert net.acls() == before, "addresses move in the sets alone"


def test_a_name_that_cannot_be_resolved_is_closed_and_told(net: Site) -> None:
    net.names({"dead.example.com": {"rcode": "SERVFAIL"}})
    net.firewall(
        *to_host("Allow", "first"), to_name("Allow", "none.example.com"), to_name("Deny", "dead.example.com")
    )
    net.settles("shop/p1", expect((both("first"), True), (both("second"), False)))
    state = "EgressFirewall Rules not correctly applied"
    wait_until(lambda: net.status().get("status") == state, 20, "the status says so")
    [text] = {text.partition(": ")[2] for text in net.status()["messages"]}
    assert "rule 2: dnsName none.example.com has no addresses: there is no such name" in text
    assert "rule 3: dnsName dead.example.com has no addresses: 172.18.0.3:5353 says SERVFAIL" in text

    def events() -> list[str]:
        found = net.lab.get("events", namespace="shop")["items"]
        return [item["message"] for item in found if item["reason"] == "RuleNotApplied"]

    wait_until(lambda: any("dnsName dead.example.com" in text for text in events()), 20, "an Event says so, too")
    net.names({"dead.example.com": entry("third"), "none.example.com": entry("second")})
    net.settles("shop/p1", expect((both("first"), True), (both("second"), True), (both("third"), False)))
    wait_until(lambda: net.status().get("status") == APPLIED, 20, "and that it is mended")


def test_names_stay_in_force_over_a_restart_without_dns(net: Site) -> None:
    net.names({"www.example.com": entry("first"), "bad.example.com": entry("third")})
    net.firewall(to_name("Deny", "bad.example.com"), to_name("Allow", "www.example.com"), *to("Deny", *EVERYWHERE))
    wanted = expect((both("first"), True), (both("second"), False), (both("third"), False))
    net.settles("shop/p1", wanted)
    wait_until(lambda: net.status().get("status") == APPLIED, 20, "all zones have said so")
    before = net.acls()
    host = "node1" if net.lab.per_node_zones else "control"

    def failures() -> int:
        return net.lab.run("logs", host, "ovnkit").stdout.count("a name is not resolved")

    count = failures()
    net.names({name: {"rcode": "SERVFAIL"} for name in ("www.example.com", "bad.example.com")})
    wait_until(lambda: failures() == count + 2, 30, "the process knows that names are not resolved any more")
    net.lab.run("restart", host, "ovnkit")
    wait_until(lambda: failures() == count + 4, 60, "the next one, too")
    net.settles("shop/p1", wanted)
    assert net.acls() == before
    assert net.status().get("status") == APPLIED


@per_node_only
def test_wildcards_by_what_the_dns_server_of_the_cluster_gave_out(net: Site) -> None:
    net.firewall(to_name("Allow", "*.example.com"), *to("Deny", *EVERYWHERE))
    net.settles("shop/p1", expect((both("first"), False)))
    found = [
        {"ip": address, "ttlSeconds": 5, "lastLookupTime": "2026-01-01T00:00:00Z"} for address in OUTSIDE["first"]
    ]
    resolver = {
        "apiVersion": "network.openshift.io/v1alpha1", "kind": "DNSNameResolver",
        "metadata": {"name": "dns-1", "namespace": "ovn-kubernetes"}, "spec": {"name": "*.example.com."},
    }  # fmt: skip
    net.lab.apply(resolver)
    status = {"resolvedNames": [{"dnsName": "www.example.com.", "resolvedAddresses": found}]}
    patch = json.dumps({"status": status})
    where = ("dnsnameresolver", "dns-1", "-n", "ovn-kubernetes", "--subresource=status", "--type=merge")
    net.lab.kubectl("patch", *where, "-p", patch)
    try:
        net.settles("shop/p1", expect((both("first"), True), (both("second"), False)), deadline=40)
        net.lab.kubectl("patch", *where, "-p", '{"status": {"resolvedNames": []}}')
        net.settles("shop/p1", expect((both("first"), False)))
    finally:
        net.lab.delete("dnsnameresolver", "dns-1", namespace="ovn-kubernetes")


def test_replies_are_never_cut(net: Site) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "door", "namespace": "shop"}}
    spec = {
        "type": "NodePort",
        "selector": {"app": "p1"},
        "ports": [{"port": 8080}],
        "ipFamilyPolicy": "PreferDualStack",
    }
    net.lab.apply({**service, "spec": spec})
    net.firewall(*to("Deny", *EVERYWHERE))
    net.settles("shop/p1", expect((both("first"), False)))
    port = net.lab.get("service", "door", "shop")["spec"]["ports"][0]["nodePort"]
    node = [("tcp", a, port) for a in net.node_addresses("node1")]

    def answered() -> bool:
        done = net.lab.external(sys.executable, "-c", CLIENT, json.dumps(node), check=True)
        return bool(json.loads(done.stdout) == [True, True])

    wait_until(answered, 20, "who comes from outside gets an answer")


KNOCKER = """
import socket, sys, threading
addresses = sys.argv[1:]
def knock(address):
    while True:
        try:
            socket.create_connection((address, 8080), 0.15).close()
            sys.stdout.write("in " + address + chr(10))
        except OSError as error:
            sys.stdout.write("out" + chr(10))
        sys.stdout.flush()
for address in addresses * 3:
    threading.Thread(target=knock, args=(address,)).start()
"""


def test_changing_a_list_opens_no_gap_and_leaves_no_acl(net: Site) -> None:
    deny, allow = to_host("Deny", "third"), to_host("Allow", "first")
    filler = to("Allow", *(f"198.51.100.{number}/32" for number in range(40)))
    net.names({"third.example.com": entry("third", ttl=60)})
    by_name = to_name("Deny", "third.example.com")
    lists = [
        [*deny], [*filler, *deny], [*allow, *deny, *filler], [*deny, *allow], [by_name, *deny], [*filler, by_name],
        [*deny, *to("Allow", *EVERYWHERE)], [*filler, *deny, *to("Allow", *EVERYWHERE)], [*filler[:3], by_name],
        [*to("Deny", "172.18.0.96/28", "fd00:172:18::100/120")], [*deny[::-1]],
    ]  # fmt: skip
    net.firewall(*lists[0])
    net.settles("shop/p1", expect((both("third"), False)))
    command = [sys.executable, "-m", "ovnkit_lab", "exec", "--name", net.lab.name, "shop/p1", "--"]
    knocking = subprocess.Popen(
        [*command, sys.executable, "-c", KNOCKER, *OUTSIDE["third"]], stdout=subprocess.PIPE, text=True
    )
    heard: list[str] = []
    threading.Thread(target=lambda: heard.extend(knocking.stdout or ()), daemon=True).start()
    try:
        for rules in [*lists, lists[4], lists[1]]:
            net.firewall(*rules)
            wanted = [10000 - number for number in range(len(rules))]
            wait_until(lambda: [row["priority"] for row in net.acls()] == wanted, 20, "an ACL per rule")  # noqa: B023
            count = len(heard)
            wait_until(lambda count=count: len(heard) > count + 6, 20, "attempts go on")  # type: ignore[misc]
        assert len(heard) > 100
        assert [line for line in heard if line.startswith("in")] == [], "nobody got through at any time"
        net.lab.delete("egressfirewall", "default", namespace="shop")
        wait_until(lambda: any(line.startswith("in") for line in heard), 20, "without a firewall they do")
        assert net.acls() == []
    finally:
        knocking.kill()
        knocking.wait()


@per_node_only
def test_bad_rules_are_told_and_the_rest_holds(net: Site) -> None:
    net.firewall(*to_host("Allow", "first"), *to("Allow", "300.1.1.1/8"), *to("Deny", *EVERYWHERE))
    net.settles("shop/p1", expect((both("first"), True), (both("second"), False)))
    wait_until(
        lambda: len(net.status().get("messages", ())) == (2 if net.lab.per_node_zones else 1), 20, "all zones"
    )
    assert all("rule 2: cidrSelector '300.1.1.1/8' is not a CIDR" in text for text in net.status()["messages"])
    shown = net.lab.kubectl("get", "egressfirewall", "-n", "shop")
    assert "EgressFirewall Rules not correctly applied" in shown
    second = {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall"}
    body = {**second, "metadata": {"name": "two", "namespace": "shop"}, "spec": {"egress": []}}
    done = subprocess.run(
        ["kubectl", "apply", "-f", "-"], input=json.dumps(body), capture_output=True, text=True,
        env={**os.environ, **net.lab.environment}, check=False,
    )  # fmt: skip
    assert done.returncode != 0, "there is one firewall per namespace"
    assert "metadata.name" in done.stderr


def test_zones_that_are_gone_leave_the_status(net: Site) -> None:
    net.firewall(*to("Deny", *EVERYWHERE))
    zones = {"node1", "node2"} if net.lab.per_node_zones else {"global"}
    said = {f"{zone}: {APPLIED}" for zone in zones}
    wait_until(lambda: set(net.status().get("messages", ())) == said, 20, "every zone has said so")
    ghost = {
        "apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "status": {"messages": [f"ghost: {APPLIED}"]},
    }  # fmt: skip
    apply = ("apply", "--server-side", "--subresource=status", "--field-manager=ghost", "-f", "-")
    net.lab.kubectl(*apply, input=json.dumps(ghost))
    wait_until(lambda: set(net.status().get("messages", ())) == said, 20, "the ghost is gone, the others stay")
    assert net.status()["status"] == APPLIED


@per_node_only
def test_eight_thousand_rules(net: Site) -> None:
    rules = to("Deny", *(f"198.18.{n >> 8}.{n & 255}/32" for n in range(7996)))
    rules += [*to_host("Allow", "first"), *to("Deny", *EVERYWHERE)]
    begun = time.monotonic()
    body = {
        "apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"egress": rules},
    }  # fmt: skip
    # kubectl apply keeps the whole object in an annotation, which has a limit
    net.lab.kubectl("create", "-f", "-", input=json.dumps(body))
    net.settles("shop/p1", expect((both("first"), True), (both("second"), False)), deadline=120)
    took = time.monotonic() - begun
    assert len(net.acls()) == 8000
    sys.stderr.write(f"8,000 rules in force after {took:.1f} s\n")
