"""A plugin from a wheel of its own: built, installed beside ovnkit's wheel, enabled, disabled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ovnkit.testing import ovsdb
from ovnkit.testing.cluster import ApiServer, OvnkitProcess, eventually

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

pytestmark = pytest.mark.skipif(not ovsdb.available(), reason="needs ovsdb-server")


def build(source: Path, wheels: Path) -> Path:
    """The wheel of a source tree."""
    before = set(wheels.glob("*.whl"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        str(source),
        "--wheel-dir",
        str(wheels),
    ]
    subprocess.run(command, check=True, timeout=240)
    (wheel,) = set(wheels.glob("*.whl")) - before
    return wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment's bin folder: both wheels installed, their dependencies shared with this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "acme"
    shutil.copytree(HERE / "acme-ovnkit-labels", source)
    wheels = folder / "wheels"
    wheels.mkdir()
    built = [build(ROOT, wheels), build(source, wheels)]
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, *map(str, built)], check=True, timeout=120)
    (site,) = (venv / "lib").glob("python*/site-packages")
    # after the environment's own packages, so that the wheels win over the editable checkout
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin"


def run(environment: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OVNKIT_", "KUBE", "PYTHON"))}
    command = [str(environment / "ovnkit"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env | {"COLUMNS": "250"})


def plugin_row(environment: Path, *arguments: str) -> dict[str, object]:
    done = run(environment, "plugins", "--output", "json", *arguments)
    assert done.returncode == 0, done.stderr
    (row,) = [row for row in json.loads(done.stdout) if row["name"] == "acme_labels"]
    return dict(row)


def test_the_environment_uses_the_wheels(environment: Path) -> None:
    where = [
        str(environment / "python"),
        "-c",
        "import ovnkit, acme_ovnkit_labels as a; print(ovnkit.__path__[0], a.__file__)",
    ]
    paths = subprocess.run(where, capture_output=True, text=True, check=True).stdout
    assert paths.count(str(environment.parent)) == 2


def test_found_but_off_until_it_is_enabled(environment: Path) -> None:
    row = plugin_row(environment)
    assert (row["distribution"], row["version"]) == ("acme-ovnkit-labels", "1.2.3")
    assert (row["state"], row["why"]) == ("disabled", "not in [plugins] enabled")
    assert plugin_row(environment, "--set", "plugins.enabled=acme_labels")["state"] == "enabled"


def test_its_section_of_the_configuration_is_checked(environment: Path) -> None:
    done = run(environment, "config", "show", "--output", "json", "--set", "acme_labels.label=x/y")
    assert json.loads(done.stdout)["sections"]["acme_labels"]["label"]["value"] == "x/y"
    wrong = run(environment, "config", "show", "--set", "acme_labels.lable=x")
    assert wrong.returncode == 2
    assert "did you mean 'label'?" in wrong.stderr


def test_its_command(environment: Path) -> None:
    assert run(environment, "acme-labels").stdout == "acme-ovnkit-labels\n"
    assert "acme-labels" in run(environment, "--help").stdout


def test_enabled_its_rows_are_there_disabled_they_are_gone(
    environment: Path, tmp_path: Path, ovn_databases: ovsdb.OvsdbServer
) -> None:
    def sets() -> dict[str, set[str]]:
        """Addresses by namespace, of the address sets that are the plugin's."""
        found = {}
        for row in ovn_databases.rows("Address_Set"):
            ids = dict(row["external_ids"][1])
            if "acme.example/namespace" in ids:
                raw = row["addresses"]
                found[ids["acme.example/namespace"]] = set(raw[1]) if isinstance(raw, list) else {raw}
        return found

    def ovnkit(api: ApiServer, *more: str) -> OvnkitProcess:
        named = ("--role", "zone", "--node-name", "n1", "--set", f"ovnnorth.address={ovn_databases.endpoint}")
        south = ("--set", f"ovnsouth.address={ovn_databases.endpoint}")
        command = environment / "ovnkit"
        return OvnkitProcess(tmp_path / "run", api.kubeconfig, *named, *south, *more, command=command)

    enabled = ("--set", "plugins.enabled=acme_labels")
    with ApiServer(tmp_path / "api") as api:
        api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blue"}})
        with ovnkit(api, *enabled) as process:
            process.wait_ready()
            assert sets()["blue"] == set()
            make_pod(api, "blue", "p1", "10.1.1.1")
            eventually(lambda: sets()["blue"] == {"10.1.1.1"})
            others = {row["_uuid"] for row in ovn_databases.rows("Logical_Router")}
            assert others
            told = run(
                environment,
                "explain",
                "--table",
                "Address_Set",
                "--set",
                f"ovnnorth.address={ovn_databases.endpoint}",
            )
            assert "addresses of the labelled pods of namespace blue" in told.stdout
            assert process.stop() == 0
        assert sets()["blue"] == {"10.1.1.1"}
        with ovnkit(api) as process:
            process.wait_ready()
            assert sets() == {}
            assert {row["_uuid"] for row in ovn_databases.rows("Logical_Router")} == others


def make_pod(api: ApiServer, namespace: str, name: str, address: str) -> None:
    meta = {"name": name, "namespace": namespace, "labels": {"acme.example/team": "a"}}
    containers = [{"name": "c", "image": "none"}]
    api.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": "n1", "containers": containers}}
    )
    status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
    api.merge(f"/api/v1/namespaces/{namespace}/pods/{name}/status", status)
