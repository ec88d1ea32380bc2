"""What ovnkit needs in the lab's cluster: its service accounts and their roles, and its plugins' CRDs.

No process of ovnkit uses the administrator's credentials.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from kubelab.client import ApiError, Client
from ovnkit_lab import pki
from ovnkit_lab.layout import CONTROL, Files, LabError, LabSpec

NAMESPACE = "ovn-kubernetes"
_TOKEN_SECONDS = 365 * 24 * 3600
_RBAC = "rbac.authorization.k8s.io"


def ovnkit_command() -> list[str]:
    """The command line that runs this installation's `ovnkit`."""
    script = Path(sys.executable).parent / "ovnkit"
    if script.is_file():
        return [str(script)]
    return [sys.executable, "-c", "from ovnkit.cli.main import main; main()"]


Roles = dict[str, list[dict[str, Any]]]
"""The ClusterRole and Roles by service account."""


def grant(spec: LabSpec, api: Client, roles: Roles) -> None:
    """Create the service accounts and their roles, and write kubeconfig files with their tokens."""
    for name in (NAMESPACE, "kube-system"):
        api.ensure("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    for account, documents in roles.items():
        metadata = {"name": account, "namespace": NAMESPACE}
        api.ensure(accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        for role in documents:
            _bind(api, role, account)
        request = {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_SECONDS},
        }  # fmt: skip
        answer = api.create(f"{accounts}/{account}/token", request)
        path = Files(spec.name).ovnkit_kubeconfig(account)
        pki.write_kubeconfig(spec, path, pki.fabric_url(spec), account, str(answer["status"]["token"]))


def _bind(api: Client, role: dict[str, Any], account: str) -> None:
    """Create a role, and bind it to a service account."""
    kind, namespace = role["kind"], role["metadata"].get("namespace", "")
    binding = {
        "apiVersion": f"{_RBAC}/v1", "kind": f"{kind}Binding", "metadata": role["metadata"],
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": role["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }  # fmt: skip
    path = f"/apis/{_RBAC}/v1/{f'namespaces/{namespace}/' if namespace else ''}{kind.lower()}"
    api.ensure(f"{path}s", role)
    api.ensure(f"{path}bindings", binding)


def roles_of(spec: LabSpec) -> Roles:
    """The roles that `ovnkit privileges` prints for the control host and for nodes."""

    def roles(host: str) -> list[dict[str, Any]]:
        held = [word for role in spec.roles(host) for word in ("--role", role)]
        return _manifests(spec, "privileges", "--name", spec.account(host), *held)

    hosts = (CONTROL, spec.nodes[0])
    with ThreadPoolExecutor(len(hosts)) as pool:
        return dict(zip(map(spec.account, hosts), pool.map(roles, hosts), strict=True))


def crds_of(spec: LabSpec) -> list[dict[str, Any]]:
    """The CustomResourceDefinitions of the enabled plugins, as `ovnkit crds` prints them."""
    return _manifests(spec, "crds")


def define(api: Client, crds: Iterable[dict[str, Any]]) -> None:
    """Create the CustomResourceDefinitions."""
    for crd in crds:
        api.ensure("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)


def _manifests(spec: LabSpec, command: str, *arguments: str) -> list[dict[str, Any]]:
    """The manifests that an `ovnkit` command prints, with the configuration of a node. Raises LabError."""
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
    """Point the `kubernetes` Service to the control host: the API server listens on all addresses."""
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
