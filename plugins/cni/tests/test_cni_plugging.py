"""ADD, DEL, CHECK, GC and STATUS with real namespaces and a real Open vSwitch."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.models import Pod
from ovnkit.network.pod import ANNOTATION
from ovnkit_cni.hygiene import sweep

pytestmark = pytest.mark.ovn

ID = "0123456789abcdef0123456789abcdef"
HOST = ID[:15]
CONFIG = {"cniVersion": "1.1.0", "name": "ovn-kubernetes", "type": "ovn-k8s-cni-overlay"}


def host_links() -> set[str]:
    out = subprocess.run(["ip", "-j", "link", "show"], check=True, capture_output=True, text=True).stdout
    return {link["ifname"] for link in json.loads(out)}


def network(pod: Pod, **changes: Any) -> Pod:
    found = json.loads(pod.annotations[ANNOTATION])
    found["default"].update(changes)
    return evolve(pod, annotations={**pod.annotations, ANNOTATION: json.dumps(found)})


def test_add_makes_interface_addresses_routes_and_port(node: Any, sandbox: Any, pod: Pod) -> None:
    result = node.add(netns=sandbox.path)
    assert sandbox.addresses() == {"10.128.1.5/24", "fd00:10:244:2::5/64"}
    (link,) = sandbox.ip("link", "show", "dev", "eth0")
    assert (link["address"], link["mtu"], link["operstate"]) == ("0a:58:0a:80:01:05", 1400, "UP")
    v4 = {(item["dst"], item.get("gateway")) for item in sandbox.ip("-4", "route", "show")}
    assert v4 >= {("default", "10.128.1.1"), ("10.128.0.0/14", "10.128.1.1"), ("172.16.1.0/24", "10.128.1.1")}
    v6 = {(item["dst"], item.get("gateway")) for item in sandbox.ip("-6", "route", "show")}
    assert v6 >= {("default", "fd00:10:244:2::1"), ("fd00:10:244::/48", "fd00:10:244:2::1")}
    assert "tentative" not in json.dumps(sandbox.ip("-6", "addr", "show", "dev", "eth0"))
    ids = {
        "attached_mac": "0a:58:0a:80:01:05",
        "iface-id": "shop_web",
        "iface-id-ver": "uid-1",
        "sandbox": ID,
        "pod-if-name": "eth0",
        "ip_addresses": "10.128.1.5/24,fd00:10:244:2::5/64",
        "ovn-installed": "true",
    }
    assert node.interfaces()[HOST] == ids
    assert node.vsctl("get", "Port", HOST, "other_config:transient") == '"true"'
    assert result["cniVersion"] == "1.1.0"
    assert [item["name"] for item in result["interfaces"]] == [HOST, "eth0"]
    assert result["interfaces"][1]["sandbox"] == sandbox.path
    assert result["ips"] == [
        {"interface": 1, "address": "10.128.1.5/24", "gateway": "10.128.1.1"},
        {"interface": 1, "address": "fd00:10:244:2::5/64", "gateway": "fd00:10:244:2::1"},
    ]
    features = subprocess.run(
        ["ip", "netns", "exec", sandbox.name, "ethtool", "-k", "eth0"], check=True, capture_output=True, text=True
    ).stdout
    assert "tx-checksumming: off" in features


@pytest.mark.parametrize(
    ("version", "families"), [("0.3.1", (4,)), ("0.4.0", (6,)), ("1.0.0", (4, 6))], ids=["v4", "v6", "dual"]
)
def test_each_version_and_family(
    node: Any, sandbox: Any, pod: Pod, version: str, families: tuple[int, ...]
) -> None:
    addresses = {4: "10.128.1.5/24", 6: "fd00:10:244:2::5/64"}
    gateways = {4: "10.128.1.1", 6: "fd00:10:244:2::1"}
    node.runtime.set(
        network(
            pod,
            ip_addresses=[addresses[family] for family in families],
            gateway_ips=[gateways[family] for family in families],
            routes=[],
        )
    )
    result = node.add(netns=sandbox.path, config=CONFIG | {"cniVersion": version})
    assert sandbox.addresses() == {addresses[family] for family in families}
    assert result["cniVersion"] == version
    assert [item["address"] for item in result["ips"]] == [addresses[family] for family in families]
    expected = [str(family) for family in families] if version.startswith("0.") else [None] * len(families)
    assert [item.get("version") for item in result["ips"]] == expected


def test_del_removes_everything_and_may_come_twice(node: Any, sandbox: Any, pod: Pod) -> None:
    pod = node.runtime.set(evolve(pod, annotations={**pod.annotations, "kubernetes.io/ingress-bandwidth": "10M"}))
    node.add(netns=sandbox.path)
    assert node.vsctl("list", "QoS")
    node.runtime.delete(pod.key)
    for _ in range(2):
        assert node.cni("DEL", netns="") == (0, None)
        assert node.pods_plugged() == set()
        assert HOST not in host_links()
        assert not sandbox.has("eth0")
        assert node.vsctl("list", "QoS") + node.vsctl("list", "Queue") == ""


def test_add_waits_for_the_annotation(node: Any, sandbox: Any, pod: Pod) -> None:
    bare = node.runtime.set(evolve(pod, annotations={}))
    process = node.start_cni("ADD", netns=sandbox.path)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    node.runtime.set(evolve(bare, annotations=pod.annotations))
    node.install()
    assert process.wait(10) == 0
    assert sandbox.addresses() == {"10.128.1.5/24", "fd00:10:244:2::5/64"}
    process.communicate()


def test_a_failed_add_leaves_nothing_behind(node: Any, sandbox: Any, pod: Pod) -> None:
    before = host_links()
    process = node.start_cni("ADD", netns=sandbox.path)
    deadline_of_port(node)
    node.runtime.delete(pod.key)
    out, _ = process.communicate(timeout=10)
    error = json.loads(out)
    assert process.returncode == 1
    assert (error["code"], error["msg"]) == (3, "pod shop/web was deleted")
    assert node.pods_plugged() == set()
    assert host_links() == before
    assert not sandbox.has("eth0")


def deadline_of_port(node: Any) -> None:
    from time import monotonic, sleep

    end = monotonic() + 10
    while not node.pods_plugged():
        assert monotonic() < end, "no port"
        sleep(0.02)


def test_a_route_that_cannot_be_made_fails_and_cleans_up(node: Any, sandbox: Any, pod: Pod) -> None:
    subprocess.run(["ip", "-n", sandbox.name, "link", "add", "name", "eth0", "type", "veth"], check=True)
    before = host_links()
    status, error = node.cni("ADD", netns=sandbox.path)
    assert status == 1
    assert "exists already" in error["msg"]
    assert host_links() == before
    assert node.pods_plugged() == set()
    assert sandbox.has("eth0"), "what was there before stays"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ip_addresses": ["10.128.1.5"]}, "with a prefix length"),
        ({"ip_addresses": ["10.128.1.5/24", "10.128.1.6/24"]}, "two addresses of one family"),
        ({"ip_addresses": ["10.128.1.999/24"]}, "10.128.1.999"),
        ({"mac_address": "zz"}, "is not a MAC address"),
        (
            {"ip_addresses": ["192.168.0.7/24"], "gateway_ips": [], "routes": []},
            "192.168.0.7/24 is not in a subnet of node n1 (10.128.1.0/24, fd00:10:244:2::/64)",
        ),
        ({"gateway_ips": ["192.0.2.1"]}, "192.0.2.1 is not in 10.128.1.0/24"),
        ({"routes": [{"dest": "0.0.0.0/0", "nextHop": "10.128.1.1"}]}, "default route"),
        ({"routes": [{"dest": "10.0.0.0/8; reboot", "nextHop": "10.128.1.1"}]}, "is not a CIDR"),
    ],
)
def test_nonsense_in_the_annotation_is_named(
    node: Any, sandbox: Any, pod: Pod, change: dict[str, Any], words: str
) -> None:
    node.runtime.set(network(pod, **change))
    status, error = node.cni("ADD", netns=sandbox.path)
    assert (status, error["code"]) == (1, 102)
    assert words in error["msg"]
    assert "shop/web" in error["msg"]
    node.runtime.set(pod)
    node.add(netns=sandbox.path)


def test_an_annotation_that_is_no_json(node: Any, sandbox: Any, pod: Pod) -> None:
    node.runtime.set(evolve(pod, annotations={ANNOTATION: "{'default': oops"}))
    status, error = node.cni("ADD", netns=sandbox.path)
    assert (status, error["code"]) == (1, 102)
    assert "not JSON" in error["msg"]


def test_wrong_uid_unknown_pod_and_missing_namespace(node: Any, sandbox: Any, pod: Pod) -> None:
    status, error = node.cni("ADD", netns=sandbox.path, uid="another")
    assert (status, error["code"]) == (1, 3)
    assert "uid-1" in error["msg"]
    status, error = node.cni("ADD", netns=sandbox.path, pod="nobody")
    assert (status, error["code"], error["msg"]) == (1, 3, "pod shop/nobody does not exist")
    status, error = node.cni("ADD", netns="/run/netns/nowhere")
    assert (status, error["code"]) == (1, 4)
    status, error = node.cni("ADD", netns="/etc/passwd")
    assert (status, error["code"]) == (1, 4)
    assert "not a network namespace" in error["msg"]
    assert node.pods_plugged() == set()


def test_a_container_id_like_a_link_of_the_node_harms_it_not(node: Any, sandbox: Any, pod: Pod) -> None:
    subprocess.run(["ip", "link", "add", "name", "uplink", "type", "veth", "peer", "name", "far"], check=True)
    assert node.cni("DEL", sandbox="uplink") == (0, None)
    assert "uplink" in host_links()
    status, error = node.cni("ADD", sandbox="uplink", netns=sandbox.path)
    assert status == 1
    assert "exists already" in error["msg"]
    assert "uplink" in host_links()


def test_bandwidth(node: Any, sandbox: Any, pod: Pod) -> None:
    limits = {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "2500k"}
    node.runtime.set(evolve(pod, annotations={**pod.annotations, **limits}))
    node.add(netns=sandbox.path)
    assert node.vsctl("get", "Interface", HOST, "ingress_policing_rate", "ingress_policing_burst") == "2500\n250"
    assert node.vsctl("--columns=type,external_ids", "list", "QoS").split() == [
        "type", ":", "linux-htb", "external_ids", ":", f'{{sandbox="{ID}"}}',
    ]  # fmt: skip
    assert 'max-rate="10000000"' in node.vsctl("--columns=other_config", "list", "Queue")
    node.runtime.set(evolve(pod, annotations={**pod.annotations, "kubernetes.io/ingress-bandwidth": "5"}))
    status, error = node.cni("ADD", netns=sandbox.path)
    assert (status, error["code"]) == (1, 102)
    assert "1k to 1P" in error["msg"]


def test_check_finds_what_is_missing(node: Any, sandbox: Any, pod: Pod) -> None:
    result = node.add(netns=sandbox.path)
    config = CONFIG | {"prevResult": result}

    def check() -> tuple[int, Any]:
        status, answer = node.cni("CHECK", netns=sandbox.path, config=config)
        return (status, answer and (answer["code"], answer["msg"]))

    assert check() == (0, None)
    subprocess.run(["ip", "-n", sandbox.name, "route", "del", "172.16.1.0/24"], check=True)
    assert check() == (1, (101, "eth0 lacks the route to 172.16.1.0/24 via 10.128.1.1"))
    subprocess.run(["ip", "-n", sandbox.name, "addr", "del", "10.128.1.5/24", "dev", "eth0"], check=True)
    assert check() == (1, (101, "eth0 lacks address 10.128.1.5/24"))
    subprocess.run(["ip", "-n", sandbox.name, "link", "set", "eth0", "down"], check=True)
    assert check() == (1, (101, f"interface eth0 in {sandbox.path} is down"))
    node.vsctl("del-port", HOST)
    assert check() == (1, (101, f"sandbox {ID} has no port on br-int"))
    status, error = node.cni("CHECK", netns=sandbox.path)
    assert (status, error["code"]) == (1, 7)


def test_gc_removes_what_the_runtime_does_not_know(node: Any, pod: Pod, sandbox_maker: Callable[[], Any]) -> None:
    one, two = sandbox_maker(), sandbox_maker()
    node.runtime.set(evolve(network(pod, mac_address="0a:58:0a:80:01:06"), name="db", uid="uid-2"))
    node.add(netns=one.path, sandbox="a" * 20)
    node.add(netns=two.path, sandbox="b" * 20, pod="db", uid="uid-2")
    valid = [{"containerID": "b" * 20, "ifname": "eth0"}]
    assert node.cni("GC", config=CONFIG | {"cni.dev/valid-attachments": valid}) == (0, None)
    assert node.pods_plugged() == {"b" * 15}
    assert not one.has("eth0")
    assert two.has("eth0")
    status, error = node.cni("GC")
    assert (status, error["code"]) == (1, 6)


@pytest.mark.parametrize(
    "valid",
    [[{"containerID": ["b"], "ifname": "eth0"}], [{"containerID": "b"}], [7]],
    ids=["type", "missing", "item"],
)
def test_gc_with_a_list_that_cannot_be_read_removes_nothing(node: Any, sandbox: Any, pod: Pod, valid: Any) -> None:
    node.add(netns=sandbox.path)
    status, error = node.cni("GC", config=CONFIG | {"cni.dev/valid-attachments": valid})
    assert (status, error["code"]) == (1, 6)
    assert node.pods_plugged() == {HOST}


def test_the_network_namespace_of_the_node_is_no_pods(node: Any, pod: Pod) -> None:
    before = host_links()
    status, error = node.cni("ADD", netns="/proc/self/ns/net")
    assert (status, error["code"]) == (1, 4)
    assert "is the node's own" in error["msg"]
    assert host_links() == before
    assert node.pods_plugged() == set()
    routes = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    assert routes == ""


def test_status_tells_whether_pods_can_be_added(node: Any) -> None:
    assert node.cni("STATUS") == (0, None)
    node.commands.stopping.set()
    status, error = node.cni("STATUS")
    assert (status, error["code"]) == (1, 50)


@pytest.mark.parametrize("hangs", [False, True], ids=["away", "hangs"])
def test_status_while_the_database_is_away(node: Any, tmp_path: Path, monkeypatch: Any, hangs: bool) -> None:
    assert node.cni("STATUS") == (0, None)
    monkeypatch.setattr("ovnkit_cni.switch._ANSWERING", 0.2)
    paths = evolve(node.runtime.config.ovspaths, ovs_run_dir=str(tmp_path))
    node.runtime.config = evolve(node.runtime.config, ovspaths=paths)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "db.sock"))
        if hangs:
            server.listen()
        status, error = node.cni("STATUS")
    assert (status, error["code"]) == (1, 50)
    assert "Open vSwitch's database doesn't answer" in error["msg"]


def test_requests_for_one_sandbox_take_turns_others_run_in_parallel(
    node: Any, pod: Pod, sandbox_maker: Callable[[], Any]
) -> None:
    one, two = sandbox_maker(), sandbox_maker()
    other = network(pod, mac_address="0a:58:0a:80:01:06")
    node.runtime.set(evolve(other, name="db", uid="uid-2"))
    adding = node.start_cni("ADD", netns=one.path, sandbox="a" * 20)
    deadline_of_port(node)
    checking = node.start_cni("CHECK", netns=one.path, sandbox="a" * 20, config=CONFIG | {"prevResult": {}})
    node.add(netns=two.path, sandbox="b" * 20, pod="db", uid="uid-2")
    with pytest.raises(subprocess.TimeoutExpired):
        checking.wait(0.5)
    node.vsctl("set", "Interface", "a" * 15, "external_ids:ovn-installed=true")
    assert adding.wait(10) == 0
    assert checking.wait(10) == 0
    assert node.pods_plugged() == {"a" * 15, "b" * 15}
    for process in (adding, checking):
        process.communicate()


def test_a_new_sandbox_of_a_pod_replaces_the_old_port(
    node: Any, pod: Pod, sandbox_maker: Callable[[], Any]
) -> None:
    node.add(netns=sandbox_maker().path, sandbox="a" * 20)
    node.add(netns=sandbox_maker().path, sandbox="b" * 20)
    assert node.pods_plugged() == {"b" * 15}


def test_a_stopping_server_sends_waiting_requests_away(node: Any, sandbox: Any, pod: Pod) -> None:
    process = node.start_cni("ADD", netns=sandbox.path)
    deadline_of_port(node)
    node.commands.stopping.set()
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, json.loads(out)["code"]) == (1, 11)
    assert node.pods_plugged() == set()


def test_the_sweep_takes_ports_of_pods_that_are_gone(
    node: Any, pod: Pod, sandbox_maker: Callable[[], Any]
) -> None:
    one, two = sandbox_maker(), sandbox_maker()
    node.runtime.set(evolve(network(pod, mac_address="0a:58:0a:80:01:06"), name="db", uid="uid-2"))
    node.add(netns=one.path, sandbox="a" * 20)
    node.add(netns=two.path, sandbox="b" * 20, pod="db", uid="uid-2")
    sweep(node.runtime, node.commands)
    assert node.pods_plugged() == {"a" * 15, "b" * 15}
    node.runtime.delete(pod.key)
    sweep(node.runtime, node.commands)
    assert node.pods_plugged() == {"b" * 15}
    assert not one.has("eth0")
    assert two.has("eth0")


@pytest.mark.parametrize("installed", [False, True], ids=["waiting", "just-installed"])
def test_a_corrected_annotation_ends_the_wait_for_the_wrong_one(
    node: Any, sandbox: Any, pod: Pod, installed: bool
) -> None:
    node.runtime.set(network(pod, ip_addresses=["10.128.1.7/24"], gateway_ips=[], routes=[]))
    process = node.start_cni("ADD", netns=sandbox.path)
    deadline_of_port(node)
    node.runtime.set(pod)
    if installed:
        node.install()
    out, _ = process.communicate(timeout=10)
    error = json.loads(out)
    assert (process.returncode, error["code"]) == (1, 11)
    assert "changed meanwhile" in error["msg"]
    node.add(netns=sandbox.path)
    assert sandbox.addresses() == {"10.128.1.5/24", "fd00:10:244:2::5/64"}


def test_an_api_server_that_is_away_means_try_again(node: Any, sandbox: Any, monkeypatch: Any) -> None:
    def away(_kind: Any, _key: str) -> Any:
        raise ConnectionError("connection refused")

    monkeypatch.setattr(node.runtime, "refresh", away)
    status, error = node.cni("ADD", netns=sandbox.path)
    assert (status, error["code"]) == (1, 11)
    assert "connection refused" in error["msg"]
