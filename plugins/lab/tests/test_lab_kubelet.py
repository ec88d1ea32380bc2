"""What becomes of pods: completion, crashes, probes, deletion."""

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from ovnkit_lab.testing import LabHandle, wait_until

pytestmark = pytest.mark.lab


def status(lab: LabHandle, name: str) -> dict[str, Any]:
    return dict(lab.get("pod", name).get("status") or {})


def container(lab: LabHandle, name: str) -> dict[str, Any]:
    return dict((status(lab, name).get("containerStatuses") or [{}])[0])


def is_ready(lab: LabHandle, name: str) -> bool:
    conditions = status(lab, name).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def namespaces(lab: LabHandle) -> set[str]:
    words = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()
    return {word for word in words if word.startswith(f"ovnlab-{lab.name}.pod-")}


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_pod_that_ends_has_its_phase_and_exit_code(lab: LabHandle, code: int, phase: str) -> None:
    before = namespaces(lab)
    lab.apply(lab.pod("once", "sh", "-c", f"exit {code}", restartPolicy="Never"))
    wait_until(lambda: status(lab, "once").get("phase") == phase, what=f"the pod is {phase}")
    assert container(lab, "once")["state"]["terminated"]["exitCode"] == code
    wait_until(lambda: namespaces(lab) == before, what="its sandbox is gone")
    lab.delete("pod", "once")


def test_a_pod_that_crashes_is_restarted_in_the_same_sandbox(lab: LabHandle) -> None:
    lab.apply(lab.pod("crash", "sh", "-c", "exit 1"))
    wait_until(lambda: container(lab, "crash").get("restartCount", 0) >= 2, what="two restarts")
    assert status(lab, "crash")["phase"] == "Running"
    assert container(lab, "crash")["lastState"]["terminated"]["exitCode"] == 1
    lab.delete("pod", "crash")


def test_on_failure_restarts_until_success(lab: LabHandle, tmp_path: Any) -> None:
    mark = tmp_path / "mark"
    script = f"[ -e {mark} ] && exit 0; touch {mark}; exit 1"
    lab.apply(lab.pod("again", "sh", "-c", script, restartPolicy="OnFailure"))
    wait_until(lambda: status(lab, "again").get("phase") == "Succeeded", what="the second try succeeds")
    assert container(lab, "again")["restartCount"] == 1
    lab.delete("pod", "again")


