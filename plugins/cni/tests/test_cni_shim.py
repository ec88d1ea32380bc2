"""The executable and the configuration file, without a node."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from ovnkit.api.config import CniOptions, Config
from ovnkit.api.hooks import Scope
from ovnkit.api.host import LINKS, LinkView
from ovnkit.api.renderers import Role
from ovnkit_cni.install import install_shim
from ovnkit_cni.plugin import CniPlugin

CONFIG = {"cniVersion": "1.0.0", "name": "ovn-kubernetes", "type": "ovn-k8s-cni-overlay"}


@pytest.fixture
def options(tmp_path: Path) -> CniOptions:
    return CniOptions(
        conf_dir=str(tmp_path / "conf"), bin_dir=str(tmp_path / "bin"), run_dir=str(tmp_path / "run")
    )


def call(path: Path, stdin: str = json.dumps(CONFIG), **env: str) -> tuple[int, Any]:
    done = subprocess.run([str(path)], env=env, input=stdin, capture_output=True, text=True, timeout=20)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_version_is_answered_without_a_server(options: CniOptions) -> None:
    shim = install_shim(options)
    status, answer = call(shim, CNI_COMMAND="VERSION")
    assert status == 0
    assert answer == {
        "cniVersion": "1.0.0",
        "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }
    assert call(shim, "", CNI_COMMAND="VERSION")[1]["cniVersion"] == "1.1.0"


def test_without_a_server_try_again_later(options: CniOptions) -> None:
    status, error = call(install_shim(options), CNI_COMMAND="ADD", CNI_CONTAINERID="x")
    assert (status, error["code"], error["cniVersion"]) == (1, 11, "1.0.0")
    assert "doesn't answer" in error["msg"]
    assert error["details"].endswith("ovn-cni-server.sock")


def test_without_a_command(options: CniOptions) -> None:
    status, error = call(install_shim(options))
    assert (status, error["code"]) == (1, 4)


def test_it_needs_nothing_of_the_environment(options: CniOptions, tmp_path: Path) -> None:
    shim = install_shim(options)
    (tmp_path / "json.py").write_text("raise SystemExit('a trap')")
    done = subprocess.run(
        [str(shim)], env={"CNI_COMMAND": "VERSION", "PYTHONPATH": str(tmp_path)}, input="", capture_output=True,
        text=True, cwd=tmp_path, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0
    assert stat.S_IMODE(shim.stat().st_mode) == 0o755


def test_start_time(options: CniOptions, record_property: Any) -> None:
    """Told, not asserted: the machine may be busy. What is asserted is that it imports next to nothing."""
    shim = install_shim(options)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        call(shim, CNI_COMMAND="VERSION")
        times.append(time.perf_counter() - began)
    record_property("median_ms", round(sorted(times)[10] * 1000, 1))
    interpreter = shim.read_text().splitlines()[0].removeprefix("#!").split()
    done = subprocess.run(
        [*interpreter, "-X", "importtime", str(shim)], env={"CNI_COMMAND": "DEL"}, input="",
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "_socket" in imported
    assert not imported & {"site", "ovnkit", "attrs", "asyncio", "http", "subprocess", "typing", "logging"}
    assert len(imported) < 70, "json is there only for the error object, as no server answers"


class Runtime:
    """As much of a runtime as starting needs; the management port appears when the test says so."""

    def __init__(self, options: CniOptions, role: Role = Role.NODE) -> None:
        self.config = evolve(Config(), cni=options)
        self.scope = Scope(frozenset({role}), "n1", "n1", True)
        self.link: LinkView | None = None

    def wait_for(self, kind: Any, key: str, timeout: float, ready: Any) -> Any:
        assert (kind, key) == (LINKS, "ovn-k8s-mp0")
        end = time.monotonic() + timeout
        while not ready(self.link):
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.01)
        return self.link


def test_the_configuration_comes_when_the_node_is_ready(options: CniOptions) -> None:
    runtime: Any = Runtime(options)
    plugin = CniPlugin()
    conf = Path(options.conf_dir) / "10-ovn-kubernetes.conf"
    plugin.ovnkit_started(runtime)
    try:
        socket = Path(options.run_dir) / "ovn-cni-server.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        assert (Path(options.bin_dir) / options.plugin).exists()
        until(lambda: plugin.ovnkit_health(runtime), "a problem told")
        assert not conf.exists()
        runtime.link = LinkView("ovn-k8s-mp0", 5, "0a:58:0a:80:01:02", 1400, up=True)
        until(conf.exists, "the configuration")
        found = json.loads(conf.read_text())
        assert (found["cniVersion"], found["name"], found["type"]) == (
            "1.1.0",
            "ovn-kubernetes",
            "ovn-k8s-cni-overlay",
        )
        assert os.listdir(conf.parent) == [conf.name]
        until(lambda: plugin.ovnkit_health(runtime) == {}, "no problem any more")
    finally:
        plugin.ovnkit_stopping()
    assert conf.exists(), "a restart of ovnkit must not make the node unready"
    assert not socket.exists()
    assert plugin.ovnkit_health(runtime) == {"cni-server": "not listening"}


def test_other_roles_start_nothing(options: CniOptions) -> None:
    runtime: Any = Runtime(options, Role.ZONE)
    plugin = CniPlugin()
    plugin.ovnkit_started(runtime)
    plugin.ovnkit_stopping()
    assert plugin.ovnkit_health(runtime) is None
    assert not Path(options.run_dir).exists()


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)
