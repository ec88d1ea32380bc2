"""What ovnkit needs in the lab's cluster: its own service account and ClusterRole, never the administrator's, and
the CustomResourceDefinitions of its plugins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ovnkit_lab import pki
from ovnkit_lab.client import ApiError, Client
from ovnkit_lab.layout import CONTROL, Files, LabError, LabSpec

NAMESPACE = "ovn-kubernetes"
ACCOUNT = "ovnkit"
_TOKEN_SECONDS = 365 * 24 * 3600
_RBAC = "rbac.authorization.k8s.io"


def ovnkit_command() -> list[str]:
    """The words that run this installation's `ovnkit`."""
    script = Path(sys.executable).parent / "ovnkit"
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-c", "from ovnkit.cli.main import main; main()"]


def grant(spec: LabSpec, api: Client, role: dict[str, Any]) -> None:
    """Make the service account with its role, and write the kubeconfig with its token."""
    for name in (NAMESPACE, "kube-system"):
        api.ensure("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": NAMESPACE}}
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    api.ensure(accounts, account)
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


def role_of(spec: LabSpec) -> dict[str, Any]:
    """The ClusterRole of the enabled plugins, as `ovnkit privileges` collects them."""
    [role] = _manifests(spec, "privileges", "--name", ACCOUNT)
    return role


def crds_of(spec: LabSpec) -> list[dict[str, Any]]:
    """The CustomResourceDefinitions of the enabled plugins, as `ovnkit crds` collects them."""
    return _manifests(spec, "crds")


def define(api: Client, crds: Iterable[dict[str, Any]]) -> None:
    """Make the plugins' kinds known."""
    for crd in crds:
        api.ensure("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)


def _manifests(spec: LabSpec, command: str, *arguments: str) -> list[dict[str, Any]]:
    """What a command of ovnkit prints, with the configuration of a node."""
    config = Files(spec.name).config(spec.nodes[0])
    result = subprocess.run(
        [*ovnkit_command(), command, "--config", str(config), *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if result.returncode:
        words = (result.stderr.strip() or "no output").splitlines()[-1]
        raise LabError(f"ovnkit {command}: {words}")
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def advertise(spec: LabSpec, api: Client) -> None:
    """Let the `kubernetes` Service lead to the control host; the embedded server only knows it is everywhere."""
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    address = str(spec.addresses(CONTROL)[0].ip)
    body = {"endpoints": [{"addresses": [address], "conditions": {"ready": True}}]}
    try:
        held = api.get(path)
        if held["endpoints"][0]["addresses"] != [address]:
            api.patch(path, body)
    except ApiError as error:
        if error.status != 404:
            raise
