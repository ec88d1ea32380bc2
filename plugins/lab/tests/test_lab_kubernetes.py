"""Which of Kubernetes' own programs a lab has, and how they are called."""

import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from kubelab.controllers.workloads import _surplus
from ovnkit_lab import control_plane, layout
from ovnkit_lab.lab import Lab
from ovnkit_lab.layout import CONTROL, Kubernetes, LabSpec
from ovnkit_lab.testing import LabHandle, exports, ovnkit_lab

SPEC = LabSpec("x", ("node1",))
FOUND = Kubernetes("/k/kube-apiserver", "/k/etcd")
REAL = evolve(SPEC, kubernetes=FOUND)
ALL = evolve(
    SPEC,
    kubernetes=Kubernetes("/k/kube-apiserver", "/k/etcd", "/k/kube-controller-manager", "/k/kube-scheduler", "/k"),
)
SERVERS, MANAGERS = ("kube-apiserver", "etcd"), ("kube-controller-manager", "kube-scheduler")


def programs(directory: Path, *names: str) -> str:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return str(directory)


def test_programs_are_found_in_the_assets_and_in_the_path(tmp_path: Path) -> None:
    assets = programs(tmp_path / "assets", *SERVERS, *MANAGERS)
    path = programs(tmp_path / "path", *SERVERS)
    found = control_plane.find({"KUBEBUILDER_ASSETS": assets, "PATH": path})
    apiserver, etcd, manager, scheduler = (f"{assets}/{name}" for name in (*SERVERS, *MANAGERS))
    assert found == Kubernetes(apiserver, etcd, manager, scheduler, assets=assets)
    assert control_plane.find({"PATH": path}) == Kubernetes(*(f"{path}/{name}" for name in SERVERS))
    assert control_plane.find({"KUBEBUILDER_ASSETS": "/nowhere", "PATH": "/nowhere"}) is None


