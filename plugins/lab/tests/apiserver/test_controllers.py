"""The lab's controllers on an API server that leaves everything to others, as kube-apiserver does."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubelab.client import STRATEGIC_PATCH, ApiError, Client
from ovnkit_lab.testing import wait_until

Json = dict[str, Any]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def client(server_class: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    server = server_class(tmp_path_factory.mktemp("bare"), ["--no-controllers"])
    server.use_tls()
    server.start()
    command = [sys.executable, "-m", "kubelab.controllers", "--server", server.url]
    token = server.directory / "token"
    token.write_text("any")
    command += ["--certificate-authority", str(server.certificate), "--token-file", str(token)]
    process = subprocess.Popen(command)
    client = Client(server.url, Path(server.certificate), "")
    wait_until(lambda: there(client, "/api/v1/namespaces/default/serviceaccounts/default"))
    yield client
    process.kill()
    process.wait()
    server.stop()


@pytest.fixture
def place(client: Client) -> str:
    """A namespace of the test's own."""
    name = f"test{next(_numbers)}"
    client.create("/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture
def maps(place: str) -> str:
    """The path of its ConfigMaps, which own each other here."""
    return f"/api/v1/namespaces/{place}/configmaps"


def there(client: Client, path: str) -> Json:
    try:
        return client.get(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return {}


def made(client: Client, path: str, name: str, *owners: Json, **meta: Any) -> Json:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
         "uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}
        for owner in owners
    ]  # fmt: skip
    return client.create(path, {"metadata": {"name": name, "ownerReferences": references, **meta}})


def deleted(client: Client, maps: str, name: str, policy: str) -> None:
    client.delete(f"{maps}/{name}", {"propagationPolicy": policy})


def test_background_deletion_takes_the_whole_tree_and_nothing_that_has_another_owner(
    client: Client, place: str, maps: str
) -> None:
    root, other = made(client, maps, "root"), made(client, maps, "other")
    child = made(client, maps, "child", root)
    made(client, maps, "grandchild", child)
    made(client, maps, "shared", root, other)
    deleted(client, maps, "root", "Background")
    wait_until(lambda: not there(client, f"{maps}/child") and not there(client, f"{maps}/grandchild"))
    wait_until(lambda: len(there(client, f"{maps}/shared")["metadata"]["ownerReferences"]) == 1)
    assert there(client, f"{maps}/other")


def test_foreground_deletion_takes_dependents_first_and_ends(client: Client, place: str, maps: str) -> None:
    root = made(client, maps, "root")
    child = made(client, maps, "child", root, finalizers=["example.org/wait"])
    made(client, maps, "grandchild", child)
    deleted(client, maps, "root", "Foreground")
    wait_until(lambda: "deletionTimestamp" in there(client, f"{maps}/child")["metadata"])
    wait_until(lambda: not there(client, f"{maps}/grandchild"))
    assert there(client, f"{maps}/root"), "it waits for its dependent"
    client.patch(f"{maps}/child", {"metadata": {"finalizers": None}})
    wait_until(lambda: not there(client, f"{maps}/root"))
    assert not there(client, f"{maps}/child")


def test_orphaning_leaves_the_dependents_without_their_owner(client: Client, place: str, maps: str) -> None:
    made(client, maps, "child", made(client, maps, "root"))
    deleted(client, maps, "root", "Orphan")
    wait_until(lambda: not there(client, f"{maps}/root"))
    assert "ownerReferences" not in there(client, f"{maps}/child")["metadata"]


def test_an_owner_of_a_kind_that_nobody_knows_is_not_taken_for_gone(client: Client, place: str, maps: str) -> None:
    unknown = {"apiVersion": "example.org/v1", "kind": "Thing", "name": "t", "uid": "u-1"}
    client.create(maps, {"metadata": {"name": "kept", "ownerReferences": [unknown]}})
    never = {"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "u-2"}
    client.create(maps, {"metadata": {"name": "stray", "ownerReferences": [never]}})
    wait_until(lambda: not there(client, f"{maps}/stray"))
    assert there(client, f"{maps}/kept")


def test_a_deployment_goes_with_its_replica_sets_and_pods(client: Client, place: str, maps: str) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    path = f"/apis/apps/v1/namespaces/{place}/deployments"
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    client.create(path, {"metadata": {"name": "web"}, "spec": spec})
    pods, sets = f"/api/v1/namespaces/{place}/pods", f"/apis/apps/v1/namespaces/{place}/replicasets"
    wait_until(lambda: len(client.get(pods)["items"]) == 2)
    client.delete(f"{path}/web", {"propagationPolicy": "Background"})
    wait_until(lambda: not client.get(sets)["items"] and not client.get(pods)["items"])


def test_custom_resources_that_come_later_are_collected_too(client: Client, place: str, maps: str) -> None:
    names = {"plural": "parts", "singular": "part", "kind": "Part"}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "example.org", "scope": "Namespaced", "names": names, "versions": [version]}
    client.create(CRDS, {"metadata": {"name": "parts.example.org"}, "spec": spec})
    path = f"/apis/example.org/v1/namespaces/{place}/parts"
    wait_until(lambda: there(client, path))
    root = made(client, maps, "root")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "root", "uid": root["metadata"]["uid"]}
    body = {"apiVersion": "example.org/v1", "kind": "Part"}
    client.create(path, {**body, "metadata": {"name": "p", "ownerReferences": [reference]}})
    deleted(client, maps, "root", "Background")
    wait_until(lambda: not there(client, f"{path}/p"), 30)


