"""Calls CNI plugins as a container runtime does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from attrs import frozen

from ovnkit_lab.layout import LabError

IFNAME = "eth0"
_TIMEOUT = 150.0
"""Seconds; the plugin's own limit is 120."""


class CniError(LabError):
    """The plugin failed; the text is its error message."""


@frozen
class Sandbox:
    """What a runtime tells the plugin about a pod's sandbox."""

    id: str
    netns: str
    namespace: str
    name: str
    uid: str

    @property
    def path(self) -> str:
        """Path of its network namespace."""
        return f"/run/netns/{self.netns}"


@frozen
class Runtime:
    """The CNI of one node: its configuration and executables, and the node's own namespace."""

    node_netns: str
    conf_dir: Path
    bin_dir: Path

    @property
    def configured(self) -> bool:
        """Whether there is a CNI configuration; without one the node isn't ready."""
        return bool(self._files())

    def call(self, command: str, sandbox: Sandbox, previous: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run ADD, DEL or CHECK, and return the result. Raises CniError."""
        config = self._config()
        if previous:
            config["prevResult"] = previous
        arguments = (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE={sandbox.namespace};K8S_POD_NAME={sandbox.name};"
            f"K8S_POD_INFRA_CONTAINER_ID={sandbox.id};K8S_POD_UID={sandbox.uid}"
        )
        env = {
            **os.environ, "CNI_COMMAND": command, "CNI_CONTAINERID": sandbox.id, "CNI_NETNS": sandbox.path,
            "CNI_IFNAME": IFNAME, "CNI_ARGS": arguments, "CNI_PATH": str(self.bin_dir),
        }  # fmt: skip
        program = self.bin_dir / config["type"]
        try:
            result = subprocess.run(
                ["nsenter", f"--net=/run/netns/{self.node_netns}", "--", str(program)],
                input=json.dumps(config), capture_output=True, text=True, env=env, timeout=_TIMEOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CniError(f"{program.name} {command}: no answer within {_TIMEOUT:.0f} s") from None
        if result.returncode:
            raise CniError(f"{program.name} {command}: {_reason(result)}")
        return _decoded(result.stdout) if command == "ADD" else {}

    def _files(self) -> list[Path]:
        if not self.conf_dir.is_dir():
            return []
        return sorted(path for path in self.conf_dir.iterdir() if path.suffix in (".conf", ".conflist"))

    def _config(self) -> dict[str, Any]:
        files = self._files()
        if not files:
            raise CniError(f"there is no CNI configuration in {self.conf_dir}")
        config = _decoded(files[0].read_text())
        if "plugins" in config:
            config = {**config["plugins"][0], "name": config["name"], "cniVersion": config["cniVersion"]}
        return config


def _decoded(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise CniError(f"the output is not JSON: {text[:200]!r}") from None
    if not isinstance(value, dict):
        raise CniError(f"the output is not a JSON object: {text[:200]!r}")
    return value


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    try:
        error = json.loads(result.stdout)
        return f"{error['msg']} {error.get('details') or ''}".strip()
    except (ValueError, KeyError, TypeError):
        return (result.stderr.strip() or result.stdout.strip() or f"exit code {result.returncode}")[-300:]
