"""What a lab's kubelet tells of its node, on a real API server."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubelab.client import ApiError, Client
from ovnkit_lab.kubelet import nodes
from ovnkit_lab.kubelet.cni import Runtime
from ovnkit_lab.layout import LabSpec

PATH = "/api/v1/nodes/node1"


@pytest.fixture
def client(start_server: Callable[..., Any]) -> Client:
    server = start_server(tls=True)
    return Client(server.url, Path(server.certificate), "")


@pytest.fixture
def reporter(client: Client, tmp_path: Path) -> nodes.NodeReporter:
    spec = LabSpec("x", ("node1",))
    return nodes.NodeReporter(spec, "node1", client, Runtime("", tmp_path, tmp_path), lambda: True, lambda: None)


def heard(client: Client) -> tuple[str, str]:
    """When the Lease was renewed, and the version of the Node."""
    lease = client.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1")
    assert lease["spec"]["holderIdentity"] == "node1"
    node = client.get(PATH)["metadata"]
    assert lease["metadata"]["ownerReferences"][0]["uid"] == node["uid"]
    return lease["spec"]["renewTime"], node["resourceVersion"]


def test_lease_and_status_are_renewed_in_time_and_not_more_often(
    client: Client, reporter: nodes.NodeReporter
) -> None:
    moment = 1000.0
    reporter.sync(True, True, moment)
    first = heard(client)
    moment += 9
    reporter.sync(True, True, moment)
    assert heard(client) == first
    moment += 2
    reporter.sync(True, True, moment)
    second = heard(client)
    assert second[0] > first[0]
    assert second[1] == first[1]
    conditions = client.get(PATH)["status"]["conditions"]
    moment += 60
    time.sleep(1.1)  # times of the API are in seconds
    reporter.sync(True, True, moment)
    for before, after in zip(conditions, client.get(PATH)["status"]["conditions"], strict=True):
        assert after["lastHeartbeatTime"] > before["lastHeartbeatTime"]
        assert after["lastTransitionTime"] == before["lastTransitionTime"]


def test_a_node_that_is_down_is_silent(client: Client, reporter: nodes.NodeReporter) -> None:
    moment = 1000.0
    reporter.sync(True, True, moment)
    reporter.sync(False, True, moment)
    before = heard(client)
    moment += 300
    reporter.sync(False, True, moment)
    assert heard(client) == before


def test_taints_of_others_stay(client: Client, reporter: nodes.NodeReporter) -> None:
    moment = 1000.0
    reporter.sync(True, True, moment)
    client.patch(PATH, {"spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}})

    def taints() -> list[str]:
        return [item["key"] for item in client.get(PATH)["spec"].get("taints") or ()]

    reporter.sync(False, True, moment)
    assert taints() == ["mine", "node.kubernetes.io/unreachable"]
    reporter.sync(True, True, moment)
    assert taints() == ["mine"]


def test_a_node_that_was_deleted_registers_again(client: Client, reporter: nodes.NodeReporter) -> None:
    moment = 1000.0
    reporter.sync(True, True, moment)
    uid = client.get(PATH)["metadata"]["uid"]
    client.delete(PATH)
    moment += 61
    with pytest.raises(ApiError) as refused:
        reporter.sync(True, True, moment)
    reporter.failed(refused.value)
    reporter.sync(True, True, moment)
    assert client.get(PATH)["metadata"]["uid"] != uid
    heard(client)
