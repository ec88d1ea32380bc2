"""An attachment is a network, a container and an interface: requests about another one leave it alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.models import Pod
from ovnkit.network.pod import ANNOTATION

pytestmark = pytest.mark.ovn

ID = "0123456789abcdef0123456789abcdef"
HOST = ID[:15]
CONFIG = {"cniVersion": "1.1.0", "name": "ovn-kubernetes", "type": "ovn-k8s-cni-overlay"}
LAYER2 = CONFIG | {"name": "blue", "topology": "layer2", "netAttachDefName": "shop/blue", "subnets": "10.9.0.0/16"}
OTHERS = {
    "a definition with a topology": ({"config": LAYER2, "ifname": "net1"}, "network shop/blue: only the cluster"),
    "a topology alone": (
        {"config": CONFIG | {"topology": "layer2"}, "ifname": "net1"},
        "only the cluster network",
    ),
    "a definition alone": ({"config": CONFIG | {"netAttachDefName": "shop/blue"}, "ifname": "net1"}, "shop/blue"),
    "a definition on eth0": ({"config": LAYER2}, "network shop/blue: only the cluster network"),
    "a topology on eth0 of a network of the same name": ({"config": CONFIG | {"topology": "layer3"}}, "only the"),
    "another interface": ({"ifname": "net1"}, "the sandbox has eth0 on network ovn-kubernetes already"),
    "another network": ({"config": CONFIG | {"name": "blue"}}, "the sandbox has eth0 on network ovn-kubernetes"),
}


def port_ids(node: Any, name: str = HOST) -> dict[str, str]:
    return dict(
        json.loads(node.vsctl("--format=json", "--columns=external_ids", "list", "Port", name))["data"][0][0][1]
    )


def as_a_former_version(node: Any, sandbox: Any) -> None:
    """Leave of a plugged pod what a former version would have: the sandbox in the alias, nothing on the Port."""
    node.vsctl("clear", "Port", HOST, "external_ids")
    subprocess.run(["ip", "link", "set", HOST, "alias", f"ovnkit sandbox {ID}"], check=True)


@pytest.fixture(params=["now", "former version"])
def plugged(request: Any, node: Any, sandbox: Any, pod: Pod) -> dict[str, Any]:
    """The result of ADD for eth0."""
    result: dict[str, Any] = node.add(netns=sandbox.path)
    if request.param == "former version":
        as_a_former_version(node, sandbox)
    return result


def untouched(node: Any, sandbox: Any, result: Any) -> bool:
    assert node.pods_plugged() == {HOST}
    assert sandbox.addresses() == {"10.128.1.5/24", "fd00:10:244:2::5/64"}
    return bool(node.cni("CHECK", netns=sandbox.path, config=CONFIG | {"prevResult": result}) == (0, None))


def test_the_attachment_is_recorded_on_the_port(node: Any, sandbox: Any, pod: Pod) -> None:
    node.add(netns=sandbox.path)
    ids = port_ids(node)
    assert ids["ovnkit.io/network"] == "ovn-kubernetes"
    assert (ids["ovnkit.io/netns"], ids["ovnkit.io/mtu"]) == (sandbox.path, "1400")
    assert json.loads(ids["ovnkit.io/pod-networks"]) == json.loads(pod.annotations[ANNOTATION])


@pytest.mark.parametrize(("other", "says"), OTHERS.values(), ids=OTHERS)
def test_add_of_another_attachment_is_refused_and_eth0_stays(
    node: Any, sandbox: Any, plugged: Any, other: dict[str, Any], says: str
) -> None:
    status, error = node.cni("ADD", netns=sandbox.path, **other)
    assert (status, error["code"]) == (1, 7)
    assert says in error["msg"]
    assert not sandbox.has("net1")
    assert untouched(node, sandbox, plugged)


@pytest.mark.parametrize("other", [other for other, _ in OTHERS.values()], ids=OTHERS)
def test_del_and_check_of_another_attachment_leave_eth0_alone(
    node: Any, sandbox: Any, plugged: Any, other: dict[str, Any]
) -> None:
    checked = {**other, "config": other.get("config", CONFIG) | {"prevResult": plugged}}
    status, error = node.cni("CHECK", netns=sandbox.path, **checked)
    assert status == 1
    assert error["code"] in (7, 101)
    assert node.cni("DEL", netns=sandbox.path, **other) == (0, None)
    assert untouched(node, sandbox, plugged)
    # without the port too: the link alone says whose it is
    node.vsctl("del-port", HOST)
    assert node.cni("DEL", netns=sandbox.path, **other) == (0, None)
    assert sandbox.has("eth0")
    assert node.cni("DEL", netns=sandbox.path) == (0, None)
    assert not sandbox.has("eth0")


def test_add_of_another_network_without_eth0_is_refused_too(node: Any, sandbox: Any, pod: Pod) -> None:
    status, error = node.cni("ADD", netns=sandbox.path, ifname="net1", config=LAYER2)
    assert (status, error["code"]) == (1, 7)
    assert node.pods_plugged() == set()


def test_the_cluster_network_may_have_another_name(node: Any, sandbox: Any, pod: Pod) -> None:
    own = CONFIG | {"name": "cluster-network"}
    result = node.add(netns=sandbox.path, config=own)
    assert node.cni("CHECK", netns=sandbox.path, config=own | {"prevResult": result}) == (0, None)
    assert node.cni("DEL", netns=sandbox.path) == (0, None)
    assert sandbox.has("eth0")
    assert node.cni("DEL", netns=sandbox.path, config=own) == (0, None)
    assert not sandbox.has("eth0")
    assert node.pods_plugged() == set()


def test_add_again_plugs_again(node: Any, sandbox: Any, plugged: Any) -> None:
    node.vsctl("del-port", HOST)
    node.add(netns=sandbox.path)
    assert untouched(node, sandbox, plugged)


@pytest.mark.parametrize("name", ["blue", "ovn-kubernetes"])
@pytest.mark.parametrize("definition", [{}, {"topology": "layer3", "netAttachDefName": "shop/blue"}])
def test_gc_of_another_network_removes_nothing_of_this_one(
    node: Any, sandbox: Any, plugged: Any, name: str, definition: dict[str, str]
) -> None:
    config = CONFIG | definition | {"name": name, "cni.dev/valid-attachments": []}
    assert node.cni("GC", config=config) == (0, None)
    if name == "blue" or definition:
        assert untouched(node, sandbox, plugged)
    else:
        assert node.pods_plugged() == set()
        assert not sandbox.has("eth0")


def test_gc_looks_at_container_and_interface(node: Any, sandbox: Any, plugged: Any) -> None:
    def collect(*valid: dict[str, str]) -> None:
        assert node.cni("GC", config=CONFIG | {"cni.dev/valid-attachments": list(valid)}) == (0, None)

    collect({"containerID": ID, "ifname": "eth0"}, {"containerID": "other", "ifname": "net1"})
    assert untouched(node, sandbox, plugged)
    collect({"containerID": ID, "ifname": "net1"})
    assert node.pods_plugged() == set()


@pytest.mark.parametrize(
    "item", [{"containerID": ["x"], "ifname": "eth0"}, {"containerID": ID}, {"ContainerID": ID}, "eth0", None]
)
def test_gc_with_an_attachment_that_cannot_be_read_removes_nothing(
    node: Any, sandbox: Any, plugged: Any, item: object
) -> None:
    status, error = node.cni("GC", config=CONFIG | {"cni.dev/valid-attachments": [item]})
    assert (status, error["code"]) == (1, 6)
    assert "objects with containerID and ifname" in error["msg"]
    assert untouched(node, sandbox, plugged)


def test_check_compares_with_what_was_plugged(node: Any, sandbox: Any, pod: Pod, plugged: Any) -> None:
    """Not with what the pod would get today."""
    found = json.loads(pod.annotations[ANNOTATION])
    found["default"]["routes"].append({"dest": "169.254.0.5/32", "nextHop": "10.128.1.1"})
    node.runtime.set(evolve(pod, annotations={ANNOTATION: json.dumps(found)}))
    assert untouched(node, sandbox, plugged)
    node.runtime.set(evolve(pod, annotations={}))
    assert untouched(node, sandbox, plugged)
    subprocess.run(["ip", "-n", sandbox.name, "route", "del", "172.16.1.0/24"], check=True)
    status, error = node.cni("CHECK", netns=sandbox.path, config=CONFIG | {"prevResult": plugged})
    assert (status, error["code"]) == (1, 101)
    assert error["msg"] == "eth0 lacks the route to 172.16.1.0/24 via 10.128.1.1"


def test_a_long_name_of_network_or_pod_is_no_obstacle(
    node: Any, pod: Pod, sandbox_maker: Callable[[], Any]
) -> None:
    sandbox, own = sandbox_maker(), CONFIG | {"name": "n" * 200}
    name = "p" * 253
    node.runtime.set(evolve(pod, name=name))
    node.add(netns=sandbox.path, pod=name, sandbox="c" * 64, config=own)
    node.vsctl("del-port", "c" * 15)
    assert node.cni("DEL", sandbox="c" * 64, config=CONFIG | {"name": "other"}) == (0, None)
    assert node.cni("DEL", sandbox="c" * 64, config=own) == (0, None)
    assert node.pods_plugged() == set()
