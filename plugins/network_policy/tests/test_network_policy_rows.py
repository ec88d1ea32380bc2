"""Policies as rows: names and matches that OVN-Kubernetes' tools expect, faults told, text that can't escape."""

from __future__ import annotations

import re
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, KubernetesOptions
from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Declaration, hookimpl
from ovnkit.api.identity import hash_name
from ovnkit.api.items import Member, Ref
from ovnkit.api.models import NAMESPACES, NODES, PODS, ContainerPort
from ovnkit.api.renderers import Role
from ovnkit.api.selectors import LabelSelector
from ovnkit.network import rows
from ovnkit.network.policies import NETWORK_POLICIES
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.conformance import ConformanceSuite
from ovnkit.testing.objects import namespace, node, pod
from ovnkit_network_policy.peers import PodSet
from ovnkit_network_policy.plugin import NetworkPolicyPlugin

GROUP = hash_name("default-network-controller:NetworkPolicy:a:p")


def bench(*families: str) -> Bench:
    subnets = tuple(map(ClusterSubnet.parse, families or ("10.128.0.0/14/23",)))
    config = Config(default=DefaultOptions(cluster_subnets=subnets))
    return Bench(NetworkPolicyPlugin(), scope=scope(Role.ZONE, zone="n1"), config=config)


def policy(spec: dict[str, Any], name: str = "p") -> Any:
    raw = {"metadata": {"namespace": "a", "name": name}, "spec": {"podSelector": {}, **spec}}
    return NETWORK_POLICIES.view(raw)


def running(key: str, address: str, node: str = "n1", ports: tuple[ContainerPort, ...] = (), **labels: str) -> Any:
    annotation = f'{{"default":{{"ip_addresses":["{address}/24"],"mac_address":"0a:58:0a:80:00:05"}}}}'
    return pod(key, node, {"k8s.ovn.org/pod-networks": annotation}, labels=labels, ports=ports)


def acls(found: Bench) -> list[Any]:
    """Columns of all ACLs (their names are not unique), matches as text."""
    wanted = [item for item in found.databases["nb"].items if getattr(item, "table", "") == "ACL"]
    return [{**item.columns, "match": str(item.columns["match"])} for item in wanted]


def members(found: Bench) -> set[Any]:
    """What is added to sets beside pods."""
    return {item.value for item in found.databases["nb"].items if isinstance(item, Member)}


def allowed(found: Bench) -> list[str]:
    """Matches of the ACLs of the policy's rules, without the port group."""
    texts = [
        row["match"] for row in acls(found) if row["external_ids"]["k8s.ovn.org/owner-type"] == "NetworkPolicy"
    ]
    return sorted(re.sub(r" && (in|out)port == @a\d+$", "", text) for text in texts)


def compiled(spec: dict[str, Any], *families: str) -> list[str]:
    found = bench(*families)
    found.put(NETWORK_POLICIES, policy(spec))
    return allowed(found)


def test_default_deny_is_two_groups_per_namespace_and_a_group_per_policy() -> None:
    found = bench()
    found.put(NAMESPACES, namespace("a"))
    found.put(PODS, running("a/x", "10.128.0.5"), running("a/far", "10.128.2.5", node="n2"))
    found.put(NETWORK_POLICIES, policy({"policyTypes": ["Ingress"]}))
    deny = hash_name("default-network-controller:NetpolNamespace:a:Ingress")
    assert found.row("Port_Group", GROUP)["ports"] == {Ref.to(rows.pod_port("a/x"))}
    assert found.row("Port_Group", deny)["ports"] == {Ref.to(rows.pod_port("a/x"))}
    by_match = {row["match"]: row for row in acls(found)}
    drop = by_match[f"outport == @{deny}"]
    assert (drop["action"], drop["priority"], drop["direction"], drop["tier"]) == ("drop", 1000, "to-lport", 2)
    assert by_match[f"outport == @{deny} && (arp || nd)"]["action"] == "allow"
    found.drop(NETWORK_POLICIES, "a/p")
    assert found.rows("Port_Group") == {}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, ["ip4"]),
        ({"ports": [{"port": 80}]}, ["ip4 && tcp && tcp.dst==80"]),
        ({"ports": [{"port": 80}, {"port": 81}]}, ["ip4 && tcp && tcp.dst=={80,81}"]),
        ({"ports": [{"protocol": "UDP"}]}, ["ip4 && udp"]),
        ({"ports": [{"protocol": "SCTP", "port": 5, "endPort": 9}]}, ["ip4 && sctp && 5<=sctp.dst<=9"]),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, ["ip4.src == 10.0.0.0/8"]),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]},
            ["(ip4.src == 10.0.0.0/8 && ip4.src != {10.1.0.0/16})"],
        ),
    ],
)
def test_matches_of_rules(rule: dict[str, Any], expected: list[str]) -> None:
    assert compiled({"ingress": [rule]}) == expected


