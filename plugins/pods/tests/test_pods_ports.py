"""Addresses and ports of pods: exact rows and annotations, requests, and what bad input gets."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import ClusterSubnet, Config, DefaultOptions, KubernetesOptions
from ovnkit.api.hooks import hookimpl
from ovnkit.api.items import Row
from ovnkit.api.models import NODES, PODS, Node
from ovnkit.api.renderers import Role
from ovnkit.network import pod_addresses as podaddresses
from ovnkit.network import rows
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import node, pod
from ovnkit_pods.plugin import PodsPlugin

POD_NETWORKS = "k8s.ovn.org/pod-networks"
REQUEST = "v1.multus-cni.io/default-network"
CLUSTER = {4: "10.128.0.0/14/24", 6: "fd01::/48"}
SUBNETS = {4: "10.128.1.0/24", 6: "fd01:0:0:1::/64"}
FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}


def config(families: tuple[int, ...] = (4,), **default: Any) -> Config:
    subnets = tuple(ClusterSubnet.parse(CLUSTER[family]) for family in families)
    return Config(default=DefaultOptions(cluster_subnets=subnets, **default))


def worker(name: str = "n1", *subnets: str, **annotations: str) -> Node:
    return node(
        name,
        {
            "k8s.ovn.org/node-subnets": json.dumps({"default": list(subnets or (SUBNETS[4],))}),
            "k8s.ovn.org/node-chassis-id": f"chassis-{name}",
            **annotations,
        },
    )


def bench(settings: Config | None = None, *plugins: Any, zone: str = "n1", nodes: Any = None) -> Bench:
    found = Bench(
        PodsPlugin(),
        *plugins,
        scope=scope(Role.ZONE, zone=zone, per_node_zones=zone != "global"),
        config=settings or config(),
        names=["pods", *(f"more{number}" for number in range(len(plugins)))],
    )
    found.put(NODES, *(nodes if nodes is not None else [worker()]))
    return found


def restart(before: Bench, **more: Any) -> Bench:
    """A new process: it lists nodes and pods at once, then renders."""
    after = bench(nodes=[], **more)
    for kind in (NODES, PODS):
        views = before.reconciler._store.select(kind, "", "").values()
        after.reconciler.observe(kind, [(view.key, view) for view in views])
    after.settle()
    return after


def network(found: Bench, key: str) -> dict[str, Any] | None:
    text = found.get(PODS, key).annotations.get(POD_NETWORKS)
    return json.loads(text)["default"] if text else None


def address(found: Bench, key: str) -> str | None:
    value = network(found, key)
    return value["ip_addresses"][0] if value else None


def annotation(ip: str, mac: str = "0a:58:0a:80:01:09", **more: Any) -> dict[str, str]:
    return {POD_NETWORKS: json.dumps({"default": {"ip_addresses": [ip], "mac_address": mac, **more}})}


def port_of(found: Bench, key: str) -> Row | None:
    for owner, items in found.databases["nb"].wanted.items():
        if (owner.renderer, owner.key) == ("port", key):
            row: Row = items[0]
            return row
    return None


# -- what a pod gets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["n1", "global"])
@pytest.mark.parametrize("families", FAMILIES.values(), ids=FAMILIES)
def test_a_pod_gets_addresses_an_annotation_and_a_port(families: tuple[int, ...], zone: str) -> None:
    subnets = [SUBNETS[family] for family in families]
    found = bench(config(families), zone=zone, nodes=[worker("n1", *subnets)])
    found.put(PODS, pod("shop/web", "n1", uid="uid-1"))

    addresses = {4: "10.128.1.3", 6: "fd01:0:0:1::3"}
    gateways = {4: "10.128.1.1", 6: "fd01:0:0:1::1"}
    masks = {4: "/24", 6: "/64"}
    routes = {
        4: ["10.128.0.0/14", "172.16.1.0/24", "169.254.169.5/32", "100.64.0.0/16"],
        6: ["fd01::/48", "fd69::5/128", "fd98::/64"],
    }
    value = network(found, "shop/web")
    assert value is not None
    mac = value["mac_address"]
    assert value["ip_addresses"] == [addresses[family] + masks[family] for family in families]
    assert value["gateway_ips"] == [gateways[family] for family in families]
    assert value["routes"] == [
        {"dest": dest, "nextHop": gateways[family]} for family in families for dest in routes[family]
    ]
    assert value["role"] == "primary"
    if len(families) == 1:
        assert value["ip_address"] == value["ip_addresses"][0]
        assert value["gateway_ip"] == value["gateway_ips"][0]
    else:
        assert "ip_address" not in value
    assert mac == ("0a:58:0a:80:01:03" if 4 in families else mac)
    assert mac.startswith("0a:58:")

    text = " ".join([mac, *(addresses[family] for family in families)])
    port = port_of(found, "shop/web")
    assert port is not None
    assert port.columns == {
        "name": "shop_web",
        "addresses": frozenset({text}),
        "port_security": frozenset({text}),
        "external_ids": {"namespace": "shop", "pod": "true"},
        "options": {"iface-id-ver": "uid-1", "requested-chassis": "chassis-n1"},
    }
    assert port.parent is not None
    assert port.parent.row == rows.node_switch("n1")


@pytest.mark.parametrize(
    "change",
    [{"host_network": True}, {"completed": True}, {"node": ""}, {"node": "other"}],
    ids=["host network", "completed", "not scheduled", "of another zone"],
)
def test_pods_without_a_network_of_this_zone_get_nothing(change: dict[str, Any]) -> None:
    found = bench(nodes=[worker(), worker("other", "10.128.2.0/24")])
    found.put(PODS, pod("shop/web", **{"node": "n1", **change}))
    assert not found.rows("Logical_Switch_Port")
    assert found.get(PODS, "shop/web").annotations == {}
    assert found.failures == {}


def test_pods_of_an_unmanaged_node_get_nothing() -> None:
    settings = evolve(config(), kubernetes=KubernetesOptions(no_hostsubnet_nodes="os=windows"))
    found = bench(settings, nodes=[evolve(worker(), labels={"os": "windows"})])
    found.put(PODS, pod("shop/web", "n1"))
    assert not found.rows("Logical_Switch_Port")
    assert found.failures == {}


def test_a_pod_waits_for_subnet_and_chassis_of_its_node() -> None:
    found = bench(nodes=[])
    found.put(PODS, pod("shop/web", "n1"))
    assert "no subnets yet" in found.failures["pods/port/shop/web"]
    found.put(NODES, node("n1", {"k8s.ovn.org/node-subnets": '{"default":["10.128.1.0/24"]}'}))
    assert "no chassis id yet" in found.failures["pods/port/shop/web"]
    found.put(NODES, worker())
    assert found.failures == {}
    assert "shop_web" in found.rows("Logical_Switch_Port")
    assert found.events == []


def test_requested_chassis_can_be_left_out() -> None:
    found = bench(
        config(disable_requestedchassis=True),
        nodes=[node("n1", {"k8s.ovn.org/node-subnets": '{"default":["10.128.1.0/24"]}'})],
    )
    found.put(PODS, pod("shop/web", "n1", uid="u"))
    assert found.row("Logical_Switch_Port", "shop_web")["options"] == {"iface-id-ver": "u"}


def test_a_new_chassis_reaches_the_ports() -> None:
    found = bench()
    found.put(PODS, pod("shop/web", "n1", uid="u"))
    found.annotate(NODES, "n1", {"k8s.ovn.org/node-chassis-id": "new"})
    assert found.row("Logical_Switch_Port", "shop_web")["options"]["requested-chassis"] == "new"


def test_another_plugin_adds_options_to_a_port() -> None:
    class Other:
        @hookimpl
        def ovnkit_declare(self) -> Any:
            from ovnkit.api.hooks import Declaration

            return Declaration()

        @hookimpl
        def ovnkit_port_options(self, pod: Any) -> Any:
            return {"qos": "1"} if pod.labels.get("fast") else None

    found = bench(config(), Other())
    found.put(PODS, pod("shop/fast", "n1", labels={"fast": "yes"}), pod("shop/slow", "n1"))
    assert found.row("Logical_Switch_Port", "shop_fast")["options"]["qos"] == "1"
    assert "qos" not in found.row("Logical_Switch_Port", "shop_slow")["options"]


# -- keeping and giving back ----------------------------------------------------------------------------------


def test_a_restart_keeps_every_address_in_any_order() -> None:
    before = bench()
    before.put(PODS, *(pod(f"shop/p{number}", "n1") for number in range(20)))
    before.drop(PODS, "shop/p3", "shop/p7")
    after = restart(before)
    keys = [f"shop/p{number}" for number in range(20) if number not in (3, 7)]
    assert [address(after, key) for key in keys] == [address(before, key) for key in keys]
    assert after.kube.items
    assert all(after.get(PODS, key) == before.get(PODS, key) for key in keys)
    after.put(PODS, pod("shop/new", "n1"))
    assert address(after, "shop/new") not in [address(after, key) for key in keys]


def test_an_address_is_reserved_before_a_pod_that_holds_it_is_rendered() -> None:
    first = pod("a/first", "n1")
    holder = pod("z/holder", "n1", annotation("10.128.1.3/24", "0a:58:0a:80:01:03"))
    found = bench(zone="global", nodes=[])
    found.reconciler.observe(NODES, [("n1", worker())])
    found.reconciler.observe(PODS, [(view.key, view) for view in (first, holder)])
    found.settle()
    assert address(found, "z/holder") == "10.128.1.3/24"
    assert address(found, "a/first") == "10.128.1.4/24"


def test_no_order_of_events_gives_one_address_to_two_pods() -> None:
    pods = [
        pod("a/new", "n1"),
        pod("b/new", "n1"),
        pod("c/kept", "n1", annotation("10.128.1.9/24")),
        pod("d/asks", "n1", {REQUEST: '[{"name":"default","ips":["10.128.1.4"]}]'}),
    ]
    for order in itertools.permutations(pods):
        found = bench()
        found.put(PODS, *order)
        given = [address(found, view.key) for view in pods]
        assert given[2] == "10.128.1.9/24"
        assert given[3] in ("10.128.1.4/24", None)
        assert len(set(given)) == len(given)


def test_completion_and_deletion_give_the_address_back() -> None:
    found = bench()
    found.put(PODS, pod("a/job", "n1"))
    found.put(PODS, pod("a/web", "n1"))
    assert (address(found, "a/job"), address(found, "a/web")) == ("10.128.1.3/24", "10.128.1.4/24")
    found.put(PODS, evolve(found.get(PODS, "a/job"), completed=True))
    assert set(found.rows("Logical_Switch_Port")) == {"a_web"}
    found.drop(PODS, "a/web")
    assert not found.rows("Logical_Switch_Port")
    for number, given in enumerate(("10.128.1.3", "10.128.1.4")):
        key = f"a/asks{number}"
        found.put(PODS, pod(key, "n1", {REQUEST: json.dumps([{"name": "x", "ips": [given]}])}))
        assert address(found, key) == f"{given}/24"


def test_a_completed_pod_does_not_keep_its_address_over_a_restart() -> None:
    before = bench()
    before.put(PODS, pod("a/job", "n1"))
    before.put(PODS, evolve(before.get(PODS, "a/job"), completed=True))
    after = restart(before)
    after.put(PODS, pod("a/asks", "n1", {REQUEST: '[{"name":"x","ips":["10.128.1.3/24"]}]'}))
    assert address(after, "a/asks") == "10.128.1.3/24"


def test_a_pod_that_is_created_again_elsewhere_moves() -> None:
    found = bench(zone="global", nodes=[worker(), worker("n2", "10.128.2.0/24")])
    found.put(PODS, pod("a/web", "n1", uid="1"))
    found.put(PODS, pod("a/web", "n2", uid="2"))
    port = port_of(found, "a/web")
    assert port is not None
    assert port.parent is not None
    assert port.parent.row == rows.node_switch("n2")
    assert address(found, "a/web") == "10.128.2.3/24"


def test_other_networks_in_the_annotation_stay() -> None:
    found = bench()
    found.put(PODS, pod("a/web", "n1", {POD_NETWORKS: '{"a/blue":{"ip_addresses":["10.0.0.1/8"]}}'}))
    value = json.loads(found.get(PODS, "a/web").annotations[POD_NETWORKS])
    assert value["a/blue"] == {"ip_addresses": ["10.0.0.1/8"]}
    assert value["default"]["ip_addresses"] == ["10.128.1.3/24"]


def test_an_annotation_that_says_the_same_in_other_words_is_left_alone() -> None:
    found = bench()
    found.put(PODS, pod("a/web", "n1"))
    text = found.get(PODS, "a/web").annotations[POD_NETWORKS]
    spaced = json.dumps(json.loads(text), indent=1)
    found.annotate(PODS, "a/web", {POD_NETWORKS: spaced})
    assert found.get(PODS, "a/web").annotations[POD_NETWORKS] == spaced


def test_an_annotation_that_is_removed_comes_back() -> None:
    found = bench()
    found.put(PODS, pod("a/web", "n1"))
    before = found.get(PODS, "a/web").annotations
    found.annotate(PODS, "a/web", {POD_NETWORKS: None})
    assert found.get(PODS, "a/web").annotations == before


# -- exhaustion -----------------------------------------------------------------------------------------------


def test_ten_thousand_pods_on_a_24_get_what_there_is_and_the_rest_an_event() -> None:
    found = bench(zone="global", nodes=[worker(), worker("n2", "10.128.2.0/24")])
    found.put(PODS, *(pod(f"many/p{number:05}", "n1") for number in range(10_000)))
    ports = found.rows("Logical_Switch_Port")
    assert len(ports) == 252
    addresses = {next(iter(port["addresses"])).split()[1] for port in ports.values()}
    assert len(addresses) == 252
    assert not addresses & {"10.128.1.0", "10.128.1.1", "10.128.1.2", "10.128.1.255"}
    refused = {key for key, reason, _ in found.events if reason == "Exhausted"}
    assert len(refused) == 10_000 - 252
    assert found.events[0][2] == "no IPv4 address left in n1"

    found.put(PODS, pod("other/web", "n2"))
    assert address(found, "other/web") == "10.128.2.3/24"

    served = sorted(name.replace("_", "/") for name in ports)
    freed = address(found, served[0])
    found.drop(PODS, served[0])
    assert len(found.rows("Logical_Switch_Port")) == 253
    now = set(found.rows("Logical_Switch_Port")) - set(ports) - {"other_web"}
    assert [address(found, name.replace("_", "/")) for name in now] == [freed]


def test_an_ipv6_subnet_is_used_up_to_65536_addresses() -> None:
    found = bench(config((6,)), nodes=[worker("n1", SUBNETS[6])])
    last = {REQUEST: '[{"name":"x","ips":["fd01:0:0:1::ffff"]}]'}
    beyond = {REQUEST: '[{"name":"x","ips":["fd01:0:0:1::1:0"]}]'}
    found.put(PODS, pod("a/last", "n1", last), pod("a/beyond", "n1", beyond))
    assert address(found, "a/last") == "fd01:0:0:1::ffff/64"
    assert [event[0] for event in found.events] == ["a/beyond"]


# -- requests -------------------------------------------------------------------------------------------------


def test_a_requested_address_and_mac_are_given() -> None:
    found = bench()
    asks = json.dumps(
        [{"name": "default", "namespace": "ovn-kubernetes", "ips": ["10.128.1.77/24"], "mac": "02:AA:00:00:00:01"}]
    )
    found.put(PODS, pod("a/web", "n1", {REQUEST: asks}))
    port = found.row("Logical_Switch_Port", "a_web")
    assert port["addresses"] == port["port_security"] == frozenset({"02:aa:00:00:00:01 10.128.1.77"})
    value = network(found, "a/web")
    assert value is not None
    assert (value["mac_address"], value["ip_addresses"]) == ("02:aa:00:00:00:01", ["10.128.1.77/24"])
    after = restart(found)
    assert network(after, "a/web") == value


def test_a_request_for_one_family_leaves_the_other_to_chance() -> None:
    found = bench(config((4, 6)), nodes=[worker("n1", SUBNETS[4], SUBNETS[6])])
    found.put(PODS, pod("a/web", "n1", {REQUEST: '[{"name":"x","ips":["fd01:0:0:1::99"]}]'}))
    value = network(found, "a/web")
    assert value is not None
    assert value["ip_addresses"] == ["10.128.1.3/24", "fd01:0:0:1::99/64"]


@pytest.mark.parametrize(
    "given",
    ["fd01:0:0:1::60%x", "fd01:0:0:1::60%x/64", 'fd01:0:0:1::60%x","role":"primary', "fd01:0:0:1::60%\n",
     "::ffff:10.128.1.60", "10.128.1.60/255.255.255.0", "10.128.1.\u0666\u0660"],
)  # fmt: skip
def test_an_address_that_others_read_differently_is_refused(given: str) -> None:
    """Two texts of one address would be two addresses here, and one on the wire."""
    found = bench(config((4, 6)), nodes=[worker("n1", SUBNETS[4], SUBNETS[6])])
    found.put(PODS, pod("a/thief", "n1", {REQUEST: json.dumps([{"name": "default", "ips": [given]}])}))
    plain = json.dumps([{"name": "default", "ips": ["fd01:0:0:1::60", "10.128.1.60"]}])
    found.put(PODS, pod("a/web", "n1", {REQUEST: plain}))
    assert [(key, reason) for key, reason, _ in found.events] == [("a/thief", "InvalidNetworkRequest")]
    value = network(found, "a/web")
    assert value is not None
    assert value["ip_addresses"] == ["10.128.1.60/24", "fd01:0:0:1::60/64"]
    assert set(found.rows("Logical_Switch_Port")) == {"a_web"}
    assert POD_NETWORKS not in found.get(PODS, "a/thief").annotations


@pytest.mark.parametrize("text", ["default", "ovn-kubernetes/default", "ovn-kubernetes/default@eth0"])
def test_a_network_by_name_asks_for_nothing(text: str) -> None:
    found = bench()
    found.put(PODS, pod("a/web", "n1", {REQUEST: text}))
    assert address(found, "a/web") == "10.128.1.3/24"


@pytest.mark.parametrize(
    ("asks", "says"),
    [
        ("nonsense, really", "neither JSON nor one network's name"),
        ("[]", "exactly one network selection element"),
        ('[{"name":"a"},{"name":"b"}]', "exactly one network selection element"),
        ("[7]", "exactly one network selection element"),
        ("[{}]", "the element has no name"),
        ('[{"name":"x","ips":"10.128.1.7"}]', "ips is not a list of strings"),
        ('[{"name":"x","ips":["10.128.1.x"]}]', "'10.128.1.x'"),
        ('[{"name":"x","ips":["10.128.1.7","10.128.1.8"]}]', "two addresses of one family"),
        ('[{"name":"x","ips":["10.128.2.7"]}]', "10.128.2.7 is not in a subnet of node n1"),
        ('[{"name":"x","ips":["fd01::7"]}]', "fd01::7 is not in a subnet of node n1"),
        ('[{"name":"x","ips":["10.128.1.1"]}]', "IPv4 address 10.128.1.1 can't be used"),
        ('[{"name":"x","ips":["10.128.1.2"]}]', "IPv4 address 10.128.1.2 can't be used"),
        ('[{"name":"x","ips":["10.128.1.0"]}]', "IPv4 address 10.128.1.0 can't be used"),
        ('[{"name":"x","ips":["10.128.1.255"]}]', "IPv4 address 10.128.1.255 can't be used"),
        ('[{"name":"x","ips":["10.128.1.3"]}]', "IPv4 address 10.128.1.3 is in use by a/first"),
        ('[{"name":"x","mac":"02:00"}]', "not a MAC address"),
        ('[{"name":"x","mac":"01:00:5e:00:00:01"}]', "not a unicast MAC address"),
        ('[{"name":"x","mac":"0a:58:0a:80:01:03"}]', "those starting with 0a:58: derive from addresses"),
        ('[{"name":"x","mac":"02:00:00:00:00:01"}]', "is in use by a/static"),
    ],
)
def test_a_bad_request_gets_an_event_on_the_pod_and_healing_it_is_enough(asks: str, says: str) -> None:
    found = bench()
    static = {REQUEST: '[{"name":"x","mac":"02:00:00:00:00:01"}]'}
    found.put(PODS, pod("a/first", "n1"))
    found.put(PODS, pod("a/static", "n1", static))
    found.put(PODS, pod("a/bad", "n1", {REQUEST: asks}), pod("a/good", "n1"))
    assert [event[0] for event in found.events] == ["a/bad"]
    assert says in found.events[0][2]
    assert set(found.rows("Logical_Switch_Port")) == {"a_first", "a_static", "a_good"}
    found.annotate(PODS, "a/bad", {REQUEST: None})
    assert "a_bad" in found.rows("Logical_Switch_Port")
    assert found.failures == {}


def test_a_requested_address_is_given_as_soon_as_its_holder_goes() -> None:
    found = bench()
    found.put(PODS, pod("a/first", "n1"))
    found.put(PODS, pod("a/asks", "n1", {REQUEST: '[{"name":"x","ips":["10.128.1.3"]}]'}))
    assert address(found, "a/asks") is None
    found.drop(PODS, "a/first")
    assert address(found, "a/asks") == "10.128.1.3/24"


# -- annotations written by hand ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"default":7}', "not a JSON object"),
        (annotation("192.168.0.7/24")[POD_NETWORKS], "192.168.0.7/24 is not in a subnet of node n1"),
        (annotation("10.128.2.7/24")[POD_NETWORKS], "10.128.2.7/24 is not in a subnet of node n1"),
        (annotation("10.128.1.7/16")[POD_NETWORKS], "10.128.1.7/16 is not in a subnet of node n1"),
        (annotation("10.128.1.1/24")[POD_NETWORKS], "IPv4 address 10.128.1.1 can't be used"),
        (annotation("10.128.1.3/24", "02:00:00:00:00:07")[POD_NETWORKS], "10.128.1.3 is in use by a/first"),
        (
            annotation("10.128.1.7/24", "0a:58:0a:80:01:03")[POD_NETWORKS],
            "those starting with 0a:58: derive from addresses",
        ),
        (annotation("10.128.1.7/24", "drop")[POD_NETWORKS], "not a MAC address"),
    ],
)
def test_an_annotation_by_hand_gets_an_event_and_healing_it_is_enough(text: str, says: str) -> None:
    found = bench()
    found.put(PODS, pod("a/first", "n1"))
    found.put(PODS, pod("a/bad", "n1", {POD_NETWORKS: text}), pod("a/good", "n1"))
    assert [event[0] for event in found.events] == ["a/bad"]
    assert says in found.events[0][2]
    assert set(found.rows("Logical_Switch_Port")) == {"a_first", "a_good"}
    assert found.get(PODS, "a/bad").annotations[POD_NETWORKS] == text
    found.annotate(PODS, "a/bad", {POD_NETWORKS: None})
    assert "a_bad" in found.rows("Logical_Switch_Port")
    assert found.failures == {}


def started(*pods: Any) -> Bench:
    """A new process that lists these pods at once, in this order."""
    found = bench(nodes=[])
    found.reconciler.observe(NODES, [("n1", worker())])
    found.reconciler.observe(PODS, [(view.key, view) for view in pods])
    found.settle()
    return found


FOREIGN = [
    '{"x":NaN}',
    "Infinity",
    "1e400",
    r'"\ud800"',
    "18446744073709551616",
    "[" * 2000 + "]" * 2000,
    "what",
    '{"a" : 1.0}',
]
"""What is no JSON to this or that parser, or comes out changed."""


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda text: text[:20])
def test_what_another_network_writes_frees_nothing_and_is_kept_letter_for_letter(foreign: str) -> None:
    before = bench()
    before.put(
        PODS, pod("a/web", "n1"), pod("a/static", "n1", {REQUEST: '[{"name":"x","mac":"02:00:00:00:00:01"}]'})
    )
    for key in ("a/web", "a/static"):
        text = before.get(PODS, key).annotations[POD_NETWORKS]
        before.annotate(PODS, key, {POD_NETWORKS: f'{text[:-1]},"other/net":{foreign}}}'})
    assert (before.events, before.failures) == ([], {})

    asks = '[{"name":"x","ips":["%s"],"mac":"%s"}]'
    after = started(
        pod("a/new", "n1"),
        pod("a/thief", "n1", {REQUEST: asks % ("10.128.1.3", "02:00:00:00:00:09")}),
        pod("b/thief", "n1", {REQUEST: asks % ("10.128.1.88", "02:00:00:00:00:01")}),
        before.get(PODS, "a/web"),
        before.get(PODS, "a/static"),
    )
    assert address(after, "a/new") == "10.128.1.5/24"
    assert {key for key, _, _ in after.events} == {"a/thief", "b/thief"}
    assert set(after.rows("Logical_Switch_Port")) == {"a_web", "a_static", "a_new"}

    altered = after.get(PODS, "a/web").annotations[POD_NETWORKS].replace('"role":"primary"', '"role":"secondary"')
    after.annotate(PODS, "a/web", {POD_NETWORKS: altered})
    healed = after.get(PODS, "a/web").annotations[POD_NETWORKS]
    assert '"role":"primary"' in healed
    assert healed.endswith(f',"other/net":{foreign}}}')


BROKEN = [
    "{",
    "",
    "{}",
    "[]",
    '{"default":7}',
    '{"default":{"ip_addresses":"10.128.1.3/24"}}',
    '{"default":{"ip_addresses":["x"]}}',
]


@pytest.mark.parametrize("text", [*BROKEN, None])
def test_an_annotation_that_cannot_be_read_frees_nothing_over_a_restart(text: str | None) -> None:
    """The pod runs with what its status says."""
    damaged = pod("z/web", "n1", {} if text is None else {POD_NETWORKS: text}, addresses=("10.128.1.3",))
    asks = pod("a/thief", "n1", {REQUEST: '[{"name":"x","ips":["10.128.1.3"]}]'})
    after = started(asks, pod("a/new", "n1"), damaged)
    assert address(after, "a/new") == "10.128.1.4/24"
    assert ("a/thief", "AlreadyInUse") in [(key, reason) for key, reason, _ in after.events]
    assert list(podaddresses.ipv4(after.get(PODS, "z/web"))) == ["10.128.1.3"]


@pytest.mark.parametrize(
    "damage",
    [
        {"mac_address": "drop"},
        {"ip_addresses": ["10.128.1.3/24", "fd01::5%x/64"]},
        {"role": "boss"},
        {"routes": 5},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_what_can_be_read_of_a_damaged_annotation_stays_taken(damage: dict[str, Any]) -> None:
    hand = annotation("10.128.1.3/24", "02:00:00:00:00:01")
    whole = json.loads(hand[POD_NETWORKS])
    whole["default"] |= damage
    damaged = pod("z/web", "n1", {POD_NETWORKS: json.dumps(whole)})
    asks = '[{"name":"x","ips":["10.128.1.88"],"mac":"02:00:00:00:00:01"}]'
    thief = pod("a/thief", "n1", {REQUEST: asks})
    after = started(pod("a/new", "n1"), thief, damaged)
    assert address(after, "a/new") == "10.128.1.4/24"
    assert ("a/thief" in {key for key, _, _ in after.events}) is ("mac_address" not in damage)


@pytest.mark.parametrize(
    ("rightful", "other"),
    [
        ({}, {}),
        ({"addresses": ("10.128.1.9",), "created": "2"}, {"created": "1"}),
        ({"created": "1"}, {"created": "2"}),
    ],
    ids=["by name", "the one that runs with it", "the older one"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_two_pods_annotated_with_one_address_the_other_one_is_told(
    rightful: dict[str, Any], other: dict[str, Any], order: int
) -> None:
    names = ("a/one", "b/two") if rightful == other else ("z/one", "b/two")
    twice = [
        pod(key, "n1", annotation("10.128.1.9/24"), **more)
        for key, more in zip(names, (rightful, other), strict=True)
    ]
    found = bench(zone="global", nodes=[])
    found.reconciler.observe(NODES, [("n1", worker())])
    found.reconciler.observe(PODS, [(view.key, view) for view in twice[::order]])
    found.settle()
    assert [event[0] for event in found.events] == ["b/two"]
    assert set(found.rows("Logical_Switch_Port")) == {names[0].replace("/", "_")}
    found.drop(PODS, names[0])
    assert set(found.rows("Logical_Switch_Port")) == {"b_two"}


def test_a_node_whose_subnet_is_foreign_stops_only_its_own_pods() -> None:
    nodes = [worker(), worker("bad", "192.168.0.0/24")]
    found = bench(zone="global", nodes=nodes)
    found.put(PODS, pod("a/good", "n1"), pod("a/waits", "bad"))
    assert set(found.rows("Logical_Switch_Port")) == {"a_good"}
    found.annotate(NODES, "bad", {"k8s.ovn.org/node-subnets": '{"default":["10.128.3.0/24"]}'})
    assert address(found, "a/waits") == "10.128.3.3/24"