def test_managers_count_only_beside_the_server(tmp_path: Path) -> None:
    servers, others = programs(tmp_path / "a", *SERVERS), programs(tmp_path / "b", *MANAGERS)
    found = control_plane.find({"PATH": f"{servers}:{others}"})
    assert found is not None
    assert (found.controller_manager, found.scheduler) == ("", "")
    assert control_plane.find({"PATH": programs(tmp_path / "c", "kube-apiserver")}) is None, "without etcd"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SPEC, ["apiserver", "ovnkit", "kubelet", "controllers"]),
        (REAL, ["etcd", "apiserver", "ovnkit", "kubelet", "controllers"]),
        (ALL, ["etcd", "apiserver", "ovnkit", "kubelet", *MANAGERS]),
    ],
)
def test_a_lab_has_the_processes_of_its_record_whatever_the_environment_says(
    spec: LabSpec, expected: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(layout, "BASE", tmp_path / "labs")
    for path in (programs(tmp_path / "k", *SERVERS, *MANAGERS), "/usr/bin:/bin"):
        monkeypatch.setenv("PATH", path)
        monkeypatch.setenv("KUBEBUILDER_ASSETS", path)
        spec.save()
        assert layout.load("x") == spec
        assert list(Lab.open("x").daemons(CONTROL)) == expected


@pytest.mark.parametrize(
    ("spec", "without"),
    [
        (SPEC, {"--no-cleanup"}),
        (REAL, set()),
        (evolve(REAL, kubernetes=evolve(FOUND, scheduler="/k/s")), {"--no-scheduler"}),
        (
            evolve(REAL, kubernetes=evolve(FOUND, controller_manager="/k/m")),
            {"--no-workloads", "--no-cleanup"},
        ),
    ],
)
def test_our_controllers_do_what_no_other_program_does(spec: LabSpec, without: set[str]) -> None:
    command = control_plane.controllers(spec)["controllers"].command
    assert {word for word in command if word.startswith("--no-")} == without
    assert control_plane.controllers(ALL) == {}


def test_the_api_server_names_the_commands_that_do_what_a_kubelet_would() -> None:
    command = control_plane.daemons(SPEC)["apiserver"].command
    assert {"log=ovnkit lab logs", "exec=ovnkit lab exec"} <= set(command)


def test_commands_of_kubernetes_programs() -> None:
    server = control_plane.daemons(ALL)["apiserver"].command
    assert "--kubelet-preferred-address-types=InternalIP" in server
    assert not [word for word in server if "disable-admission" in word], "service accounts are made here"
    for name, daemon in control_plane.managers(ALL).items():
        assert daemon.command[0] == f"/k/{name}"
        assert f"--kubeconfig=/run/ovnkit-lab/x/{name}.kubeconfig" in daemon.command
        assert "--leader-elect=false" in daemon.command


def test_what_a_daemon_set_has_too_much_goes_and_a_ready_pod_stays() -> None:
    ages = itertools.count(1)

    def pod(name: str, ready: str, **meta: str) -> dict[str, Any]:
        created = f"2026-01-01T00:00:0{next(ages)}Z"
        status = {"conditions": [{"type": "Ready", "status": ready}]}
        return {"metadata": {"name": name, "creationTimestamp": created, **meta}, "status": status}

    going = pod("going", "True", deletionTimestamp="2026-01-01T00:00:00Z")
    held = [going, pod("old", "False"), pod("ready", "True"), pod("young", "True")]
    assert [item["metadata"]["name"] for item in _surplus(held)] == ["young", "old"]
    assert _surplus(held[:2]) == []


STAND_IN = """#!{python}
import os, sys
from pathlib import Path
given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
tokens = Path(given["token-auth-file"])
roles = ',"system:masters"'  # of the real server, which this one doesn't have
lines = [line + roles * (line.count(",") < 3) + "\\n" for line in tokens.read_text().splitlines()]
tokens.write_text("".join(lines))
os.execv({python!r}, [
    {python!r}, "-m", "kubelab.apiserver", "--no-controllers", "--listen", "[::]:" + given["secure-port"],
    "--data-dir", given["cert-dir"] + "/../stand-in", "--tls-cert", given["tls-cert-file"],
    "--tls-key", given["tls-private-key-file"], "--token-file", given["token-auth-file"],
    "--service-cidr", given["service-cluster-ip-range"],
])
"""

MANAGER = """#!{python}
import base64, os, sys
from pathlib import Path
import yaml
given = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:])
config = yaml.safe_load(Path(given["kubeconfig"]).read_text())
cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
folder = Path(given["cert-dir"])
folder.mkdir(exist_ok=True)
(folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
(folder / "token").write_text(user["token"])
scheduler = Path(sys.argv[0]).name == "kube-scheduler"
os.execv({python!r}, [
    {python!r}, "-m", "kubelab.controllers", "--server", cluster["server"],
    "--certificate-authority", str(folder / "ca.crt"), "--token-file", str(folder / "token"),
    *(["--no-workloads", "--no-cleanup"] if scheduler else ["--no-scheduler"]),
])
"""


@pytest.mark.lab
def test_kubernetes_own_managers_do_it_all_where_they_are(tmp_path: Path) -> None:
    assets = programs(tmp_path / "assets", *SERVERS, *MANAGERS)
    Path(assets, "kube-apiserver").write_text(STAND_IN.format(python=sys.executable))
    Path(assets, "etcd").write_text("#!/bin/sh\nexec sleep infinity\n")
    for name in MANAGERS:
        Path(assets, name).write_text(MANAGER.format(python=sys.executable))
    name = f"m{os.getpid()}"
    environment = {**os.environ, "KUBEBUILDER_ASSETS": assets}
    ovnkit_lab("up", "--name", name, "--nodes", "1", check=True, env=environment)
    try:
        lab = LabHandle(name, environment=exports(name))
        daemons = json.loads(lab.run("status", "--output", "json").stdout)["control"]["daemons"]
        assert daemons.keys() >= set(MANAGERS)
        assert "controllers" not in daemons
        lab.run("restart", "control", "kube-scheduler")
        lab.apply(lab.pod("placed"))
        lab.wait_ready("placed")
    finally:
        ovnkit_lab("down", "--name", name, check=True)


@pytest.mark.lab
def test_a_lab_keeps_the_servers_it_was_made_with(tmp_path: Path) -> None:
    assets = programs(tmp_path / "assets", *SERVERS)
    Path(assets, "kube-apiserver").write_text(STAND_IN.format(python=sys.executable))
    Path(assets, "etcd").write_text("#!/bin/sh\nexec sleep infinity\n")
    name, with_assets = f"s{os.getpid()}", {**os.environ, "KUBEBUILDER_ASSETS": assets}
    ovnkit_lab("up", "--name", name, "--nodes", "1", check=True, env=with_assets)
    try:
        lab = LabHandle(name, environment=exports(name))
        state = json.loads(lab.run("status", "--output", "json").stdout)
        assert state["control"]["daemons"].keys() >= {"etcd", "apiserver", "controllers"}
        assert lab.environment["KUBEBUILDER_ASSETS"] == assets
        assert lab.run("logs", "control", "etcd").returncode == 0
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": lab.pod("any")["spec"]}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        lab.apply(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec},
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ending"}},
            lab.pod("inside", namespace="ending"),
        )
        lab.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        before = {item["metadata"]["uid"] for item in lab.get("pods")["items"]}
        lab.run("restart", "control", "apiserver")
        assert {item["metadata"]["uid"] for item in lab.get("pods")["items"]} == before
        lab.kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=60s")
        assert lab.get("replicasets")["items"] == lab.get("pods")["items"] == []
        lab.kubectl("delete", "namespace", "ending", "--timeout=60s")
    finally:
        ovnkit_lab("down", "--name", name, check=True)
