"""What is left of the plugin on objects once it is disabled: nothing, and of others everything."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovnkit.testing import ovsdb
from ovnkit.testing.cluster import ApiServer, OvnkitProcess, eventually
from ovnkit.testing.ovsdb import OvsdbServer
from ovnkit_egress_firewall.status import APPLIED, NOT_APPLIED, is_message

pytestmark = pytest.mark.skipif(not ovsdb.available(), reason="needs ovsdb-server")

FIREWALL = "/apis/k8s.ovn.org/v1/namespaces/shop/egressfirewalls/default"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path / "api") as server:
        crd = files("ovnkit_egress_firewall").joinpath("crds/egressfirewall.yaml").read_text("utf-8")
        server.create(yaml.safe_load(crd))
        for name in ("shop", "ovn-kubernetes"):
            server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        server.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        meta = {"namespace": "shop", "name": "default"}
        rules = [{"type": "Deny", "to": {"cidrSelector": "192.0.2.0/24"}}]
        firewall = {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": meta}
        eventually(lambda: server.create({**firewall, "spec": {"egress": rules}}))
        yield server


def run(folder: Path, api: ApiServer, server: OvsdbServer, *roles: str, enabled: bool) -> OvnkitProcess:
    words = [word for role in roles for word in ("--role", role)]
    for db in ("ovnnorth", "ovnsouth"):
        words += ["--set", f"{db}.address={server.endpoint}"]
    if not enabled:
        words += ["--set", "plugins.disabled=egress_firewall"]
    return OvnkitProcess(folder / "run", api.kubeconfig, *words, "--node-name", "n1")


def status(api: ApiServer) -> dict[str, Any]:
    return dict(api.request("GET", FIREWALL).get("status") or {})


def says(api: ApiServer, manager: str, *messages: str) -> None:
    """Someone applies messages, as a zone does."""
    meta = {"namespace": "shop", "name": "default"}
    body = {"apiVersion": "k8s.ovn.org/v1", "kind": "EgressFirewall", "metadata": meta}
    path = f"{FIREWALL}/status?fieldManager={manager}&force=true"
    api.request("PATCH", path, {**body, "status": {"messages": list(messages)}}, "application/apply-patch+yaml")


def test_the_status_goes_when_the_plugin_is_disabled(
    tmp_path: Path, api: ApiServer, ovn_databases: OvsdbServer
) -> None:
    with run(tmp_path, api, ovn_databases, "cluster", "zone", enabled=True) as process:
        process.wait_ready()
        eventually(lambda: status(api) == {"messages": [f"n1: {APPLIED}"], "status": APPLIED})
    says(api, "old-zone", f"old-zone: {NOT_APPLIED}: rule 0: no")
    says(api, "somebody", "somebody: this is mine")
    with run(tmp_path, api, ovn_databases, "zone", enabled=False) as process:
        process.wait_ready()
        eventually(lambda: f"n1: {APPLIED}" not in status(api)["messages"])
        assert len(status(api)["messages"]) == 2, "a zone takes away its own"
        assert [line["plugin"] for line in process.logged("leftover removed")] == ["egress_firewall"]
    with run(tmp_path, api, ovn_databases, "cluster", enabled=False) as process:
        process.wait_ready()
        eventually(lambda: status(api) == {"messages": ["somebody: this is mine"]})
    with run(tmp_path, api, ovn_databases, "cluster", "zone", enabled=True) as process:
        process.wait_ready()
        eventually(lambda: status(api).get("status") == APPLIED)
        assert sorted(status(api)["messages"]) == [f"n1: {APPLIED}", "somebody: this is mine"]


@pytest.mark.parametrize(
    ("manager", "found", "ours"),
    [
        ("n1", {"messages": [f"n1: {APPLIED}"]}, True),
        ("n1", {"messages": ["n2: else", f"n1: {NOT_APPLIED}: rule 1: no"]}, True),
        ("n1", {"messages": [f"n2: {APPLIED}"]}, False),
        ("n1", {"messages": ["n1: something else"]}, False),
        ("n1", {"messages": [7]}, False),
        ("n1", {}, False),
    ],
)
def test_a_zones_message_is_recognised(manager: str, found: dict[str, Any], ours: bool) -> None:
    assert is_message(manager, found) is ours
