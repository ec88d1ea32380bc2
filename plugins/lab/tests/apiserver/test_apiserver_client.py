"""The official Python client against the server: lists, watches, conflicts; and plain HTTP for the rest."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client, watch


@pytest.fixture
def core(shared_server: Any) -> Any:
    configuration = client.Configuration()
    configuration.host = shared_server.url
    with client.ApiClient(configuration) as api:
        yield client.CoreV1Api(api)


def config_map(name: str, **data: Any) -> Any:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"n": name}), data=data)


def objects(shared_server: Any, namespace: str, names: Any) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name in names:
        assert shared_server.request("POST", path, {"metadata": {"name": name}})[0] == 201


def read_lines(response: Any, count: Any) -> Any:
    return [json.loads(response.readline()) for _ in range(count)]


def test_typed_objects_survive_the_round_trip(core: Any, namespace: str) -> None:
    container = client.V1Container(name="c", image="busybox", ports=[client.V1ContainerPort(container_port=80)])
    spec = client.V1PodSpec(containers=[container])
    pod = core.create_namespaced_pod(
        namespace, client.V1Pod(metadata=client.V1ObjectMeta(generate_name="p-"), spec=spec)
    )
    assert pod.metadata.name.startswith("p-")
    assert pod.spec.containers[0].ports[0].protocol == "TCP"
    assert pod.spec.service_account_name == "default"
    assert core.read_namespaced_pod(pod.metadata.name, namespace).metadata.uid == pod.metadata.uid
    assert [p.metadata.name for p in core.list_namespaced_pod(namespace).items] == [pod.metadata.name]
    core.patch_namespaced_pod_status(
        pod.metadata.name, namespace, {"status": {"phase": "Running", "podIP": "10.0.0.3"}}
    )
    found = core.list_pod_for_all_namespaces(field_selector=f"status.phase=Running,metadata.namespace={namespace}")
    assert [p.status.pod_ip for p in found.items] == ["10.0.0.3"]
    assert core.delete_namespaced_pod(pod.metadata.name, namespace).metadata.name == pod.metadata.name


def test_lists_come_in_consistent_pages(core: Any, namespace: str, shared_server: Any) -> None:
    objects(shared_server, namespace, [f"c{i}" for i in range(7)])
    first = core.list_namespaced_config_map(namespace, limit=3)
    assert [c.metadata.name for c in first.items] == ["c0", "c1", "c2"]
    assert first.metadata.remaining_item_count == 4
    core.delete_namespaced_config_map("c5", namespace)
    core.create_namespaced_config_map(namespace, config_map("c9"))
    rest = core.list_namespaced_config_map(namespace, limit=10, _continue=first.metadata._continue)
    assert [c.metadata.name for c in rest.items] == ["c3", "c4", "c5", "c6"]
    assert rest.metadata.resource_version == first.metadata.resource_version


def test_watch_resumes_where_a_list_ended(core: Any, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("before"))
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, config_map("a"))
    core.patch_namespaced_config_map("a", namespace, {"data": {"x": "1"}})
    core.delete_namespaced_config_map("a", namespace)
    stream = watch.Watch().stream(  # type: ignore[no-untyped-call]
        core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=1
    )
    events = [(e["type"], e["object"].metadata.name) for e in stream]
    assert events == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_watch_without_a_version_starts_with_what_is_there(core: Any, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("a"))
    events = list(watch.Watch().stream(core.list_namespaced_config_map, namespace, timeout_seconds=1))  # type: ignore[no-untyped-call]
    assert [(e["type"], e["object"].metadata.name) for e in events] == [("ADDED", "a")]


def test_selector_watches_see_objects_enter_and_leave(core: Any, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("a"))
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    for value in ("yes", "yes", "no", "yes"):
        core.patch_namespaced_config_map(
            "a", namespace, {"metadata": {"labels": {"in": value}}, "data": {"v": value}}
        )
    core.patch_namespaced_config_map("a", namespace, {"data": {"v": "last"}})
    stream = watch.Watch().stream(  # type: ignore[no-untyped-call]
        core.list_namespaced_config_map,
        namespace,
        resource_version=version,
        label_selector="in=yes",
        timeout_seconds=1,
    )
    assert [e["type"] for e in stream] == ["ADDED", "DELETED", "ADDED", "MODIFIED"]


def test_watch_from_a_forgotten_version_is_gone(start_server: Callable[..., Any]) -> None:
    server = start_server("--history", "4")
    path = "/api/v1/namespaces/default/configmaps"
    version = server.request("GET", path)[1]["metadata"]["resourceVersion"]
    objects(server, "default", [f"c{i}" for i in range(20)])
    configuration = client.Configuration()
    configuration.host = server.url
    core = client.CoreV1Api(client.ApiClient(configuration))
    with pytest.raises(client.ApiException) as caught:
        list(
            watch.Watch().stream(  # type: ignore[no-untyped-call]
                core.list_namespaced_config_map, "default", resource_version=version, timeout_seconds=5
            )
        )
    assert caught.value.status == 410
    code, body, _ = server.request("GET", f"{path}?resourceVersion={version}&resourceVersionMatch=Exact")
    assert (code, body["reason"]) == (410, "Expired")


def test_stale_writes_conflict(core: Any, namespace: str) -> None:
    first = core.create_namespaced_config_map(namespace, config_map("a", x="1"))
    core.patch_namespaced_config_map("a", namespace, {"data": {"x": "2"}})
    with pytest.raises(client.ApiException) as caught:
        core.replace_namespaced_config_map("a", namespace, first)
    assert caught.value.status == 409
    assert "the object has been modified" in json.loads(caught.value.body)["message"]  # type: ignore[arg-type]
    with pytest.raises(client.ApiException) as caught:
        core.create_namespaced_config_map(namespace, config_map("a"))
    assert json.loads(caught.value.body)["reason"] == "AlreadyExists"  # type: ignore[arg-type]
    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
    with pytest.raises(client.ApiException) as caught:
        core.delete_namespaced_config_map("a", namespace, body=wrong)
    assert caught.value.status == 409


def test_a_write_that_changes_nothing_is_none(core: Any, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("a", x="1"))
    first = core.patch_namespaced_config_map("a", namespace, {"data": {"x": "2"}})
    again = core.patch_namespaced_config_map("a", namespace, {"data": {"x": "2"}})
    assert again.metadata.resource_version == first.metadata.resource_version


def test_status_is_written_through_its_subresource_only(core: Any, namespace: str, shared_server: Any) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    shared_server.request("POST", path, {**pod, "status": {"phase": "Running"}})
    assert core.read_namespaced_pod("p", namespace).status.phase == "Pending"
    core.patch_namespaced_pod("p", namespace, {"status": {"phase": "Running"}})
    assert core.read_namespaced_pod("p", namespace).status.phase == "Pending"
    change = {"status": {"phase": "Running"}, "metadata": {"annotations": {"k8s.ovn.org/pod-networks": "{}"}}}
    core.patch_namespaced_pod_status("p", namespace, change)
    found = core.read_namespaced_pod("p", namespace)
    assert found.status.phase == "Running"
    assert found.metadata.annotations == {"k8s.ovn.org/pod-networks": "{}"}


def test_services_get_addresses_and_ports(start_server: Callable[..., Any]) -> None:
    server = start_server("--service-cidr", "10.96.0.0/16,fd00:10:96::/112")
    path = "/api/v1/namespaces/default/services"
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}]
    spec = {"ports": ports, "type": "NodePort", "ipFamilyPolicy": "PreferDualStack"}
    code, service, _ = server.request("POST", path, {"metadata": {"name": "s"}, "spec": spec})
    assert code == 201, service
    assert service["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert service["spec"]["clusterIPs"][0] == service["spec"]["clusterIP"]
    assert [a.split(".")[0].split(":")[0] for a in service["spec"]["clusterIPs"]] == ["10", "fd00"]
    assert {30000 <= p["nodePort"] <= 32767 for p in service["spec"]["ports"]} == {True}
    assert service["spec"]["ports"][0]["targetPort"] == 80
    taken = {"ports": ports, "clusterIP": service["spec"]["clusterIP"]}
    code, body, _ = server.request("POST", path, {"metadata": {"name": "t"}, "spec": taken})
    assert (code, "already allocated" in body["message"]) == (422, True)
    assert server.request("DELETE", f"{path}/s")[0] == 200
    assert server.request("POST", path, {"metadata": {"name": "t"}, "spec": taken})[0] == 201
    headless = {"ports": ports, "clusterIP": "None", "selector": {"a": "b"}}
    code, body, _ = server.request("POST", path, {"metadata": {"name": "h"}, "spec": headless})
    assert body["spec"]["clusterIPs"] == ["None"]


def test_streaming_list_ends_with_a_bookmark(shared_server: Any, namespace: str) -> None:
    objects(shared_server, namespace, ["a", "b"])
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    url = f"{shared_server.url}/api/v1/namespaces/{namespace}/configmaps?{query}"
    with urllib.request.urlopen(url, timeout=10) as response:
        events = read_lines(response, 3)
        assert [e["type"] for e in events] == ["ADDED", "ADDED", "BOOKMARK"]
        assert events[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        objects(shared_server, namespace, ["c"])
        assert read_lines(response, 1)[0]["object"]["metadata"]["name"] == "c"


def test_bookmarks_move_idle_watches_on(start_server: Callable[..., Any]) -> None:
    server = start_server("--bookmark-seconds", "0.2")
    url = f"{server.url}/api/v1/pods?watch=1&allowWatchBookmarks=true&resourceVersion=0"
    with urllib.request.urlopen(url, timeout=10) as response:
        objects(server, "default", ["a"])
        newest = int(server.request("GET", "/api/v1/pods")[1]["metadata"]["resourceVersion"])
        deadline = time.monotonic() + 5
        seen = 0
        while seen < newest and time.monotonic() < deadline:
            (event,) = read_lines(response, 1)
            assert event["type"] == "BOOKMARK"
            seen = int(event["object"]["metadata"]["resourceVersion"])
        assert seen == newest


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_restart_keeps_objects_and_versions(start_server: Callable[..., Any], sig: Any) -> None:
    server = start_server()
    path = "/api/v1/namespaces/default/configmaps"
    objects(server, "default", ["a", "b"])
    server.request("DELETE", f"{path}/a")
    before = server.request("GET", path)[1]
    address = server.url.removeprefix("http://")
    server.stop(sig)
    server.start(address)
    after = server.request("GET", path)[1]
    assert after["items"] == before["items"]
    version = int(before["metadata"]["resourceVersion"])
    assert int(after["metadata"]["resourceVersion"]) >= version
    created = server.request("POST", path, {"metadata": {"name": "c"}})[1]
    assert int(created["metadata"]["resourceVersion"]) > version


def test_a_watch_resumes_across_a_restart(start_server: Callable[..., Any]) -> None:
    server = start_server()
    path = "/api/v1/namespaces/default/configmaps"
    objects(server, "default", ["a"])
    version = server.request("GET", path)[1]["metadata"]["resourceVersion"]
    address = server.url.removeprefix("http://")
    server.stop()
    server.start(address)
    objects(server, "default", ["b"])
    url = f"{server.url}{path}?watch=1&resourceVersion={version}&timeoutSeconds=5"
    with urllib.request.urlopen(url, timeout=10) as response:
        assert read_lines(response, 1)[0]["object"]["metadata"]["name"] == "b"


def test_stopping_ends_watches_at_once(start_server: Callable[..., Any]) -> None:
    server = start_server()
    ended = threading.Event()

    def follow() -> None:
        with urllib.request.urlopen(f"{server.url}/api/v1/pods?watch=1&resourceVersion=0", timeout=20) as response:
            response.read()
        ended.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    time.sleep(0.2)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 5
    assert ended.wait(5)


def test_throttling_answers_429_with_retry_after(start_server: Callable[..., Any]) -> None:
    server = start_server()
    server.request("POST", "/debug/throttle", {"requests": 2, "retryAfter": 3})
    answers = [server.request("GET", "/api/v1/pods") for _ in range(3)]
    assert [a[0] for a in answers] == [429, 429, 200]
    assert answers[0][2]["retry-after"] == "3"
    assert answers[0][1]["reason"] == "TooManyRequests"


def test_many_pods_list_fast_and_watch_whole(start_server: Callable[..., Any]) -> None:
    server = start_server()
    count = 500
    url = f"{server.url}/api/v1/namespaces/default/pods?watch=1&resourceVersion=0&timeoutSeconds=30"
    with urllib.request.urlopen(url, timeout=30) as response:
        for i in range(count):
            body = {"metadata": {"name": f"p{i}"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
            assert server.request("POST", "/api/v1/namespaces/default/pods", body)[0] == 201
        names = {e["object"]["metadata"]["name"] for e in read_lines(response, count)}
    assert names == {f"p{i}" for i in range(count)}
    assert len(server.request("GET", "/api/v1/pods")[1]["items"]) == count


def test_a_load_balancer_with_a_local_policy_gets_a_port_for_health_checks(
    start_server: Callable[..., Any],
) -> None:
    server = start_server()
    path = "/api/v1/namespaces/default/services"
    spec = {"ports": [{"port": 80}], "type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    code, service, _ = server.request("POST", path, {"metadata": {"name": "s"}, "spec": spec})
    assert code == 201, service
    port = service["spec"]["healthCheckNodePort"]
    assert 30000 <= port <= 32767
    assert port != service["spec"]["ports"][0]["nodePort"]
    code, body, _ = server.request(
        "POST", path, {"metadata": {"name": "t"}, "spec": {**spec, "healthCheckNodePort": port}}
    )
    assert (code, "already allocated" in body["message"]) == (422, True)
    service["spec"].pop("healthCheckNodePort")
    code, service, _ = server.request("PUT", f"{path}/s", service)
    assert (code, service["spec"]["healthCheckNodePort"]) == (200, port), "it keeps what it has"
    service["spec"]["externalTrafficPolicy"] = "Cluster"
    code, service, _ = server.request("PUT", f"{path}/s", service)
    assert "healthCheckNodePort" not in service["spec"]
