"""What requests read and write of Open vSwitch when many come at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ovnkit_cni import ports
from ovnkit_cni.attachments import Attachment
from ovnkit_cni.bandwidth import Bandwidth
from ovnkit_cni.switch import Switch
from ovnkit_cni.wire import CniError


@pytest.fixture
def known(node: Any) -> Switch:
    found: Switch = node.commands.switch()
    return found


@pytest.fixture
def batches(known: Switch, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many commands each transaction had."""
    sizes: list[int] = []
    write = known._write

    def counted(batch: list[Any]) -> None:
        sizes.append(len(batch))
        write(batch)

    monkeypatch.setattr(known, "_write", counted)
    return sizes


def port(name: str, pod: str = "") -> ports.PodPort:
    ids = {"iface-id": f"shop_{pod or name}", "sandbox": name, "pod-if-name": "eth0"}
    return ports.PodPort(name, ids, Bandwidth())


Adder = Callable[..., list[Future[None]]]


@pytest.fixture
def add_while_busy(known: Switch, batches: list[int], eventually: Callable[..., Any]) -> Iterator[Adder]:
    """Adds ports while a transaction is on its way: that of the port `first`."""
    with ThreadPoolExecutor(20) as pool:

        def add(*wanted: ports.PodPort) -> list[Future[None]]:
            with known.ovs.ovsdb_connection.lock:
                first = pool.submit(ports.add, known, port("first"))
                eventually(lambda: batches == [1], "the first one being written")
                others = [pool.submit(ports.add, known, item) for item in wanted]
                eventually(lambda: len(known._pending) == len(wanted), "the others waiting")
            first.result(20)
            return others

        yield add


def test_what_waits_goes_in_one_transaction(
    node: Any, known: Switch, batches: list[int], add_while_busy: Adder
) -> None:
    for added in add_while_busy(*(port(f"port{number}") for number in range(9))):
        added.result(20)
    assert batches == [1, 9]
    assert node.pods_plugged() == {"first", *(f"port{number}" for number in range(9))}
    found = known.interface("port3")
    assert found is not None
    assert found.external_ids["iface-id"] == "shop_port3"


def test_a_refused_change_fails_alone(
    node: Any, known: Switch, add_while_busy: Adder, eventually: Callable[..., Any]
) -> None:
    node.vsctl("--no-wait", "add-port", "br-int", "taken")
    try:
        eventually(lambda: known.interface("taken"), "the port that is there")
        good, bad, other = add_while_busy(port("good"), port("taken"), port("other"))
        good.result(20)
        other.result(20)
        with pytest.raises(CniError, match="port taken exists already, for another"):
            bad.result(20)
        assert node.pods_plugged() == {"first", "good", "other"}
    finally:
        node.vsctl("--no-wait", "del-port", "taken")


def test_two_sandboxes_of_a_pod_at_once_leave_one_port(
    node: Any, known: Switch, batches: list[int], add_while_busy: Adder
) -> None:
    for added in add_while_busy(port("old", "web"), port("new", "web")):
        added.result(20)
    assert batches == [1, 1, 1]
    assert node.pods_plugged() in ({"first", "old"}, {"first", "new"})


def test_an_interface_that_went_while_the_connection_was_away(
    node: Any, known: Switch, eventually: Callable[..., Any]
) -> None:
    ports.add(known, port("one"))
    ports.add(known, port("two"))
    with known.ovs.ovsdb_connection.lock:
        node.vsctl("--no-wait", "del-port", "one")
        known.ovs.idl.force_reconnect()
    eventually(lambda: known.interface("one") is None, "it being gone")
    eventually(lambda: known.interface("two"), "the other one being there")
    assert ports.remove_attachment(known, Attachment("ovn-kubernetes", "two", "eth0"))
    assert node.pods_plugged() == set()
