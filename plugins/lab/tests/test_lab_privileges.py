"""ovnkit in the lab has what `ovnkit privileges` says of its roles, and nothing more; it works with that."""

import json
from pathlib import Path

import pytest

from ovnkit_lab.layout import Files
from ovnkit_lab.testing import LabHandle

pytestmark = pytest.mark.lab


def kubectl(lab: LabHandle, account: str, *arguments: str) -> tuple[int, str]:
    """kubectl as a service account of ovnkit, from node1."""
    config = Files(lab.name).ovnkit_kubeconfig(account)
    done = lab.run("node", "node1", "--", "kubectl", "--kubeconfig", str(config), *arguments, check=False)
    return done.returncode, done.stdout or done.stderr


def may(lab: LabHandle, account: str, verb: str, what: str, *more: str) -> bool:
    resource, _, subresource = what.partition("/")
    part = [f"--subresource={subresource}"] if subresource else []
    return kubectl(lab, account, "auth", "can-i", verb, resource, *part, *more)[1].strip() == "yes"


SYSTEM = ("-n", "ovn-kubernetes")


@pytest.mark.parametrize(
    ("account", "verb", "what", "where", "allowed"),
    [
        ("ovnkit-node", "patch", "pods/status", (), True),
        ("ovnkit-node", "patch", "nodes/status", (), True),
        ("ovnkit-node", "patch", "pods", (), False),
        ("ovnkit-node", "patch", "nodes", (), False),
        ("ovnkit-node", "patch", "services", (), False),
        ("ovnkit-node", "patch", "services/status", (), False),
        ("ovnkit-node", "delete", "pods", (), False),
        ("ovnkit-node", "create", "pods", (), False),
        ("ovnkit-node", "create", "leases", SYSTEM, False),
        ("ovnkit-node", "get", "secrets", (), False),
        ("ovnkit-control", "patch", "nodes/status", (), True),
        ("ovnkit-control", "patch", "services/status", (), True),
        ("ovnkit-control", "create", "leases", SYSTEM, True),
        ("ovnkit-control", "create", "leases", ("-n", "kube-system"), False),
        ("ovnkit-control", "update", "leases", SYSTEM, False),
        ("ovnkit-control", "patch", "pods", (), False),
        ("ovnkit-control", "patch", "pods/status", (), False),
        ("ovnkit-control", "patch", "nodes", (), False),
    ],
)
def test_accounts_may_do_no_more_than_their_roles_need(
    lab: LabHandle, account: str, verb: str, what: str, where: tuple[str, ...], allowed: bool
) -> None:
    assert may(lab, account, verb, what, *where) is allowed


def test_nobody_on_a_node_changes_what_a_pod_or_a_node_is_to_be(lab: LabHandle) -> None:
    lab.apply(lab.pod("victim", node="node2"))
    lab.wait_ready("victim")
    image = lab.get("pod", "victim")["spec"]["containers"][0]
    change = json.dumps({"spec": {"containers": [{"name": image["name"], "image": "other"}]}})
    code, said = kubectl(lab, "ovnkit-node", "patch", "pod", "victim", "-p", change)
    assert code != 0
    assert "orbidden" in said
    kubectl(lab, "ovnkit-node", "patch", "pod", "victim", "--subresource=status", "-p", change)
    kubectl(lab, "ovnkit-node", "patch", "node", "node2", "--subresource=status", "-p",
            json.dumps({"spec": {"unschedulable": True}}))  # fmt: skip
    assert lab.get("pod", "victim")["spec"]["containers"][0]["image"] == image["image"]
    assert not lab.get("node", "node2")["spec"].get("unschedulable")
    assert "k8s.ovn.org/pod-networks" in lab.get("pod", "victim")["metadata"]["annotations"]
    lab.delete("pod", "victim")


def test_ovnkit_was_refused_nothing(lab: LabHandle) -> None:
    logs = list(Path(Files(lab.name).base).rglob("ovnkit.log"))
    assert len(logs) == 3
    for log in logs:
        refused = [line for line in log.read_text().splitlines() if "orbidden" in line or "403" in line.split()]
        assert not refused, log