def test_selector_peers_share_one_set_between_policies() -> None:
    found = bench("10.128.0.0/14/23", "fd01::/48")
    spec = {"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]}]}
    found.put(NETWORK_POLICIES, policy(spec), policy(spec, "q"))
    found.put(PODS, running("a/x", "10.128.0.5", app="x"), running("a/y", "10.128.0.6", app="y"))
    sets = found.rows("Address_Set")
    assert [set(row["addresses"]) for row in sets.values()] == [{"10.128.0.5"}, set()]
    assert {row["external_ids"]["k8s.ovn.org/name"] for row in sets.values()} == {"a_LS{ML:{app: x,},}"}
    v4, v6 = sets
    assert allowed(found) == [f"(ip4.src == {{${v4}}} || ip6.src == {{${v6}}})"] * 2


def test_completed_pods_leave_the_peers_and_the_groups() -> None:
    found = bench()
    found.put(PODS, running("a/x", "10.128.0.5"))
    found.put(NETWORK_POLICIES, policy({"ingress": [{"from": [{"podSelector": {}}]}]}))
    found.put(PODS, evolve(running("a/x", "10.128.0.5"), completed=True))
    (row,) = found.rows("Address_Set").values()
    assert row["addresses"] == set()
    assert [row["ports"] for row in found.rows("Port_Group").values()] == [set(), set(), set()]


def test_names_that_upstreams_tools_know() -> None:
    assert PodSet("default").name(4) == "a1842785665821502471"
    everything = PodSet.parse("LS{ML:{kubernetes.io/metadata.name: default,},}_LS{}_LNM")
    assert everything.name(4) == "a3329285166867222410"


def test_an_event_costs_what_it_changes() -> None:
    """A policy renders itself and what it is the first to need; a pod renders nothing."""
    found = bench()
    spec = {"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]}]}
    found.put(NETWORK_POLICIES, *(policy(spec, f"p{number}") for number in range(50)))
    before = dict(found.reconciler.renders_total)
    found.put(NETWORK_POLICIES, policy(spec, "other"))
    found.drop(NETWORK_POLICIES, "a/p0")
    after = dict(found.reconciler.renders_total)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        ("network_policy", "policy"): 1
    }
    before = after
    found.put(PODS, running("a/new", "10.128.0.9", app="x"))
    assert found.reconciler.renders_total == before
    (row,) = found.rows("Address_Set").values()
    assert row["addresses"] == {"10.128.0.9"}


def test_a_named_port_is_the_number_it_has_in_each_pod() -> None:
    found = bench()
    web = ContainerPort("web", 8080, "TCP")
    odd = ContainerPort("web", 9090, "TCP")
    found.put(PODS, running("a/x", "10.128.0.5", ports=(web,)), running("a/y", "10.128.0.6", ports=(odd,)))
    found.put(NETWORK_POLICIES, policy({"ingress": [{"ports": [{"port": "web"}]}]}))
    named = {int(row["external_ids"]["k8s.ovn.org/name"].rpartition(".")[2]): name for name, row in
             found.rows("Address_Set").items()}  # fmt: skip
    assert allowed(found) == sorted(
        f"ip4 && ip4.dst == {{${named[number]}}} && tcp && tcp.dst=={number}" for number in (8080, 9090)
    )
    found.drop(PODS, "a/y")
    assert len(allowed(found)) == 1


def test_a_sidecars_named_port_counts_and_an_init_containers_does_not() -> None:
    found = bench()
    web = [{"name": "web", "containerPort": 9443}]
    raw = {
        "metadata": {"name": "x", "namespace": "a", "uid": "x", "resourceVersion": "1"},
        "spec": {
            "containers": [{"name": "main"}],
            "initContainers": [{"name": "i", "ports": [{"name": "web", "containerPort": 1}]},
                               {"name": "s", "restartPolicy": "Always", "ports": web}],
        },
    }  # fmt: skip
    ports = PODS.view(raw).ports
    assert ports == (ContainerPort("web", 9443, "TCP"),)
    found.put(PODS, running("a/x", "10.128.0.5", ports=ports))
    found.put(NETWORK_POLICIES, policy({"ingress": [{"ports": [{"port": "web"}]}]}))
    (rule,) = allowed(found)
    assert rule.endswith("tcp.dst==9443")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8; drop"}}]}, "peer 0: '10.0.0.0/8; drop' is not a CIDR"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/8"]}}]}, "except 'fd00::/8' is not"),
        ({"ports": [{"port": 90, "endPort": 80}]}, "port 0: 90-80 is not a range of ports"),
        ({"ports": [{"protocol": "ICMP"}]}, "port 0: protocol 'ICMP' is not one of"),
        ({"from": [{}]}, "peer 0: it is empty, and matches nobody"),
        ({"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}]}, "unknown selector"),
    ],
)
def test_a_wrong_rule_allows_nothing_is_told_and_the_others_hold(rule: dict[str, Any], message: str) -> None:
    found = bench()
    found.put(NETWORK_POLICIES, policy({"ingress": [rule, {"ports": [{"port": 80}]}]}))
    assert allowed(found) == ["ip4 && tcp && tcp.dst==80"]
    ((key, reason, told),) = found.events
    assert (key, reason) == ("a/p", "InvalidRule")
    assert told.startswith("spec.ingress[0]")
    assert message in told


