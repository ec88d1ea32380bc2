"""Deployments, DaemonSets, EndpointSlices and the scheduler, as kubectl shows them."""

from typing import Any

import pytest

from ovnkit_lab.testing import LabHandle, wait_until

pytestmark = pytest.mark.lab

Json = dict[str, Any]


def workload(kind: str, name: str, word: str = "one", **spec: Any) -> Json:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": "any", "command": ["sleep", "infinity"],
                "env": [{"name": "WORD", "value": word}], "ports": [{"name": "web", "containerPort": 8080}],
            }],
        },
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }  # fmt: skip


def pods(lab: LabHandle, app: str) -> list[Json]:
    items = lab.get("pods")["items"]
    return [item for item in items if item["metadata"].get("labels", {}).get("app") == app]


def test_a_deployment_scales_rolls_and_goes(lab: LabHandle) -> None:
    lab.apply(workload("Deployment", "web", replicas=2))
    lab.kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    lab.kubectl("scale", "deployment/web", "--replicas=4")
    lab.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=4", "deployment/web", "--timeout=40s")
    assert {item["spec"]["nodeName"] for item in pods(lab, "web")} == {"node1", "node2"}
    old = {item["metadata"]["name"] for item in pods(lab, "web")}
    lab.apply(workload("Deployment", "web", "two", replicas=4))
    lab.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    wait_until(lambda: len(pods(lab, "web")) == 4, what="the old pods are gone")
    assert old.isdisjoint(item["metadata"]["name"] for item in pods(lab, "web"))
    lab.kubectl("scale", "deployment/web", "--replicas=1")
    wait_until(lambda: len(pods(lab, "web")) == 1, what="one pod is left")
    lab.delete("deployment", "web")
    wait_until(lambda: not pods(lab, "web"), what="all pods are gone")
    assert lab.get("replicasets")["items"] == []


def test_a_deleted_pod_of_a_deployment_is_replaced(lab: LabHandle) -> None:
    lab.apply(workload("Deployment", "kept", replicas=1))
    lab.kubectl("rollout", "status", "deployment/kept", "--timeout=40s")
    name = pods(lab, "kept")[0]["metadata"]["name"]
    lab.delete("pod", name)
    lab.kubectl("rollout", "status", "deployment/kept", "--timeout=40s")
    wait_until(
        lambda: [p["metadata"]["name"] for p in pods(lab, "kept")] != [name] and len(pods(lab, "kept")) == 1
    )
    lab.delete("deployment", "kept")


def test_a_daemonset_has_one_pod_per_node_and_rolls(lab: LabHandle) -> None:
    lab.apply(workload("DaemonSet", "each"))
    lab.kubectl("rollout", "status", "daemonset/each", "--timeout=40s")
    assert sorted(item["spec"]["nodeName"] for item in pods(lab, "each")) == ["node1", "node2"]
    old = {item["metadata"]["name"] for item in pods(lab, "each")}
    lab.apply(workload("DaemonSet", "each", "two"))
    lab.kubectl("rollout", "status", "daemonset/each", "--timeout=60s")
    assert old.isdisjoint(item["metadata"]["name"] for item in pods(lab, "each"))
    lab.delete("daemonset", "each")
    wait_until(lambda: not pods(lab, "each"), what="all pods are gone")


def slices(lab: LabHandle, service: str) -> list[Json]:
    items = lab.get("endpointslices")["items"]
    return [item for item in items if item["metadata"]["labels"]["kubernetes.io/service-name"] == service]


def test_endpoint_slices_follow_the_pods(lab: LabHandle) -> None:
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "back"},
        "spec": {"selector": {"app": "back"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    }  # fmt: skip
    lab.apply(service)
    wait_until(lambda: [item["endpoints"] for item in slices(lab, "back")] == [None]
               or [item["endpoints"] for item in slices(lab, "back")] == [[]], what="an empty slice")  # fmt: skip
    lab.apply(workload("Deployment", "back", replicas=2))
    lab.kubectl("rollout", "status", "deployment/back", "--timeout=40s")

    def shown() -> set[str]:
        return {
            address for item in slices(lab, "back") for endpoint in item["endpoints"] or ()
            if endpoint["conditions"]["ready"] for address in endpoint["addresses"]
        }  # fmt: skip

    expected = {item["status"]["podIP"] for item in pods(lab, "back")}
    wait_until(lambda: shown() == expected, what="both pods are endpoints")
    ports = slices(lab, "back")[0]["ports"]
    assert [(port["name"], port["port"], port["protocol"]) for port in ports] == [("http", 8080, "TCP")]
    lab.delete("deployment", "back")
    wait_until(lambda: shown() == set(), what="no endpoint is left")
    lab.delete("service", "back")
    wait_until(lambda: slices(lab, "back") == [], what="the slice is gone")


def test_a_pod_that_fits_no_node_says_why(lab: LabHandle) -> None:
    lab.apply(lab.pod("picky", nodeSelector={"disk": "none"}))

    def reason() -> str:
        conditions = lab.get("pod", "picky").get("status", {}).get("conditions") or []
        return next((item.get("reason", "") for item in conditions if item["type"] == "PodScheduled"), "")

    wait_until(lambda: reason() == "Unschedulable")
    lab.kubectl("label", "node", "node2", "disk=none")
    try:
        lab.wait_ready("picky")
        assert lab.get("pod", "picky")["spec"]["nodeName"] == "node2"
    finally:
        lab.kubectl("label", "node", "node2", "disk-")
        lab.delete("pod", "picky")
