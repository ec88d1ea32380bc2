"""Tokens and RBAC: what callers may do, and that can-i tells the truth about it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

TOKENS = """admin-token,admin,1,"system:masters"
reader-token,reader,2,"viewers"
nobody-token,nobody,3
"""
ROLES = {
    "clusterroles": {
        "metadata": {"name": "pod-reader"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"], "resourceNames": ["mine"]},
        ],
    },
    "clusterrolebindings": {
        "metadata": {"name": "viewers-read-pods"},
        "roleRef": {"kind": "ClusterRole", "name": "pod-reader"},
        "subjects": [{"kind": "Group", "name": "viewers"}],
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, server_class: Any) -> Any:
    directory = tmp_path_factory.mktemp("apiserver")
    tokens = directory / "tokens.csv"
    tokens.write_text(TOKENS)
    server = server_class(directory, ["--token-file", str(tokens)])
    server.use_tls()
    server.start()
    for plural, body in ROLES.items():
        path = f"/apis/rbac.authorization.k8s.io/v1/{plural}"
        code, answer, _ = server.request("POST", path, body, token="admin-token")
        assert code == 201, answer
    yield server
    server.stop()


def can_i(server: Any, binary: Any, token: Any, *question: Any) -> Any:
    command = [binary, f"--kubeconfig={server.kubeconfig(token)}", "auth", "can-i", *question]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert not done.stderr.startswith(("error", "Error")), done.stderr
    return done.stdout.strip()


def test_roles_are_enforced(server: Any) -> None:
    assert server.request("GET", "/api/v1/pods", token="reader-token")[0] == 200
    code, body, _ = server.request("GET", "/api/v1/secrets", token="reader-token")
    assert code == 403
    assert 'User "reader" cannot list resource "secrets"' in body["message"]
    assert server.request("GET", "/api/v1/pods", token="nobody-token")[0] == 403
    assert server.request("GET", "/api/v1/pods")[0] == 403
    assert server.request("GET", "/api/v1/pods", token="made-up")[0] == 401
    assert server.request("GET", "/version")[0] == 200
    assert server.request("GET", "/apis", token="nobody-token")[0] == 200


def test_names_and_subresources_count(server: Any) -> None:
    path = "/api/v1/namespaces/default/pods/{}/status"
    for name in ("mine", "yours"):
        pod = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        server.request("POST", "/api/v1/namespaces/default/pods", pod, token="admin-token")
    patch = json.dumps({"status": {"phase": "Running"}}).encode()
    header = {"Content_Type": "application/merge-patch+json"}
    assert server.request("PATCH", path.format("mine"), patch, token="reader-token", **header)[0] == 200
    assert server.request("PATCH", path.format("yours"), patch, token="reader-token", **header)[0] == 403


def test_a_namespaced_role_ends_at_its_namespace(server: Any) -> None:
    base = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]
    server.request("POST", f"{base}/roles", {"metadata": {"name": "r"}, "rules": rules}, token="admin-token")
    assert server.request("GET", "/api/v1/namespaces/default/configmaps", token="nobody-token")[0] == 403
    subjects = [{"kind": "User", "name": "nobody"}]
    binding = {"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": subjects}
    assert server.request("POST", f"{base}/rolebindings", binding, token="admin-token")[0] == 201
    assert server.request("GET", "/api/v1/namespaces/default/configmaps", token="nobody-token")[0] == 200
    assert server.request("GET", "/api/v1/namespaces/kube-system/configmaps", token="nobody-token")[0] == 403
    server.request("DELETE", f"{base}/rolebindings/b", token="admin-token")
    assert server.request("GET", "/api/v1/namespaces/default/configmaps", token="nobody-token")[0] == 403


def test_can_i_tells_the_truth(server: Any, kubectl_binary: str) -> None:
    assert can_i(server, kubectl_binary, "admin-token", "delete", "nodes") == "yes"
    assert can_i(server, kubectl_binary, "reader-token", "list", "pods") == "yes"
    assert can_i(server, kubectl_binary, "reader-token", "delete", "pods") == "no"
    assert can_i(server, kubectl_binary, "admin-token", "list", "pods", "--as=reader") == "no"
    assert can_i(server, kubectl_binary, "admin-token", "list", "pods", "--as=x", "--as-group=viewers") == "yes"
    assert "pods" in can_i(server, kubectl_binary, "reader-token", "--list")


def test_service_account_tokens_work(server: Any) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts"
    account = server.request("POST", path, {"metadata": {"name": "robot"}}, token="admin-token")[1]
    token = server.request("POST", f"{path}/robot/token", {"spec": {}}, token="admin-token")[1]["status"]["token"]
    assert server.request("GET", "/api/v1/pods", token=token)[0] == 403
    subjects = [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]
    reference = {"kind": "ClusterRole", "name": "pod-reader"}
    binding = {"metadata": {"name": "robots"}, "roleRef": reference, "subjects": subjects}
    server.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding, token="admin-token")
    assert server.request("GET", "/api/v1/pods", token=token)[0] == 200
    assert account["metadata"]["uid"]
    server.request("DELETE", f"{path}/robot", token="admin-token")
    assert server.request("GET", "/api/v1/pods", token=token)[0] == 401
