"""What multicast writes: ACLs, members of the switches' group, options of switches and router."""

from __future__ import annotations

import json
from typing import Any

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.identity import hash_name
from ovnkit.api.items import Member, Ref
from ovnkit.api.models import NAMESPACES, NODES, PODS
from ovnkit.api.renderers import Role
from ovnkit.network.rows import cluster_router_port_group, namespace_port_group, node_switch, node_switch_port
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import namespace, node, pod
from ovnkit_multicast.plugin import MulticastPlugin

DUAL = Config(
    default=DefaultOptions(cluster_subnets=tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48"))))
)
V6_ONLY = Config(default=DefaultOptions(cluster_subnets=(ClusterSubnet.parse("fd01::/48"),)))
DYNAMIC = "(ip6.dst[120..127] == 0xff && ip6.dst[116] == 1)"
ENABLED = {"k8s.ovn.org/multicast-enabled": "true"}


def bench(config: Config = DUAL, **place: Any) -> Bench:
    return Bench(MulticastPlugin(), scope=scope(Role.ZONE, **(place or {"zone": "n1"})), config=config)


def acls(found: Bench) -> dict[str, Any]:
    return {row["external_ids"]["k8s.ovn.org/id"].partition(":")[2]: row for row in found.rows("ACL").values()}


def worker(name: str, number: int, *, v6_only: bool = False) -> Any:
    subnets = [f"10.128.{number}.0/23", f"fd01:0:0:{number}::/64"]
    text = json.dumps({"default": subnets[1:] if v6_only else subnets})
    return node(name, {"k8s.ovn.org/node-subnets": text})


def test_everything_is_denied_but_between_nodes() -> None:
    found = acls(bench())
    everything = f"(ip4.mcast || mldv1 || mldv2 || {DYNAMIC})"
    deny = found["MulticastCluster:DefaultDeny:Egress"]
    assert (deny["priority"], deny["action"], deny["direction"]) == (1011, "drop", "from-lport")
    assert deny["options"] == {"apply-after-lb": "true"}
    assert deny["match"] == everything
    allow = found["MulticastCluster:AllowInterNode:Ingress"]
    assert (allow["priority"], allow["action"], allow["direction"]) == (1012, "allow", "to-lport")
    assert allow["match"] == f"outport == @a4743249366342378346 && {everything}"
    assert set(found) == {
        f"MulticastCluster:{what}:{direction}"
        for what in ("DefaultDeny", "AllowInterNode")
        for direction in ("Egress", "Ingress")
    }


def test_a_namespace_is_let_in_by_its_annotation_and_put_out_without() -> None:
    found = bench()
    found.put(NAMESPACES, namespace("chat", annotations=ENABLED))
    rows = acls(found)
    group = hash_name("default-network-controller:Namespace:chat")
    sets = [hash_name(f"default-network-controller:Namespace:chat:v{family}") for family in (4, 6)]
    assert rows["MulticastNS:chat:Egress"]["match"] == (
        f"inport == @{group} && (ip4.mcast || (mldv1 || mldv2 || {DYNAMIC}))"
    )
    assert rows["MulticastNS:chat:Ingress"]["match"] == (
        f"outport == @{group} && ((igmp || (ip4.src == ${sets[0]} && ip4.mcast)) || "
        f"(mldv1 || mldv2 || (ip6.src == ${sets[1]} && {DYNAMIC})))"
    )
    parents = {
        item.parent.row
        for item in found.databases["nb"].items
        if getattr(item, "table", "") == "ACL" and "MulticastNS" in item.columns["external_ids"].values()
    }
    assert parents == {namespace_port_group("chat")}
    found.annotate(NAMESPACES, "chat", {"k8s.ovn.org/multicast-enabled": None})
    assert not any(name.startswith("MulticastNS") for name in acls(found))


def test_host_network_pods_send_by_their_nodes_management_ports() -> None:
    found = bench()
    found.put(NODES, worker("n1", 2), worker("n2", 4))
    found.put(NAMESPACES, namespace("chat", annotations=ENABLED), namespace("quiet"))
    plain = acls(found)["MulticastNS:chat:Ingress"]["match"]
    found.put(PODS, pod("chat/a", "n1"), pod("quiet/h", "n1", host_network=True))
    assert "MulticastNS:chat:HostEgress" not in acls(found)
    found.put(PODS, pod("chat/h", "n2", host_network=True))
    rows = acls(found)
    group = hash_name("default-network-controller:Cluster:clusterPortGroup")
    sources = "ip4.src == {10.128.4.2}", "ip6.src == {fd01:0:0:4::2}"
    hosts = rows["MulticastNS:chat:HostEgress"]
    assert hosts["match"] == f"inport == @{group} && (({sources[0]} && ip4.mcast) || ({sources[1]} && {DYNAMIC}))"
    assert (hosts["priority"], hosts["action"], hosts["direction"]) == (1012, "allow", "from-lport")
    assert f" || {sources[0]}) && ip4.mcast" in rows["MulticastNS:chat:Ingress"]["match"]
    assert f" || {sources[1]}) && {DYNAMIC}" in rows["MulticastNS:chat:Ingress"]["match"]
    before = found.reconciler.renders_total["multicast", "namespace"]
    found.put(PODS, pod("chat/b", "n2"))
    assert found.reconciler.renders_total["multicast", "namespace"] == before, "other pods touch no ACL"
    found.drop(PODS, "chat/h")
    assert acls(found)["MulticastNS:chat:Ingress"]["match"] == plain
    assert "MulticastNS:chat:HostEgress" not in acls(found)


def test_only_the_exact_word_true_counts() -> None:
    found = bench()
    for number, value in enumerate(("True", "1", "false", "", 'true" || 1')):
        found.put(NAMESPACES, namespace(f"ns{number}", annotations={"k8s.ovn.org/multicast-enabled": value}))
    assert not any(name.startswith("MulticastNS") for name in acls(found))


def options(found: Bench, name: str) -> dict[str | None, Any]:
    return {
        item.key: item.value
        for item in found.databases["nb"].items
        if isinstance(item, Member) and item.slot.row == node_switch(name)
    }


def test_the_switches_of_the_zone_snoop_and_ask_as_their_gateway() -> None:
    found = bench()
    found.put(NODES, worker("n1", 2), worker("n2", 4))
    assert options(found, "n1") == {
        "mcast_snoop": "true",
        "mcast_querier": "true",
        "mcast_eth_src": "0a:58:0a:80:02:01",
        "mcast_ip4_src": "10.128.2.1",
        "mcast_ip6_src": "fe80::858:aff:fe80:201",
    }
    assert options(found, "n2") == {}
    assert found.members()["options", "mcast_relay"] == "true"


def test_a_central_zone_has_the_switches_of_all_nodes() -> None:
    found = bench(zone="global", per_node_zones=False)
    found.put(NODES, worker("n1", 2), worker("n2", 4))
    ports = {
        item.value
        for item in found.databases["nb"].items
        if isinstance(item, Member) and item.slot.row == cluster_router_port_group()
    }
    assert ports == {Ref.to(node_switch_port("n1")), Ref.to(node_switch_port("n2"))}
    assert options(found, "n2")["mcast_ip4_src"] == "10.128.4.1"


def test_a_cluster_of_one_family_has_no_address_of_the_other() -> None:
    found = bench(V6_ONLY)
    found.put(NODES, worker("n1", 2, v6_only=True))
    found.put(NAMESPACES, namespace("chat", annotations=ENABLED))
    assert "mcast_ip4_src" not in options(found, "n1")
    assert "ip4.src" not in acls(found)["MulticastNS:chat:Ingress"]["match"]


def test_a_node_whose_subnets_are_nonsense_is_reported_and_others_go_on() -> None:
    found = bench(zone="global", per_node_zones=False)
    found.put(NODES, node("n1", {"k8s.ovn.org/node-subnets": "{"}), worker("n2", 4))
    assert options(found, "n1") == {}
    assert options(found, "n2")["mcast_querier"] == "true"
    assert "multicast/node/n1" in found.failures