def test_a_namespace_that_ends_is_emptied_and_goes_once_nothing_is_left(
    client: Client, place: str, maps: str
) -> None:
    client.create("/api/v1/namespaces", {"metadata": {"name": "ending"}})
    path = "/api/v1/namespaces/ending/configmaps"
    wait_until(lambda: there(client, "/api/v1/namespaces/ending/serviceaccounts/default"))
    made(client, path, "plain")
    made(client, path, "held", finalizers=["example.org/wait"])
    client.delete("/api/v1/namespaces/ending")
    wait_until(lambda: not there(client, f"{path}/plain"))
    assert there(client, "/api/v1/namespaces/ending")["status"]["phase"] == "Terminating"
    client.patch(f"{path}/held", {"metadata": {"finalizers": None}})
    wait_until(lambda: not there(client, "/api/v1/namespaces/ending"))
    client.create("/api/v1/namespaces", {"metadata": {"name": "ending"}})
    assert client.get(path)["items"] == []


def test_a_deleted_default_service_account_is_made_again(client: Client, place: str, maps: str) -> None:
    path = f"/api/v1/namespaces/{place}/serviceaccounts/default"
    wait_until(lambda: there(client, path))
    uid = there(client, path)["metadata"]["uid"]
    client.delete(path)
    wait_until(lambda: there(client, path).get("metadata", {}).get("uid", uid) != uid)


def ready(client: Client, path: str) -> None:
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    client.patch(f"{path}/status", {"status": status}, STRATEGIC_PATCH)


def allowed(client: Client, path: str) -> tuple[Any, ...]:
    status = there(client, path).get("status") or {}
    names = ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed")
    return tuple(status.get(name) for name in names)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"minAvailable": 2}, (3, 2, 2, 0)),
        ({"minAvailable": "50%"}, (3, 2, 2, 0)),
        ({"minAvailable": "33%"}, (3, 1, 2, 1)),
        ({"maxUnavailable": 2}, (3, 1, 2, 1)),
        ({"maxUnavailable": "34%"}, (3, 1, 2, 1)),
    ],
)
def test_a_disruption_budget_tells_how_many_pods_may_go(
    client: Client, place: str, budget: Json, expected: tuple[int, ...]
) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    client.create(f"/apis/apps/v1/namespaces/{place}/deployments", {"metadata": {"name": "web"}, "spec": spec})
    budgets = f"/apis/policy/v1/namespaces/{place}/poddisruptionbudgets"
    content = {"selector": {"matchLabels": {"app": "web"}}, **budget}
    client.create(budgets, {"metadata": {"name": "b"}, "spec": content})
    pods = f"/api/v1/namespaces/{place}/pods"
    wait_until(lambda: len(client.get(pods)["items"]) == 3)
    names = [item["metadata"]["name"] for item in client.get(pods)["items"]]
    for name in names[:2]:
        ready(client, f"{pods}/{name}")
    wait_until(lambda: allowed(client, f"{budgets}/b") == expected, what=f"{expected}")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": names[0]}}
    if expected[-1]:
        client.create(f"{pods}/{names[0]}/eviction", eviction)
        wait_until(lambda: not there(client, f"{pods}/{names[0]}"))
    else:
        with pytest.raises(ApiError, match="disruption budget") as refused:
            client.create(f"{pods}/{names[0]}/eviction", eviction)
        assert refused.value.status == 429
        assert there(client, f"{pods}/{names[0]}")


