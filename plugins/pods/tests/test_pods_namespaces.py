"""Address sets of namespaces: identity, and content as pods come, change and go."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions
from ovnkit.api.identity import hash_name
from ovnkit.api.models import NAMESPACES, PODS
from ovnkit.api.renderers import Role
from ovnkit.network import rows
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import namespace, pod
from ovnkit_pods.plugin import PodsPlugin

DUAL = Config(
    default=DefaultOptions(cluster_subnets=tuple(map(ClusterSubnet.parse, ("10.128.0.0/14/23", "fd01::/48"))))
)


def bench(config: Config = DUAL) -> Bench:
    return Bench(PodsPlugin(), scope=scope(Role.ZONE, zone="n1"), config=config)


def set_name(name: str, family: int) -> str:
    return hash_name(f"default-network-controller:Namespace:{name}:v{family}")


def content(found: Bench, name: str, family: int = 4) -> set[str]:
    return set(found.row("Address_Set", set_name(name, family))["addresses"])


def networked(key: str, node: str, *addresses: str, **more: Any) -> Any:
    text = json.dumps({"default": {"ip_addresses": list(addresses), "mac_address": "02:00:00:00:00:01"}})
    return pod(key, node, {"k8s.ovn.org/pod-networks": text}, **more)


def test_a_set_per_family_is_named_as_tools_expect() -> None:
    found = bench()
    found.put(NAMESPACES, namespace("shop"))
    sets = found.rows("Address_Set")
    assert set(sets) == {set_name("shop", 4), set_name("shop", 6)}
    assert sets[set_name("shop", 6)]["external_ids"] == {
        "k8s.ovn.org/owner-controller": "default-network-controller",
        "k8s.ovn.org/owner-type": "Namespace",
        "k8s.ovn.org/name": "shop",
        "ip-family": "v6",
        "k8s.ovn.org/id": "default-network-controller:Namespace:shop:v6",
    }
    found.drop(NAMESPACES, "shop")
    assert not found.rows("Address_Set")


def test_a_single_stack_cluster_has_one_set() -> None:
    found = bench(Config())
    found.put(NAMESPACES, namespace("shop"))
    assert set(found.rows("Address_Set")) == {set_name("shop", 4)}


def test_pods_of_every_zone_are_in_the_set_of_their_namespace() -> None:
    found = bench()
    found.put(NAMESPACES, namespace("shop"), namespace("bank"))
    found.put(
        PODS,
        networked("shop/here", "n1", "10.128.0.3/23", "fd01::3/64"),
        networked("shop/there", "n2", "10.128.2.3/23"),
        networked("bank/vault", "n2", "10.128.2.4/23"),
        pod("shop/none", "n2"),
        pod("shop/nonsense", "n2", {"k8s.ovn.org/pod-networks": '{"default":{"ip_addresses":["$all"]}}'}),
        networked("shop/host", "n2", "10.128.2.9/23", host_network=True),
    )
    assert content(found, "shop") == {"10.128.0.3", "10.128.2.3"}
    assert content(found, "shop", 6) == {"fd01::3"}
    assert content(found, "bank") == {"10.128.2.4"}


def test_pods_enter_and_leave() -> None:
    found = bench()
    found.put(NAMESPACES, namespace("shop"))
    found.put(PODS, pod("shop/web", "n2"))
    assert content(found, "shop") == set()
    web = networked("shop/web", "n2", "10.128.2.3/23")
    found.put(PODS, web)
    assert content(found, "shop") == {"10.128.2.3"}
    found.put(PODS, evolve(web, completed=True))
    assert content(found, "shop") == set()
    found.put(PODS, web)
    found.drop(PODS, "shop/web")
    assert content(found, "shop") == set()


def group_ports(found: Bench, name: str) -> set[str]:
    row = found.row("Port_Group", hash_name(f"default-network-controller:Namespace:{name}"))
    return {ref.uuid for ref in row["ports"]}


def test_the_group_of_a_namespace_holds_the_ports_of_its_pods_in_this_zone() -> None:
    found = bench()
    found.put(NAMESPACES, namespace("default"), namespace("bank"))
    assert "a5680351521869907322" in found.rows("Port_Group"), "the name upstream gives it"
    web = networked("default/web", "n1", "10.128.0.3/23")
    found.put(
        PODS,
        web,
        networked("default/far", "n2", "10.128.2.3/23"),
        networked("default/host", "n1", "10.128.0.4/23", host_network=True),
        networked("bank/vault", "n1", "10.128.0.5/23"),
    )
    assert group_ports(found, "default") == {rows.pod_port("default/web").uuid}
    assert group_ports(found, "bank") == {rows.pod_port("bank/vault").uuid}
    found.put(PODS, evolve(web, completed=True))
    assert group_ports(found, "default") == set()