def test_the_process_sees_its_environment_and_arguments(lab: LabHandle) -> None:
    pod = lab.pod("env", "sh", "-c", 'echo "$WORD $ADDRESS $NAME $0"; sleep infinity')
    pod["spec"]["containers"][0] |= {
        "args": ["$(WORD)-argument"],
        "env": [
            {"name": "WORD", "value": "hello"},
            {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
    }
    lab.apply(pod)
    lab.wait_ready("env")
    expected = f"hello {lab.pod_ips('env')[0]} env hello-argument\n"
    wait_until(lambda: lab.run("logs", "default/env").stdout == expected, what="the pod said so")
    lab.delete("pod", "env")


def test_init_containers_come_first(lab: LabHandle, tmp_path: Any) -> None:
    mark = tmp_path / "made"
    init = [{"name": "first", "image": "any", "command": ["sh", "-c", f"sleep 0.3; touch {mark}"]}]
    lab.apply(lab.pod("init", "sh", "-c", f"test -e {mark} && sleep infinity", initContainers=init))
    lab.wait_ready("init")
    assert container(lab, "init")["restartCount"] == 0
    lab.delete("pod", "init")


def test_a_sidecar_starts_before_the_others_and_is_restarted_and_goes_last(lab: LabHandle, tmp_path: Any) -> None:
    said = tmp_path / "said"
    script = (
        f"trap 'echo sidecar ended >> {said}; exit' TERM; echo sidecar >> {said}; while :; do sleep 0.05; done"
    )
    init = [
        {"name": "proxy", "image": "any", "command": ["sh", "-c", script], "restartPolicy": "Always",
         "ports": [{"name": "web", "containerPort": 9443}]},
        {"name": "first", "image": "any", "command": ["sh", "-c", f"sleep 0.5; echo init >> {said}"]},
    ]  # fmt: skip
    main = f"trap 'echo main ended >> {said}; exit' TERM; echo main >> {said}; while :; do sleep 0.05; done"
    lab.apply(lab.pod("beside", "sh", "-c", main, initContainers=init, restartPolicy="Never",
                      terminationGracePeriodSeconds=5))  # fmt: skip
    lab.wait_ready("beside")
    assert said.read_text().split("\n")[:3] == ["sidecar", "init", "main"]
    assert "2/2" in lab.kubectl("get", "pod", "beside")
    process = status(lab, "beside")["initContainerStatuses"][0]["containerID"].removeprefix("lab://")
    os.kill(int(process), signal.SIGKILL)
    wait_until(lambda: said.read_text().count("sidecar\n") == 2, what="the sidecar is started again")
    wait_until(lambda: status(lab, "beside")["initContainerStatuses"][0]["restartCount"] == 1)
    lab.delete("pod", "beside")
    assert said.read_text().split("\n")[-3:] == ["main ended", "sidecar ended", ""]


def test_a_sidecar_does_not_keep_a_pod_from_completing(lab: LabHandle) -> None:
    init = [{"name": "proxy", "image": "any", "command": ["sleep", "infinity"], "restartPolicy": "Always"}]
    lab.apply(lab.pod("done", "true", initContainers=init, restartPolicy="OnFailure"))
    wait_until(lambda: status(lab, "done").get("phase") == "Succeeded", what="the pod is complete")
    wait_until(lambda: "terminated" in status(lab, "done")["initContainerStatuses"][0]["state"])
    lab.delete("pod", "done")


def test_readiness_follows_the_probe(lab: LabHandle, tmp_path: Any) -> None:
    mark = tmp_path / "ready"
    pod = lab.pod("probed")
    pod["spec"]["containers"][0]["readinessProbe"] = {
        "exec": {"command": ["test", "-e", str(mark)]}, "periodSeconds": 1, "failureThreshold": 1,
    }  # fmt: skip
    lab.apply(pod)
    wait_until(lambda: status(lab, "probed").get("phase") == "Running", what="it runs")
    assert not is_ready(lab, "probed")
    mark.touch()
    wait_until(lambda: is_ready(lab, "probed"), what="it is ready")
    mark.unlink()
    wait_until(lambda: not is_ready(lab, "probed"), what="it isn't ready any more")
    lab.delete("pod", "probed")


def test_a_host_network_pod_has_the_nodes_network(lab: LabHandle) -> None:
    lab.apply(lab.pod("host", node="node2", hostNetwork=True))
    lab.wait_ready("host")
    assert lab.pod_ips("host") == ["172.18.0.12"]
    assert lab.exec("host", "ip", "link", "show", "br-ex").returncode == 0
    lab.delete("pod", "host")


def test_deletion_ends_the_process_and_leaves_nothing(lab: LabHandle) -> None:
    before, ports = namespaces(lab), lab.node("node1", "ovs-vsctl", "list-ports", "br-int")
    # A process that ignores SIGTERM, and one that left its session.
    lab.apply(lab.pod("stubborn", "sh", "-c", "trap '' TERM; setsid sleep 999 & while :; do sleep 1; done",
                      node="node1"))  # fmt: skip
    lab.wait_ready("stubborn")
    assert namespaces(lab) != before
    lab.delete("pod", "stubborn")
    assert namespaces(lab) == before
    assert lab.node("node1", "ovs-vsctl", "list-ports", "br-int") == ports


def test_names_may_be_as_long_as_the_api_allows(lab: LabHandle) -> None:
    namespace, name = "n" * 63, ".".join(["p" * 62] * 4)
    assert len(name) == 251
    lab.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    names = [f"{name}-{number}" for number in (1, 2)]
    lab.apply(*(lab.pod(item, "sh", "-c", f"echo {item[-1]}; exec sleep infinity", namespace=namespace)
                for item in names))  # fmt: skip
    lab.wait_ready(*names, namespace=namespace)
    for item in names:
        wait_until(lambda item=item: lab.run("logs", f"{namespace}/{item}").stdout == f"{item[-1]}\n")  # type: ignore[misc]
        assert lab.exec(f"{namespace}/{item}", "true").returncode == 0
    lab.delete("namespace", namespace)


def test_fifty_pods_at_once(lab: LabHandle) -> None:
    names = [f"many-{number}" for number in range(50)]
    lab.apply(*(lab.pod(name) for name in names))
    lab.wait_ready(*names, deadline=90)
    pods = lab.get("pods")["items"]
    addresses = [item["status"]["podIP"] for item in pods]
    assert len(set(addresses)) == 50
    nodes = {item["spec"]["nodeName"] for item in pods}
    assert nodes == {"node1", "node2"}
    lab.delete("pod", *names)
    assert json.loads(lab.kubectl("get", "pods", "-o", "json"))["items"] == []