def labelled(app: str) -> Json:
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def controllers_of(client: Client, path: str) -> dict[str, str]:
    """The controller of each object of a collection, by the names of both."""
    return {
        item["metadata"]["name"]: (item["metadata"].get("ownerReferences") or [{"name": ""}])[0]["name"]
        for item in client.get(path)["items"]
    }


def test_a_deployment_made_again_takes_over_what_was_left_by_orphaning(client: Client, place: str) -> None:
    path = f"/apis/apps/v1/namespaces/{place}/deployments"
    pods, sets = f"/api/v1/namespaces/{place}/pods", f"/apis/apps/v1/namespaces/{place}/replicasets"
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": labelled("web")}
    client.create(path, {"metadata": {"name": "web"}, "spec": spec})
    wait_until(lambda: len(client.get(pods)["items"]) == 2)
    before = controllers_of(client, pods)
    client.delete(f"{path}/web", {"propagationPolicy": "Orphan"})
    wait_until(lambda: list(controllers_of(client, sets).values()) == [""])
    client.create(path, {"metadata": {"name": "web"}, "spec": spec})
    wait_until(lambda: list(controllers_of(client, sets).values()) == ["web"], what="the set is the deployment's")
    wait_until(lambda: there(client, f"{path}/web").get("status", {}).get("replicas") == 2)
    assert controllers_of(client, pods) == before, "the same pods"
    client.delete(f"{path}/web", {"propagationPolicy": "Background"})
    wait_until(lambda: not client.get(sets)["items"] and not client.get(pods)["items"])


@pytest.mark.parametrize("kind", ["ReplicaSet", "DaemonSet"])
def test_a_pod_whose_label_is_changed_is_let_go_and_replaced(client: Client, place: str, kind: str) -> None:
    pods, path = f"/api/v1/namespaces/{place}/pods", f"/apis/apps/v1/namespaces/{place}/{kind.lower()}s"
    if kind == "DaemonSet" and not there(client, "/api/v1/nodes/node1"):
        client.create("/api/v1/nodes", {"metadata": {"name": "node1"}})
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": labelled("web")}
    client.create(path, {"metadata": {"name": "web"}, "spec": spec})
    wait_until(lambda: list(controllers_of(client, pods).values()) == ["web"])
    first = next(iter(controllers_of(client, pods)))
    client.patch(f"{pods}/{first}", {"metadata": {"labels": {"app": "looked-at"}}})
    wait_until(lambda: sorted(controllers_of(client, pods).values()) == ["", "web"], what="let go and replaced")
    client.delete(f"{path}/web", {"propagationPolicy": "Background"})
    wait_until(lambda: list(controllers_of(client, pods)) == [first], what="the one let go stays")
    client.create(path, {"metadata": {"name": "web"}, "spec": spec})
    wait_until(lambda: len(controllers_of(client, pods)) == 2)
    client.patch(f"{pods}/{first}", {"metadata": {"labels": {"app": "web"}}})
    wait_until(lambda: list(controllers_of(client, pods).values()) == ["web"], what="one too many goes")


def test_a_pod_that_another_controls_is_left_alone(client: Client, place: str) -> None:
    pods, path = f"/api/v1/namespaces/{place}/pods", f"/apis/apps/v1/namespaces/{place}/replicasets"
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": labelled("web")}
    for name in ("one", "two"):
        client.create(path, {"metadata": {"name": name}, "spec": spec})
    wait_until(lambda: sorted(controllers_of(client, pods).values()) == ["one", "two"])
    client.patch(f"{path}/two", {"spec": {"replicas": 2}})
    wait_until(lambda: sorted(controllers_of(client, pods).values()) == ["one", "two", "two"])