def test_a_pod_reaches_itself_through_a_service_whatever_policies_say() -> None:
    dual = [row for row in acls(bench("10.128.0.0/14/23", "fd01::/48")) if "hairpin" in str(row["external_ids"])]
    assert {row["match"] for row in dual} == {"(ip4.src == 169.254.169.5 || ip6.src == fd69::5)"}
    ids = {row["external_ids"]["k8s.ovn.org/id"] for row in dual}
    prefix = "default-network-controller:NetpolDefault:allow-hairpinning"
    assert ids == {f"{prefix}:Ingress", f"{prefix}:Egress"}
    assert {(row["direction"], row["priority"], row["action"], row["tier"]) for row in dual} == {
        ("to-lport", 1001, "allow-related", 2),
        ("from-lport", 1001, "allow-related", 2),
    }


def test_the_namespace_of_hosts_stands_for_the_addresses_of_nodes() -> None:
    config = Config(
        default=DefaultOptions(cluster_subnets=(ClusterSubnet.parse("10.128.0.0/14/23"),)),
        kubernetes=KubernetesOptions(host_network_namespace="hosts"),
    )
    found = Bench(NetworkPolicyPlugin(), scope=scope(Role.ZONE, zone="n1"), config=config)
    annotations = {"k8s.ovn.org/node-subnets": '{"default":["10.128.4.0/23"]}', "k8s.ovn.org/node-id": "7"}
    found.put(NODES, node("n1", annotations))
    found.put(NAMESPACES, namespace("hosts", labels={"hosts": "yes"}), namespace("a"))
    hosts = {"matchLabels": {"hosts": "yes"}}
    whole = {"ingress": [{"from": [{"namespaceSelector": hosts}]}]}
    found.put(NETWORK_POLICIES, policy(whole))
    assert members(found) == {"10.128.4.2", "100.64.0.7"}
    found.put(NETWORK_POLICIES, policy({"ingress": [{"from": [{"namespaceSelector": hosts, "podSelector": {}}]}]}))
    assert members(found) == set(), "with a pod selector only pods count"
    found.put(NETWORK_POLICIES, policy(whole))
    found.put(NAMESPACES, namespace("hosts"))
    assert members(found) == set()


NASTY = st.text(alphabet="\"$@&|{}()=!<> '\\;,:/%_-.az09LSM[]\n\0ü", max_size=12)
TOKEN = r"ip4(\.src|\.dst)?|(tcp|udp|sctp)(\.dst)?|\$a\d+|\d+(\.\d+){3}/\d+|\d+|&&|\|\||==|!=|<=|[(){},]"
MATCH = re.compile(rf"( ?({TOKEN}))+")


