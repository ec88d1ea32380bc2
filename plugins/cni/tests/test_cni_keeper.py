"""What someone else changes or removes of a running pod's port is restored, or the pod is told."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.kinds import View
from ovnkit.api.models import PODS, Pod
from ovnkit.api.renderers import Role
from ovnkit.testing.bench import Bench, scope
from ovnkit.testing.objects import pod as some_pod
from ovnkit_cni import keeper as keeping
from ovnkit_cni.hygiene import sweep
from ovnkit_cni.keeper import Keeper
from ovnkit_cni.node import LOST_PORTS, LostPort, LostPorts
from ovnkit_cni.plugin import CniPlugin

pytestmark = pytest.mark.ovn

ID = "0123456789abcdef0123456789abcdef"
HOST = ID[:15]
BOTH = {"10.128.1.5/24", "fd00:10:244:2::5/64"}
LIMITS = {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "2500k"}


@pytest.fixture
def told() -> dict[str, View | None]:
    return {}


@pytest.fixture
def lost(told: dict[str, View | None]) -> LostPorts:
    return LostPorts(lambda _kind, changes: told.update(changes))


@pytest.fixture
def keeper(node: Any, lost: LostPorts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(keeping, "PATIENCE", 1.0)
    found = Keeper(node.runtime, node.commands, lost)
    found.start()
    yield found
    node.commands.stopping.set()
    found._thread.join(10)


@pytest.fixture
def plugged(node: Any, sandbox: Any, pod: Pod, keeper: Keeper) -> Any:
    node.runtime.set(evolve(pod, annotations={**pod.annotations, **LIMITS}))
    result = node.add(netns=sandbox.path)
    assert is_whole(node)
    return result


def is_whole(node: Any) -> bool:
    ids = node.interfaces().get(HOST, {})
    wanted = {"iface-id": "shop_web", "iface-id-ver": "uid-1", "sandbox": ID, "pod-if-name": "eth0"}
    on_bridge = HOST in node.vsctl("list-ports", "br-int").split()
    return on_bridge and {key: ids.get(key) for key in wanted} == wanted and ofport(node) > 0


def ofport(node: Any) -> int:
    text = node.vsctl("--if-exists", "get", "Interface", HOST, "ofport")
    return int(text) if text.lstrip("-").isdigit() else 0


def uses_its_device(node: Any) -> bool:
    return bool(node.vsctl("get", "Interface", HOST, "ifindex") == str(socket.if_nametoindex(HOST)))


def del_port(node: Any, _sandbox: Any) -> None:
    node.vsctl("del-port", HOST)


def del_port_and_limits(node: Any, _sandbox: Any) -> None:
    node.vsctl("clear", "Port", HOST, "qos", "--", "--all", "destroy", "QoS", "--", "--all", "destroy", "Queue")
    node.vsctl("del-port", HOST)


def del_link(_node: Any, _sandbox: Any) -> None:
    subprocess.run(["ip", "link", "del", HOST], check=True)


def del_peer(_node: Any, sandbox: Any) -> None:
    subprocess.run(["ip", "-n", sandbox.name, "link", "del", "eth0"], check=True)


def del_both(node: Any, sandbox: Any) -> None:
    del_port(node, sandbox)
    del_link(node, sandbox)


def set_down(_node: Any, _sandbox: Any) -> None:
    subprocess.run(["ip", "link", "set", HOST, "down"], check=True)


def other_iface_id(node: Any, _sandbox: Any) -> None:
    node.vsctl("set", "Interface", HOST, "external_ids:iface-id=shop_other")


def on_another_bridge(node: Any, _sandbox: Any) -> None:
    node.vsctl("--may-exist", "add-br", "br-else", "--", "del-port", HOST, "--", "add-port", "br-else", HOST)


def moved_to_another_bridge(node: Any, _sandbox: Any) -> None:
    port = node.vsctl("get", "Port", HOST, "_uuid")
    node.vsctl(
        "--may-exist", "add-br", "br-else", "--",
        "remove", "Bridge", "br-int", "ports", port, "--", "add", "Bridge", "br-else", "ports", port,
    )  # fmt: skip


def no_ids(node: Any, _sandbox: Any) -> None:
    node.vsctl("clear", "Interface", HOST, "external_ids", "--", "clear", "Port", HOST, "external_ids")


def no_sandbox(node: Any, _sandbox: Any) -> None:
    node.vsctl("remove", "Interface", HOST, "external_ids", "sandbox")


HARMS = [
    del_port, del_port_and_limits, del_link, del_peer, del_both, set_down, other_iface_id, no_ids, no_sandbox,
    on_another_bridge, moved_to_another_bridge,
]  # fmt: skip


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_a_port_is_restored_within_seconds(
    node: Any, sandbox: Any, plugged: Any, lost: LostPorts, told: Any, eventually: Callable[..., Any],
    harm: Callable[[Any, Any], None],
) -> None:  # fmt: skip
    before = node.vsctl("get", "Port", HOST, "external_ids")
    harm(node, sandbox)
    eventually(lambda: lost.restored, "the port being restored", 10)
    eventually(lambda: is_whole(node), "the port being whole", 10)
    eventually(lambda: uses_its_device(node), "Open vSwitch using the link that there is")
    assert sandbox.addresses() == BOTH
    assert node.vsctl("get", "Port", HOST, "external_ids") == before
    assert node.vsctl("get", "Interface", HOST, "ingress_policing_rate") == "2500"
    assert 'max-rate="10000000"' in node.vsctl("--columns=other_config", "list", "Queue")
    node.install()
    config = {"cniVersion": "1.1.0", "name": "ovn-kubernetes", "type": "x", "prevResult": plugged}
    assert node.cni("CHECK", netns=sandbox.path, config=config) == (0, None)
    assert not any(told.values())
    assert node.cni("DEL", netns=sandbox.path) == (0, None)
    assert node.pods_plugged() == set()
    assert (node.vsctl("list", "QoS"), node.vsctl("list", "Queue")) == ("", "")


def test_without_a_network_namespace_the_pod_is_told(
    node: Any, sandbox: Any, plugged: Any, lost: LostPorts, told: Any, eventually: Callable[..., Any]
) -> None:
    subprocess.run(["ip", "netns", "del", sandbox.name], check=True)
    message = eventually(lambda: told.get("shop/web"), "the pod being told", 20).message
    assert f"network namespace {sandbox.path} is gone" in message
    assert [metric.samples[0].value for metric in lost.metrics()] == [1, 0]
    # the sweep leaves it to the keeper, which has told the pod
    sweep(node.runtime, node.commands)
    assert told["shop/web"] is not None
    assert node.cni("DEL") == (0, None)
    eventually(lambda: told["shop/web"] is None, "it being withdrawn")
    assert node.pods_plugged() == set()


def test_del_and_a_pod_that_is_gone_are_no_loss(
    node: Any, sandbox: Any, plugged: Any, lost: LostPorts, told: Any, pod: Pod, eventually: Callable[..., Any]
) -> None:
    assert node.cni("DEL", netns=sandbox.path) == (0, None)
    node.add(netns=sandbox.path)
    node.runtime.delete(pod.key)
    node.vsctl("del-port", HOST)
    eventually(lambda: HOST not in node.commands._switch.kept, "it being forgotten")
    assert (lost.restored, told) == (0, {})
    assert node.pods_plugged() == set()


def test_a_port_that_was_removed_while_nobody_looked(
    node: Any, sandbox: Any, pod: Pod, lost: LostPorts, eventually: Callable[..., Any]
) -> None:
    node.add(netns=sandbox.path)
    node.commands._switch.kept.clear()  # as in a process that starts
    node.vsctl("del-port", HOST)
    eventually(lambda: node.commands._switch.interface(HOST) is None, "it being gone")
    keeper = Keeper(node.runtime, node.commands, lost)
    keeper.look()
    eventually(lambda: is_whole(node), "the port being whole")


def test_the_older_sandbox_of_a_pod_takes_nothing_from_the_newer(
    node: Any, plugged: Any, lost: LostPorts, sandbox_maker: Callable[[], Any], eventually: Callable[..., Any]
) -> None:
    node.vsctl("del-port", HOST)
    newer = sandbox_maker()
    node.start_cni("ADD", netns=newer.path, sandbox="b" * 20)
    eventually(lambda: "b" * 15 in node.pods_plugged(), "the newer port")
    node.vsctl("set", "Interface", "b" * 15, "external_ids:ovn-installed=true")
    eventually(lambda: set(node.commands._switch.kept) == {"b" * 15}, "the newer one being kept")
    for keeper in (Keeper(node.runtime, node.commands, lost), Keeper(node.runtime, node.commands, lost)):
        keeper.look()
        keeper.look()
    assert node.pods_plugged() == {"b" * 15}


def test_a_port_of_a_former_version_is_restored_while_its_link_is_there(
    node: Any, sandbox: Any, pod: Pod, lost: LostPorts, told: Any, monkeypatch: Any, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr(keeping, "PATIENCE", 0.0)
    node.add(netns=sandbox.path)
    node.vsctl("clear", "Port", HOST, "external_ids")
    subprocess.run(["ip", "link", "set", HOST, "alias", f"ovnkit sandbox {ID}"], check=True)
    node.commands._switch.kept.clear()
    eventually(lambda: not node.commands._switch._records[HOST][1], "the record being gone")
    keeper = Keeper(node.runtime, node.commands, lost)
    keeper.look()
    node.vsctl("del-port", HOST)
    eventually(lambda: node.commands._switch.interface(HOST) is None, "it being gone")
    keeper.look()
    assert eventually(lambda: is_whole(node), "the port being whole")
    keeper.look()
    subprocess.run(["ip", "link", "del", HOST], check=True)
    keeper.look()
    assert "its network namespace isn't recorded" in told["shop/web"].message


def test_the_pod_gets_an_event_until_it_has_a_port_again() -> None:
    found = Bench(CniPlugin(), scope=scope(Role.NODE, node="n1", zone="n1"))
    found.put(
        PODS,
        some_pod("shop/web", "n1"),
        some_pod("shop/far", "n2"),
        some_pod("shop/host", "n1", host_network=True),
    )
    assert [question.key for question in found.answers.items] == ["shop/web"]
    found.put(LOST_PORTS, LostPort("shop/web", "the port was lost"))
    assert found.events == [("shop/web", "PortLost", "the port was lost")]
    found.drop(LOST_PORTS, "shop/web")
    assert found.failures == {}
