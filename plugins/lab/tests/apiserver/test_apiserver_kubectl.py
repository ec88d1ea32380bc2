"""Every verb of an unmodified kubectl that the lab promises, run for real."""

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1.25", ports: [{containerPort: 80}], env: [{name: A, value: "1"}]}
      - {name: side, image: "busybox:1"}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: one}}
spec: {containers: [{name: c, image: busybox}]}
"""
GADGETS = "/apis/lab.example/v1/gadgets"
WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.lab.example}
spec:
  group: lab.example
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, maximum: 9, description: How many parts the widget has.}
              colour: {type: string, enum: [red, blue], default: red}
              cidr: {type: string, format: cidr}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  {type: object, required: [name], properties: {name: {type: string}, weight: {type: integer}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


@pytest.fixture(scope="session")
def widgets(shared_server: Any, kubectl_binary: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    from subprocess import run

    crd = tmp_path_factory.mktemp("crd") / "crd.yaml"
    crd.write_text(WIDGETS)
    command = [kubectl_binary, f"--kubeconfig={shared_server.kubeconfig()}", "create", "-f", str(crd)]
    assert "widgets.lab.example created" in run(command, capture_output=True, text=True, check=True).stdout


def widget(name: str = "w1", **spec: Any) -> Any:
    body = {
        "apiVersion": "lab.example/v1",
        "kind": "Widget",
        "metadata": {"name": name},
        "spec": {"size": 3, **spec},
    }
    return json.dumps(body)


def test_apply_creates_changes_and_settles(kubectl: Any) -> None:
    assert "deployment.apps/web created" in kubectl.run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert "deployment.apps/web unchanged" in kubectl.run("apply", "-f", "-", stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("nginx:1.25", "nginx:1.26").replace("replicas: 2", "replicas: 5")
    assert "deployment.apps/web configured" in kubectl.run("apply", "-f", "-", stdin=changed)
    found = kubectl.json("get", "deployment", "web")
    assert found["spec"]["replicas"] == 5
    assert [c["image"] for c in found["spec"]["template"]["spec"]["containers"]] == ["nginx:1.26", "busybox:1"]
    assert found["metadata"]["generation"] == 2
    one = changed.replace('      - {name: side, image: "busybox:1"}\n', "")
    kubectl.run("apply", "-f", "-", stdin=one)
    containers = kubectl.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in containers] == ["web"]


def test_apply_refuses_unknown_fields_and_wrong_types(kubectl: Any) -> None:
    wrong = POD.replace("image: busybox", "image: busybox, imagine: x")
    text = kubectl.run("apply", "-f", "-", stdin=wrong, ok=False)
    assert 'unknown field "spec.containers[0].imagine"' in text
    text = kubectl.run("apply", "-f", "-", stdin=POD.replace("image: busybox", "image: 5"), ok=False)
    assert "spec.containers[0].image" in text
    text = kubectl.run("apply", "-f", "-", stdin=POD.replace("name: one", "name: One_"), ok=False)
    assert "RFC 1123" in text
    assert "unknown field" in kubectl.run("apply", "--validate=warn", "-f", "-", stdin=wrong)


def test_apply_server_side_conflicts_and_force(kubectl: Any) -> None:
    assert "serverside-applied" in kubectl.run("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT)
    other = DEPLOYMENT.replace("replicas: 2", "replicas: 7")
    conflict = kubectl.run("apply", "--server-side", "--field-manager=rival", "-f", "-", stdin=other, ok=False)
    assert 'conflict with "kubectl"' in conflict
    assert ".spec.replicas" in conflict
    kubectl.run("apply", "--server-side", "--field-manager=rival", "--force-conflicts", "-f", "-", stdin=other)
    found = json.loads(kubectl.run("get", "deployment", "web", "-o", "json", "--show-managed-fields"))
    assert found["spec"]["replicas"] == 7
    owners = {m["manager"]: m for m in found["metadata"]["managedFields"]}
    assert owners["rival"]["operation"] == "Apply"
    assert "f:replicas" in owners["rival"]["fieldsV1"]["f:spec"]
    assert "f:replicas" not in owners["kubectl"]["fieldsV1"]["f:spec"]


def test_apply_server_side_removes_what_is_no_longer_applied(kubectl: Any) -> None:
    kubectl.run("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT)
    less = DEPLOYMENT.replace(', env: [{name: A, value: "1"}]', "").replace(
        '      - {name: side, image: "busybox:1"}\n', ""
    )
    kubectl.run("apply", "--server-side", "-f", "-", stdin=less)
    containers = kubectl.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in containers] == ["web"]
    assert "env" not in containers[0]


def test_client_side_apply_moves_to_server_side(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=DEPLOYMENT)
    kubectl.run("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT.replace("replicas: 2", "replicas: 3"))
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 3


def test_get_in_every_form(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=POD)
    assert kubectl.run("get", "pods").split()[:10] == [
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "one", "0/1", "Pending", "0", "0s",
    ] or "Pending" in kubectl.run("get", "pods")  # fmt: skip
    wide = kubectl.run("get", "pod", "one", "-o", "wide")
    assert "NOMINATED NODE" in wide
    assert "name: one" in kubectl.run("get", "pod", "one", "-o", "yaml")
    assert kubectl.json("get", "pod", "one")["status"]["phase"] == "Pending"
    assert kubectl.run("get", "pods", "-o", "name").strip() == "pod/one"
    assert kubectl.run("get", "pods", "-l", "app in (one,two),!x", "-o", "name").strip() == "pod/one"
    assert "No resources found" in kubectl.run("get", "pods", "-l", "app!=one")
    assert "No resources found" in kubectl.run("get", "pods", "--field-selector", "status.phase=Running")
    assert kubectl.run(
        "get", "pods", "--field-selector", "spec.nodeName=,status.phase!=Failed", "-o", "name"
    ).strip()
    assert "field label not supported" in kubectl.run("get", "pods", "--field-selector", "spec.x=1", ok=False)
    assert 'pods "none" not found' in kubectl.run("get", "pod", "none", ok=False)
    assert "one" in kubectl.run("get", "all")
    assert "one" in kubectl.run("get", "pods", "--sort-by=.metadata.name", "--show-labels")


def test_get_prints_columns_of_each_kind(kubectl: Any) -> None:
    kubectl.run("create", "service", "nodeport", "svc", "--tcp=80:8080")
    kubectl.run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert "NodePort" in kubectl.run("get", "services")
    assert "0/2" in kubectl.run("get", "deployments")
    assert "Active" in kubectl.run("get", "namespaces")
    assert "127.0.0.1" in kubectl.run("get", "endpointslices", "-A")
    for kind in (
        "nodes",
        "daemonsets",
        "replicasets",
        "networkpolicies",
        "events",
        "crds",
        "leases",
        "clusterroles",
    ):
        assert kubectl.process("get", kind, "-o", "wide").returncode == 0


def test_watch_shows_changes(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=POD)
    watching = kubectl.start("get", "pods", "-w", "--output-watch-events")
    try:
        lines = iter(watching.stdout.readline, "")
        assert "EVENT" in next(lines)
        assert next(lines).split()[:2] == ["ADDED", "one"]
        kubectl.run("label", "pod", "one", "x=y")
        assert next(lines).split()[:2] == ["MODIFIED", "one"]
        kubectl.run("delete", "pod", "one")
        assert next(lines).split()[:2] == ["DELETED", "one"]
    finally:
        watching.terminate()
        watching.communicate()


def test_describe_shows_events(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=POD)
    uid = kubectl.json("get", "pod", "one")["metadata"]["uid"]
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "one.1"}, "type": "Warning", "reason": "Odd",
        "message": "something odd", "count": 2, "source": {"component": "tester"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "one", "namespace": kubectl.namespace,
                           "uid": uid},
    }  # fmt: skip
    kubectl.run("create", "-f", "-", stdin=json.dumps(event))
    text = kubectl.run("describe", "pod", "one")
    assert "something odd" in text
    assert "busybox" in text
    assert "Odd" in kubectl.run("get", "events")
    assert "something odd" in kubectl.run("events", "--for", "pod/one")
    assert kubectl.json("get", "events.events.k8s.io", "one.1")["note"] == "something odd"
    kubectl.run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert "RollingUpdate" in kubectl.run("describe", "deployment", "web")
    assert "default" in kubectl.run("describe", "namespace", "default")


def test_what_a_kubelet_would_serve_names_the_command_to_run_instead(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=POD)
    for words, command in ((["logs", "one"], "logs"), (["exec", "one", "--", "true"], "exec")):
        said = kubectl.run(*words, ok=False)
        assert f"run `lab {command} {kubectl.namespace}/one` instead" in said


def test_label_and_annotate(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=POD)
    assert "pod/one labeled" in kubectl.run("label", "pod", "one", "tier=front", "app-")
    assert kubectl.json("get", "pod", "one")["metadata"]["labels"] == {"tier": "front"}
    assert "already has a value" in kubectl.run("label", "pod", "one", "tier=back", ok=False)
    kubectl.run("label", "pod", "one", "tier=back", "--overwrite")
    assert "pod/one annotated" in kubectl.run("annotate", "pod", "one", "k8s.ovn.org/note=it works: {}")
    assert kubectl.json("get", "pod", "one")["metadata"]["annotations"]["k8s.ovn.org/note"] == "it works: {}"
    assert "a valid label must" in kubectl.run("label", "pod", "one", "tier=no!", "--overwrite", ok=False)


def test_patch_of_every_type(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=DEPLOYMENT)
    strategic = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox:2"}]}}}}
    kubectl.run("patch", "deployment", "web", "-p", json.dumps(strategic))
    containers = kubectl.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"]
    assert [(c["name"], c["image"]) for c in containers] == [("web", "nginx:1.25"), ("side", "busybox:2")]
    gone = {"spec": {"template": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}}}
    kubectl.run("patch", "deployment", "web", "-p", json.dumps(gone))
    assert len(kubectl.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"]) == 1
    kubectl.run("patch", "deployment", "web", "--type=merge", "-p", '{"spec":{"replicas":4,"paused":null}}')
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 4
    operations = [
        {"op": "test", "path": "/spec/replicas", "value": 4},
        {"op": "replace", "path": "/spec/replicas", "value": 6},
    ]
    kubectl.run("patch", "deployment", "web", "--type=json", "-p", json.dumps(operations))
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 6
    kubectl.run("patch", "deployment", "web", "--type=json", "-p", json.dumps(operations), ok=False)
    status = {"status": {"readyReplicas": 1, "replicas": 6}, "spec": {"replicas": 9}}
    kubectl.run("patch", "deployment", "web", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    found = kubectl.json("get", "deployment", "web")
    assert (found["spec"]["replicas"], found["status"]["readyReplicas"]) == (6, 1)


def test_delete_with_finalizers_and_grace(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=POD.replace("labels", "finalizers: [lab.example/hold], labels"))
    kubectl.run("delete", "pod", "one", "--wait=false")
    assert "Terminating" in kubectl.run("get", "pods")
    kubectl.run("patch", "pod", "one", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kubectl.run("wait", "--for=delete", "pod/one", "--timeout=5s")
    kubectl.run("create", "-f", "-", stdin=POD.replace("containers", "nodeName: n1, containers"))
    kubectl.run("delete", "pod", "one", "--wait=false")
    held = kubectl.json("get", "pod", "one")["metadata"]
    assert held["deletionGracePeriodSeconds"] == 30
    kubectl.run("delete", "pod", "one", "--grace-period=0", "--force")
    assert "not found" in kubectl.run("get", "pod", "one", ok=False)


def test_delete_collects_dependents(kubectl: Any) -> None:
    kubectl.run("create", "configmap", "owner")
    uid = kubectl.json("get", "configmap", "owner")["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    for name in ("a", "b"):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]}}
        kubectl.run("create", "-f", "-", stdin=json.dumps(body))
    kubectl.run("delete", "configmap", "owner", "--cascade=orphan")
    assert "ownerReferences" not in kubectl.json("get", "configmap", "a")["metadata"]
    kubectl.run("create", "configmap", "owner")
    owner["uid"] = kubectl.json("get", "configmap", "owner")["metadata"]["uid"]
    patch = json.dumps({"metadata": {"ownerReferences": [owner]}})
    kubectl.run("patch", "configmap", "a", "--type=merge", "-p", patch)
    kubectl.run("delete", "configmap", "owner", "--cascade=foreground")
    kubectl.run("wait", "--for=delete", "configmap/a", "--timeout=5s")
    assert kubectl.run("get", "configmap", "b", "-o", "name").strip() == "configmap/b"


def test_delete_by_selector_and_namespace(kubectl: Any) -> None:
    for name in ("a", "b", "c"):
        kubectl.run("create", "configmap", name)
    kubectl.run("label", "configmap", "a", "b", "kill=yes")
    kubectl.run("delete", "configmaps", "-l", "kill=yes")
    assert kubectl.run("get", "configmaps", "-o", "name").split() == ["configmap/c"]
    kubectl.run("delete", "namespace", kubectl.namespace, "--timeout=10s")
    assert "NotFound" in kubectl.run("get", "namespace", kubectl.namespace, ok=False)
    assert "not found" in kubectl.run("create", "configmap", "late", ok=False)


def test_custom_resources_are_served_and_validated(kubectl: Any, widgets: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=widget())
    found = kubectl.json("get", "widget", "w1")
    assert found["spec"] == {"size": 3, "colour": "red"}
    assert kubectl.run("get", "wd").split()[:3] == ["NAME", "SIZE", "READY"]
    text = kubectl.run("apply", "-f", "-", stdin=widget(size=10), ok=False)
    assert "spec.size in body should be less than or equal to 9" in text
    assert 'Unsupported value: "green"' in kubectl.run("apply", "-f", "-", stdin=widget(colour="green"), ok=False)
    assert "of type integer" in kubectl.run("apply", "-f", "-", stdin=widget(size="x"), ok=False)
    assert "of type cidr" in kubectl.run("apply", "-f", "-", stdin=widget(cidr="10.0.0"), ok=False)
    assert 'unknown field "spec.weird"' in kubectl.run("apply", "-f", "-", stdin=widget(weird=1), ok=False)
    kubectl.run("apply", "--validate=ignore", "-f", "-", stdin=widget(weird=1))
    assert "weird" not in kubectl.json("get", "widget", "w1")["spec"]
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}, "spec": {"size": 8}}
    kubectl.run("patch", "widget", "w1", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    assert kubectl.run("get", "wd", "w1", "--no-headers").split()[:3] == ["w1", "3", "True"]
    assert "widget.lab.example/w1 condition met" in kubectl.run(
        "wait", "--for=condition=Ready", "wd/w1", "--timeout=5s"
    )
    kubectl.run("scale", "widget", "w1", "--replicas=5")
    assert kubectl.json("get", "widget", "w1")["spec"]["size"] == 5
    kubectl.run("describe", "widget", "w1")
    assert "widgets" in kubectl.run("api-resources", "--api-group=lab.example")
    assert "How many parts" in kubectl.run("explain", "widget.spec.size")


def test_custom_resource_lists_merge_server_side(kubectl: Any, widgets: Any) -> None:
    kubectl.run("apply", "--server-side", "-f", "-", stdin=widget(parts=[{"name": "a", "weight": 1}]))
    other = widget(parts=[{"name": "b", "weight": 2}])
    kubectl.run("apply", "--server-side", "--field-manager=rival", "-f", "-", stdin=other)
    assert [p["name"] for p in kubectl.json("get", "widget", "w1")["spec"]["parts"]] == ["a", "b"]
    text = kubectl.run("create", "-f", "-", stdin=widget("w2", parts=[{"name": "a"}, {"name": "a"}]), ok=False)
    assert "Duplicate value" in text


def test_a_definition_may_restrict_names(kubectl: Any) -> None:
    definition = WIDGETS.replace("widget", "gizmo").replace("Widget", "Gizmo").replace("[wd]", "[gz]")
    named = "          metadata: {type: object, properties: {name: {type: string, pattern: ^default$}}}"
    definition = definition.replace("\n          spec:\n", f"\n{named}\n          spec:\n")
    assert named in definition
    kubectl.run("create", "-f", "-", stdin=definition)
    kubectl.run("wait", "--for=condition=Established", "crd/gizmos.lab.example", "--timeout=5s")
    text = kubectl.run("create", "-f", "-", stdin=widget().replace("Widget", "Gizmo"), ok=False)
    assert "metadata.name: Invalid value" in text
    kubectl.run("create", "-f", "-", stdin=widget("default").replace("Widget", "Gizmo"))
    kubectl.run("delete", "crd", "gizmos.lab.example", "--timeout=10s")


def test_removing_a_definition_removes_its_objects(kubectl: Any, tmp_path: Path) -> None:
    definition = WIDGETS.replace("widget", "gadget").replace("Widget", "Gadget").replace("[wd]", "[gd]")
    kubectl.run("create", "-f", "-", stdin=definition)
    kubectl.run("wait", "--for=condition=Established", "crd/gadgets.lab.example", "--timeout=5s")
    kubectl.run("create", "-f", "-", stdin=widget().replace("Widget", "Gadget"))
    kubectl.run("delete", "crd", "gadgets.lab.example", "--timeout=10s")
    assert "could not find the requested resource" in kubectl.run("get", "--raw", GADGETS, ok=False)


def test_explain(kubectl: Any) -> None:
    text = kubectl.run("explain", "pod.spec.containers.ports")
    assert "containerPort" in text
    assert "<integer> -required-" in text
    assert "policyTypes" in kubectl.run("explain", "networkpolicy.spec", "--recursive")
    assert "does not exist" in kubectl.run("explain", "pod.spec.nonsense", ok=False)


def test_api_resources_and_versions(kubectl: Any) -> None:
    text = kubectl.run("api-resources", "-o", "wide")
    for name in (
        "pods",
        "deployments",
        "networkpolicies",
        "endpointslices",
        "leases",
        "customresourcedefinitions",
    ):
        assert name in text
    assert "discovery.k8s.io/v1" in kubectl.run("api-versions")
    assert "Server Version" in kubectl.run("version")


def test_scale_rollout_and_wait(kubectl: Any) -> None:
    kubectl.run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert "deployment.apps/web scaled" in kubectl.run(
        "scale", "deployment/web", "--replicas=3", "--current-replicas=2"
    )
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 3
    waiting = kubectl.start("rollout", "status", "deployment/web", "--timeout=20s")
    condition = {"type": "Available", "status": "True", "lastUpdateTime": "2024-01-01T00:00:00Z"}
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 3)
    status = {"status": {"observedGeneration": 2, "conditions": [condition], **counts}}
    kubectl.run("patch", "deployment", "web", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    assert "successfully rolled out" in waiting.communicate(timeout=20)[0]
    assert "condition met" in kubectl.run("wait", "--for=condition=Available", "deployment/web", "--timeout=5s")
    assert "condition met" in kubectl.run(
        "wait", "--for=jsonpath={.status.readyReplicas}=3", "deploy/web", "--timeout=5s"
    )
    kubectl.run("rollout", "restart", "deployment/web")
    annotations = kubectl.json("get", "deployment", "web")["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in annotations


def test_dry_run_stores_nothing(kubectl: Any) -> None:
    assert "created (server dry run)" in kubectl.run("apply", "--dry-run=server", "-f", "-", stdin=DEPLOYMENT)
    assert "not found" in kubectl.run("get", "deployment", "web", ok=False)
    kubectl.run("apply", "-f", "-", stdin=DEPLOYMENT)
    kubectl.run("scale", "deployment/web", "--replicas=9", "--dry-run=server")
    kubectl.run("delete", "deployment", "web", "--dry-run=server")
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 2
    difference = kubectl.process("diff", "-f", "-", stdin=DEPLOYMENT.replace("replicas: 2", "replicas: 8"))
    assert difference.returncode == 1, difference.stderr
    assert "+  replicas: 8" in difference.stdout


def test_create_commands_that_speak_protobuf(kubectl: Any) -> None:
    kubectl.run("create", "deployment", "d", "--image=nginx", "--replicas=0", "--port=80")
    assert kubectl.json("get", "deployment", "d")["spec"]["replicas"] == 0
    kubectl.run("create", "secret", "generic", "s", "--from-literal=a=b")
    assert kubectl.json("get", "secret", "s")["data"] == {"a": "Yg=="}
    kubectl.run("create", "quota", "q", "--hard=cpu=1,pods=3")
    assert kubectl.json("get", "quota", "q")["spec"]["hard"] == {"cpu": "1", "pods": "3"}
    kubectl.run("create", "ingress", "i", "--rule=example.test/path*=svc:8080")
    rule = kubectl.json("get", "ingress", "i")["spec"]["rules"][0]
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "svc", "port": {"number": 8080}}
    kubectl.run("create", "serviceaccount", "robot")
    assert kubectl.run("create", "token", "robot").count(".") == 2
    kubectl.run("expose", "deployment", "d", "--port=80", "--target-port=web")
    assert kubectl.json("get", "service", "d")["spec"]["ports"][0]["targetPort"] == "web"


def test_edit_and_replace(kubectl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl.run("apply", "-f", "-", stdin=POD)
    monkeypatch.setenv("KUBE_EDITOR", "sed -i s/busybox/alpine/")
    assert "pod/one edited" in kubectl.run("edit", "pod", "one")
    assert kubectl.json("get", "pod", "one")["spec"]["containers"][0]["image"] == "alpine"
    text = kubectl.run(
        "apply", "-f", "-", stdin=POD.replace("{containers", "{hostNetwork: true, containers"), ok=False
    )
    assert "pod updates may not change fields other than" in text
    kubectl.run("replace", "--force", "-f", "-", stdin=POD)
    assert kubectl.json("get", "pod", "one")["spec"]["containers"][0]["image"] == "busybox"


def other_kubectls(binary: str) -> list[Path]:
    return sorted(Path(binary).resolve().parent.glob("kubectl.1.*"))


def test_older_and_newer_kubectl(kubectl: Any, widgets: Any, kubectl_binary: str) -> None:
    others = other_kubectls(kubectl_binary)
    if not others:
        pytest.skip("only one kubectl on this machine")
    for number, other in enumerate(others):
        kubectl.binary = str(other)
        name = f"v{number}"
        manifest = DEPLOYMENT.replace("name: web, labels", f"name: {name}, labels")
        kubectl.run("apply", "-f", "-", stdin=manifest)
        kubectl.run("apply", "-f", "-", stdin=manifest.replace("replicas: 2", "replicas: 4"))
        kubectl.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
        assert kubectl.json("get", "deployment", name)["spec"]["replicas"] == 2
        kubectl.run("apply", "-f", "-", stdin=widget(name))
        kubectl.run("apply", "-f", "-", stdin=widget(name, colour="blue"))
        assert kubectl.json("get", "widget", name)["spec"]["colour"] == "blue"
        assert kubectl.run("auth", "can-i", "get", "pods").strip() == "yes"
        kubectl.run("create", "configmap", name, "--from-literal=a=b")
        assert "containerPort" in kubectl.run("explain", "pod.spec.containers.ports")
        kubectl.run("describe", "deployment", name)
        assert "deployments" in kubectl.run("api-resources")
        kubectl.run("delete", "deployment", name, "--timeout=5s")


def test_watching_survives_quiet_time(kubectl: Any) -> None:
    started = time.monotonic()
    text = kubectl.run("get", "pods", "-w", "--request-timeout=1s")
    assert time.monotonic() - started < 10
    assert "rror" not in text


def explained(kubectl: Any, path: str) -> str:
    return str(kubectl.run("explain", path))


def test_explain_names_types_and_values_as_the_real_server_does(kubectl: Any) -> None:
    assert "<IntOrString>" in explained(kubectl, "pod.spec.containers.readinessProbe.httpGet.port")
    assert "<IntOrString>" in explained(kubectl, "service.spec.ports.targetPort")
    assert "<IntOrString>" in explained(kubectl, "networkpolicy.spec.ingress.ports.port")
    assert "<map[string]Quantity>" in explained(kubectl, "pod.spec.containers.resources.limits")
    shown = explained(kubectl, "service.spec.sessionAffinity")
    assert "<string>" in shown
    assert "ENUM:\n    ClientIP\n    None\n" in shown
    assert "ENUM:\n    SCTP\n    TCP\n    UDP\n" in explained(kubectl, "pod.spec.containers.ports.protocol")


def test_endpoints_are_deprecated_and_endpoint_slices_are_not(kubectl: Any) -> None:
    text = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    assert f"Warning: {text}" in kubectl.run("get", "endpoints")
    assert "Warning" not in kubectl.run("get", "endpointslices")


def test_a_watch_from_before_the_server_started_is_too_old(shared_server: Any) -> None:
    url = f"{shared_server.url}/api/v1/secrets?watch=1&resourceVersion=1&timeoutSeconds=5"
    with urllib.request.urlopen(url, timeout=10) as answer:
        event = json.loads(answer.readline())
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    listed = shared_server.request("GET", "/api/v1/secrets")[1]["metadata"]["resourceVersion"]
    url = f"{shared_server.url}/api/v1/secrets?watch=1&resourceVersion={listed}&timeoutSeconds=1"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b""


def test_metrics_count_requests_and_objects(kubectl: Any, namespace: str) -> None:
    kubectl.run("create", "configmap", "one")
    kubectl.run("get", "configmap", "none", ok=False)
    text = kubectl.run("get", "--raw", "/metrics")
    for verb, code in (("POST", 201), ("GET", 404)):
        pattern = rf'apiserver_request_total\{{code="{code}",.*resource="configmaps",.*verb="{verb}",.*\}} [1-9]'
        assert re.search(pattern, text)
    assert 'apiserver_storage_objects{resource="configmaps"}' in text