@settings(max_examples=300, deadline=None)
@given(st.lists(NASTY, min_size=8, max_size=8), st.sampled_from(("ingress", "egress")))
def test_no_text_of_an_object_gets_into_a_match(texts: list[str], direction: str) -> None:
    """Whatever names, labels, CIDRs, ports and protocols say, a match is made of the tokens above."""
    name, key, value, cidr, port, protocol, place, other = texts
    found = bench()
    selector = {
        "matchLabels": {key: value},
        "matchExpressions": [{"key": other, "operator": "In", "values": [key, value]}],
    }
    peers = [
        {"podSelector": selector},
        {"namespaceSelector": selector},
        {"podSelector": selector, "namespaceSelector": selector},
        {"ipBlock": {"cidr": cidr}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": [cidr]}},
    ]
    ports = [{"port": port}, {"port": 80, "protocol": protocol}, {"port": port, "endPort": 90}, {"port": 81}]
    peered = "from" if direction == "ingress" else "to"
    spec = {"podSelector": selector, direction: [{peered: peers}, {peered: peers, "ports": ports}]}
    view = NETWORK_POLICIES.view({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec})
    labels = {key: value, other: key}
    pods = [running(f"{place}/x", "10.128.0.5", ports=(ContainerPort(port, 80, "TCP"),), **labels)]
    found.put(PODS, *pods, running(f"{place}/y", "10.128.0.6"))
    found.put(NETWORK_POLICIES, evolve(view, namespace=place, name=name))
    matched = allowed(found)
    assert matched
    for text in matched:
        assert MATCH.fullmatch(text), text
        assert set(re.findall(r"\$(\w+)", text)) <= set(found.rows("Address_Set"))
    assert not [failure for failure in found.reconciler.failures() if failure.what == "failed"]
    for row in found.rows("Address_Set").values():
        assert "10.128.0.6" not in row["addresses"], "no set selects what it shouldn't"


@settings(max_examples=300, deadline=None)
@given(NASTY, NASTY, NASTY, st.booleans())
def test_the_id_of_a_set_holds_all_of_it(key: str, value: str, other: str, legacy: bool) -> None:
    """Two different selectors never share a set, however their labels are written."""
    pods = LabelSelector.parse(
        {
            "matchLabels": {key: value},
            "matchExpressions": [
                {"key": other, "operator": "NotIn", "values": [key, value]},
                {"key": value, "operator": "Exists"},
            ],
        }
    )
    for place in (pods, "a", other):
        made = PodSet(place, pods, legacy=legacy)
        assert PodSet.parse(made.key) == made


def test_a_selector_of_500_expressions() -> None:
    found = bench()
    expressions = [{"key": f"k{number}", "operator": "DoesNotExist"} for number in range(500)]
    spec = {"ingress": [{"from": [{"podSelector": {"matchExpressions": expressions}}]}]}
    found.put(PODS, running("a/x", "10.128.0.5"), running("a/y", "10.128.0.6", k499="1"))
    found.put(NETWORK_POLICIES, policy(spec))
    (row,) = found.rows("Address_Set").values()
    assert row["addresses"] == {"10.128.0.5"}
    assert not found.failures


@pytest.mark.ovn
class TestNetworkPolicyConformance(ConformanceSuite):
    plugin = "network_policy"
    scenarios = {
        "two policies": """
apiVersion: v1
kind: Namespace
metadata: {name: a, labels: {team: a}}
---
apiVersion: v1
kind: Pod
metadata: {name: x, namespace: a, labels: {app: x}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: a}
spec:
  podSelector: {matchLabels: {app: x}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}], ports: [{port: web}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: q, namespace: a}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}
"""
    }


class Broken:
    """Raises where it is asked how a namespace's ACLs are to be logged."""

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """Nothing."""
        return Declaration()

    @hookimpl
    def ovnkit_acl_logging(self) -> None:
        """Raise."""
        raise Reject("there is no such level", reason="NoLevel")


def test_a_namespace_whose_default_deny_fails_hears_of_it() -> None:
    plugins, names = (NetworkPolicyPlugin(), Broken()), ("network_policy", "broken")
    found = Bench(*plugins, scope=scope(Role.ZONE, zone="n1"), names=names)
    told: list[tuple[str, str, str]] = []
    found.reconciler.on_event = lambda kind, key, reason, *_: told.append((kind.name, key, reason))
    found.put(NAMESPACES, namespace("a"))
    found.put(NETWORK_POLICIES, policy({}))
    assert sorted(told) == [("namespaces", "a", "NoLevel"), ("network-policies", "a/p", "NoLevel")]
