"""What ovnkit may do in the lab's cluster: its own service account and ClusterRole, never the administrator's."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from ovnkit_lab import pki
from ovnkit_lab.client import Client
from ovnkit_lab.layout import Files, LabSpec

NAMESPACE = "ovn-kubernetes"
ACCOUNT = "ovnkit"
_TOKEN_SECONDS = 365 * 24 * 3600
_RBAC = "rbac.authorization.k8s.io"

# What the core itself needs, should the plugins' declarations not be at hand.
_FALLBACK_RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods", "services", "endpoints", "configmaps"],
     "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["nodes", "pods", "nodes/status", "pods/status", "namespaces"],
     "verbs": ["patch", "update"]},
    {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
     "verbs": ["get", "list", "watch", "create", "update", "patch"]},
    {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
     "verbs": ["get", "list", "watch", "create", "update", "patch"]},
    {"apiGroups": ["k8s.ovn.org", "policy.networking.k8s.io", "k8s.cni.cncf.io"], "resources": ["*"],
     "verbs": ["get", "list", "watch", "patch", "update"]},
]  # fmt: skip


def grant(spec: LabSpec, api: Client) -> None:
    """Make the service account with its role, and write the kubeconfig with its token."""
    for name in (NAMESPACE, "kube-system"):
        api.ensure("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": NAMESPACE}}
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    api.ensure(accounts, account)
    role = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": ACCOUNT},
        "rules": _rules(spec),
    }
    binding = {
        "apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }  # fmt: skip
    api.ensure(f"/apis/{_RBAC}/v1/clusterroles", role)
    api.ensure(f"/apis/{_RBAC}/v1/clusterrolebindings", binding)
    request = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": _TOKEN_SECONDS},
    }  # fmt: skip
    answer = api.create(f"{accounts}/{ACCOUNT}/token", request)
    path = Files(spec.name).base / "ovnkit.kubeconfig"
    pki.write_kubeconfig(spec, path, pki.fabric_url(spec), ACCOUNT, str(answer["status"]["token"]))


def _rules(spec: LabSpec) -> list[dict[str, Any]]:
    """The rules of the enabled plugins, as `ovnkit privileges` collects them."""
    config = Files(spec.name).config(spec.nodes[0])
    result = subprocess.run(
        [sys.executable, "-m", "ovnkit.cli.main", "--config", str(config), "privileges", "--output", "json"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if result.returncode:
        return _FALLBACK_RULES
    role = json.loads(result.stdout)
    return list(role["rules"] if isinstance(role, dict) else role)
