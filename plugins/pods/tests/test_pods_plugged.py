"""A running pod is what it was plugged with, whatever a pod would get today."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, GatewayOptions
from ovnkit.api.identity import hash_name
from ovnkit.api.models import NAMESPACES, NODES, PODS, Pod
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import namespace, node, pod
from ovnkit_pods.plugin import PodsPlugin

POD_NETWORKS = "k8s.ovn.org/pod-networks"
CLUSTER = {4: "10.128.0.0/14/24", 6: "fd01::/48"}
SUBNETS = {4: "10.128.1.0/24", 6: "fd01:0:0:1::/64"}


def config(*families: int, **gateway: Any) -> Config:
    subnets = tuple(ClusterSubnet.parse(CLUSTER[family]) for family in families)
    return Config(default=DefaultOptions(cluster_subnets=subnets), gateway=GatewayOptions(**gateway))


def start(settings: Config, *pods: Pod, subnets: tuple[str, ...] = ()) -> Bench:
    """A process that finds these pods on a node with the cluster's subnets."""
    annotations = {
        "k8s.ovn.org/node-subnets": json.dumps(
            {"default": list(subnets) or [SUBNETS[family] for family in settings.families]}
        ),
        "k8s.ovn.org/node-chassis-id": "chassis-n1",
    }
    found = Bench(PodsPlugin(), scope=scope(Role.ZONE, zone="n1"), config=settings)
    found.reconciler.observe(NAMESPACES, [("shop", namespace("shop"))])
    found.reconciler.observe(NODES, [("n1", node("n1", annotations))])
    found.reconciler.observe(PODS, [(view.key, view) for view in pods])
    found.settle()
    return found


def networked(found: Bench, key: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(found.get(PODS, key).annotations[POD_NETWORKS])["default"]
    return value


def running(settings: Config) -> Pod:
    """A pod that was plugged under this configuration and runs."""
    found = start(settings, pod("shop/web", "n1", uid="uid-1"))
    given = networked(found, "shop/web")["ip_addresses"]
    view: Pod = found.get(PODS, "shop/web")
    return evolve(view, addresses=tuple(text.partition("/")[0] for text in given))


def addresses(found: Bench, family: int) -> set[str]:
    name = hash_name(f"default-network-controller:Namespace:shop:v{family}")
    return set(found.row("Address_Set", name)["addresses"])


def test_new_routes_are_for_pods_that_are_plugged_from_now_on() -> None:
    view = running(config(4))
    found = start(config(4, v4_masquerade_subnet=IPv4Network("169.254.0.0/17")), view)
    assert found.get(PODS, "shop/web") == view
    found.put(PODS, pod("shop/new", "n1"))
    assert "169.254.0.5/32" in [route["dest"] for route in networked(found, "shop/new")["routes"]]
    # without a sandbox it will be plugged again, with what there is then
    found.put(PODS, evolve(view, sandbox_ready=False))
    assert "169.254.0.5/32" in [route["dest"] for route in networked(found, "shop/web")["routes"]]
    assert networked(found, "shop/web")["ip_addresses"] == ["10.128.1.3/24"]


def test_a_pod_that_has_not_been_plugged_gets_what_there_is_now() -> None:
    view = evolve(running(config(4)), addresses=())
    found = start(config(4, v4_masquerade_subnet=IPv4Network("169.254.0.0/17")), view)
    assert "169.254.0.5/32" in [route["dest"] for route in networked(found, "shop/web")["routes"]]


@pytest.mark.parametrize(("before", "has"), [(4, "10.128.1.3"), (6, "fd01:0:0:1::3")])
def test_a_cluster_that_becomes_dual_stack_leaves_running_pods_alone(before: int, has: str) -> None:
    view = running(config(before))
    found = start(config(4, 6), view)
    assert found.get(PODS, "shop/web") == view
    port = found.row("Logical_Switch_Port", "shop_web")
    mac = json.loads(view.annotations[POD_NETWORKS])["default"]["mac_address"]
    assert port["addresses"] == port["port_security"] == frozenset({f"{mac} {has}"})
    assert addresses(found, before) == {has}
    assert addresses(found, 10 - before) == set()
    found.put(PODS, pod("shop/new", "n1"))
    assert len(networked(found, "shop/new")["ip_addresses"]) == 2
    assert has not in json.dumps(networked(found, "shop/new"))
    assert found.failures == {}
    # its next sandbox has both
    found.put(PODS, evolve(view, sandbox_ready=False))
    assert len(networked(found, "shop/web")["ip_addresses"]) == 2
    assert networked(found, "shop/web")["mac_address"] == mac
    assert found.failures == {}


def test_addresses_that_were_only_written_are_taken_out_of_annotation_port_and_sets() -> None:
    """As a former version left them when a cluster became dual stack."""
    view = running(config(4, 6))
    found = start(config(4, 6), evolve(view, addresses=("10.128.1.3",)))
    value = networked(found, "shop/web")
    assert value["ip_addresses"] == ["10.128.1.3/24"]
    assert value["gateway_ips"] == ["10.128.1.1"]
    assert all(":" not in route["dest"] for route in value["routes"])
    mac = "0a:58:0a:80:01:03"
    assert found.row("Logical_Switch_Port", "shop_web")["addresses"] == frozenset({f"{mac} 10.128.1.3"})
    assert (addresses(found, 4), addresses(found, 6)) == ({"10.128.1.3"}, set())


def test_a_cluster_that_leaves_a_family_keeps_running_pods() -> None:
    view = running(config(4, 6))
    found = start(config(4), view)
    assert found.get(PODS, "shop/web") == view
    port = found.row("Logical_Switch_Port", "shop_web")
    assert port["addresses"] == frozenset({"0a:58:0a:80:01:03 10.128.1.3 fd01:0:0:1::3"})
    assert found.failures == {}
    found.put(PODS, evolve(view, sandbox_ready=False))
    assert networked(found, "shop/web")["ip_addresses"] == ["10.128.1.3/24"]


def test_a_longer_or_shorter_subnet_around_the_address_changes_nothing() -> None:
    view = running(config(4))
    wider = Config(default=DefaultOptions(cluster_subnets=(ClusterSubnet.parse("10.128.0.0/14/23"),)))
    found = start(wider, view, subnets=("10.128.0.0/23",))
    assert found.get(PODS, "shop/web") == view
    assert found.failures == {}


def test_an_address_that_its_node_has_lost_is_reported_and_nothing_is_rewritten() -> None:
    view = running(config(4))
    found = start(config(4), view, subnets=("10.128.7.0/24",))
    assert found.get(PODS, "shop/web") == view
    assert [event[:2] for event in found.events] == [("shop/web", "ForeignAddress")]


def test_an_annotation_that_was_lost_says_what_the_pod_has() -> None:
    view = evolve(running(config(4)), annotations={}, addresses=("10.128.1.9",))
    found = start(config(4, 6), pod("a/new", "n1"), view)
    assert networked(found, "shop/web")["ip_addresses"] == ["10.128.1.9/24"]
    assert networked(found, "shop/web")["gateway_ips"] == ["10.128.1.1"]
    assert addresses(found, 4) == {"10.128.1.9"}


def test_the_address_of_a_pod_without_annotation_is_not_handed_out() -> None:
    view = evolve(running(config(4)), annotations={}, addresses=("10.128.1.3",))
    found = start(config(4), pod("a/new", "n1"), view)
    assert networked(found, "a/new")["ip_addresses"] == ["10.128.1.4/24"]
