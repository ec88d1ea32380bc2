"""What ends the wait of an ADD, and what is left of limits."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.models import Pod
from ovnkit_cni.hygiene import sweep

pytestmark = pytest.mark.ovn

ID = "0123456789abcdef0123456789abcdef"
HOST = ID[:15]
CONFIG = {"cniVersion": "1.1.0", "name": "ovn-kubernetes", "type": "ovn-k8s-cni-overlay"}
LIMITS = {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "2500k"}
SOON = 4.0
"""Seconds; the wait was 120."""

WAITS = pytest.mark.parametrize("waits_for", ["addresses", "flows"])


def start(node: Any, pod: Pod, where: Any, waits_for: str, eventually: Callable[..., Any], **more: Any) -> Any:
    """An ADD that waits for this."""
    if waits_for == "addresses":
        node.runtime.set(evolve(pod, annotations={}))
    process = node.start_cni("ADD", netns=where.path, **more)
    if waits_for == "flows":
        eventually(node.pods_plugged, "the port")
    else:
        eventually(lambda: node.commands._addings._all, "the request")
        time.sleep(0.3)
    return process


def outcome(process: Any) -> tuple[int, Any]:
    out, _ = process.communicate(timeout=SOON)
    return process.returncode, json.loads(out)


@WAITS
def test_del_ends_the_wait_of_its_add(
    node: Any, sandbox: Any, pod: Pod, waits_for: str, eventually: Callable[..., Any]
) -> None:
    adding = start(node, pod, sandbox, waits_for, eventually)
    began = time.monotonic()
    assert node.cni("DEL", netns=sandbox.path) == (0, None)
    assert time.monotonic() - began < SOON
    status, error = outcome(adding)
    assert (status, error["code"]) == (1, 3)
    assert "was deleted meanwhile" in error["msg"]
    assert node.pods_plugged() == set()
    assert not sandbox.has("eth0")


def test_del_of_another_attachment_ends_no_wait(
    node: Any, sandbox: Any, pod: Pod, eventually: Callable[..., Any]
) -> None:
    adding = start(node, pod, sandbox, "flows", eventually)
    other = node.start_cni("DEL", netns=sandbox.path, ifname="net1")
    with pytest.raises(subprocess.TimeoutExpired):
        adding.wait(1.5)
    node.install()
    assert adding.wait(10) == 0
    assert other.wait(10) == 0
    assert node.pods_plugged() == {HOST}
    for process in (adding, other):
        process.communicate()


@WAITS
def test_the_deletion_of_the_pod_ends_the_wait(
    node: Any, sandbox: Any, pod: Pod, waits_for: str, eventually: Callable[..., Any]
) -> None:
    """The kubelet asks for DEL only when ADD has ended."""
    adding = start(node, pod, sandbox, waits_for, eventually)
    node.runtime.set(evolve(node.runtime.get_pod(pod.key), deleting=True))
    status, error = outcome(adding)
    assert (status, error["code"], error["msg"]) == (1, 3, "pod shop/web is being deleted")
    assert node.pods_plugged() == set()


@WAITS
def test_a_newer_sandbox_ends_the_wait_of_the_older(
    node: Any, pod: Pod, waits_for: str, sandbox_maker: Callable[[], Any], eventually: Callable[..., Any]
) -> None:
    one, two = sandbox_maker(), sandbox_maker()
    older = start(node, pod, one, waits_for, eventually, sandbox="a" * 20)
    newer = node.start_cni("ADD", netns=two.path, sandbox="b" * 20)
    status, error = outcome(older)
    assert (status, error["code"], error["msg"]) == (1, 11, "pod shop/web has a newer sandbox")
    node.runtime.set(pod)
    eventually(lambda: node.pods_plugged() == {"b" * 15}, "the port")
    node.install()
    assert newer.wait(10) == 0
    newer.communicate()
    assert not one.has("eth0")
    assert two.has("eth0")


def test_an_annotation_about_other_networks_is_waited_on_without_haste(
    node: Any, sandbox: Any, pod: Pod, eventually: Callable[..., Any]
) -> None:
    node.runtime.set(evolve(pod, annotations={"k8s.ovn.org/pod-networks": '{"a/blue":{}}'}))
    asked: list[str] = []
    real = node.runtime.wait_for
    node.runtime.wait_for = lambda kind, key, *more: (asked.append(key), real(kind, key, *more))[1]  # type: ignore[func-returns-value]
    adding = node.start_cni("ADD", netns=sandbox.path)
    time.sleep(1.5)
    assert 1 <= len(asked) <= 4
    node.runtime.set(pod)
    node.install()
    assert adding.wait(10) == 0
    adding.communicate()


# -- limits ---------------------------------------------------------------------------------------------------


def limits(node: Any) -> tuple[int, int]:
    return tuple(len(node.vsctl("--columns=_uuid", "list", table).split("\n\n")) if
                 node.vsctl("list", table) else 0 for table in ("QoS", "Queue"))  # type: ignore[return-value]  # fmt: skip


@pytest.fixture
def limited(node: Any, pod: Pod) -> Pod:
    found: Pod = node.runtime.set(evolve(pod, annotations={**pod.annotations, **LIMITS}))
    return found


def test_each_replaced_sandbox_takes_its_limits_along(
    node: Any, limited: Pod, sandbox_maker: Callable[[], Any]
) -> None:
    for number in range(3):
        node.add(netns=sandbox_maker().path, sandbox=str(number) * 20)
        assert limits(node) == (1, 1)
    assert node.pods_plugged() == {"2" * 15}
    assert node.cni("DEL", sandbox="2" * 20) == (0, None)
    assert limits(node) == (0, 0)


def test_add_again_and_a_failed_add_leave_no_limits(
    node: Any, limited: Pod, sandbox: Any, eventually: Callable[..., Any]
) -> None:
    node.add(netns=sandbox.path)
    again = node.start_cni("ADD", netns=sandbox.path)
    eventually(lambda: "ovn-installed" not in node.interfaces().get(HOST, {"ovn-installed": ""}), "the new port")
    node.install()
    assert again.wait(10) == 0
    again.communicate()
    assert limits(node) == (1, 1)
    node.cni("DEL", netns=sandbox.path)
    adding = start(node, limited, sandbox, "flows", eventually)
    node.runtime.delete(limited.key)
    assert outcome(adding)[0] == 1
    assert limits(node) == (0, 0)


@pytest.mark.parametrize("by", ["gc", "sweep"])
def test_limits_that_were_left_before_are_collected(node: Any, limited: Pod, sandbox: Any, by: str) -> None:
    node.add(netns=sandbox.path)
    for number in range(3):
        node.vsctl(
            "--", "--id=@queue", "create", "Queue", f"external_ids:sandbox=old{number}",
            "--", "create", "QoS", "type=linux-htb", f"external_ids:sandbox=old{number}", "queues:0=@queue",
        )  # fmt: skip
    node.vsctl("--", "create", "QoS", "type=linux-htb", "external_ids:of=another")
    assert limits(node) == (5, 4)
    if by == "gc":
        valid = [{"containerID": ID, "ifname": "eth0"}]
        assert node.cni("GC", config=CONFIG | {"cni.dev/valid-attachments": valid}) == (0, None)
    else:
        sweep(node.runtime, node.commands)
    assert limits(node) == (2, 1)
    assert 'max-rate="10000000"' in node.vsctl("--columns=other_config", "list", "Queue")
