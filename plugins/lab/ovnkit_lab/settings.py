"""The configuration files of the lab's ovnkit processes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovnkit.api.errors import ConfigError
from ovnkit_lab.layout import BRIDGE, CONTROL, POD_SUBNETS, SERVICE_SUBNETS, Files, LabSpec

METRICS_ADDRESS = "127.0.0.1:9410"
Section = dict[str, Any]


def read_user_config(path: str) -> str:
    """The text of the user's configuration file; raises ConfigError when it is not valid TOML."""
    if not path:
        return ""
    try:
        text = Path(path).read_text(encoding="utf-8")
        tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return text


def write_configs(spec: LabSpec) -> None:
    """Write the file of every ovnkit process: one per node, one for the control host."""
    for host in (CONTROL, *spec.nodes):
        path = Files(spec.name).config(host)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_toml(_sections(spec, host)))


def _sections(spec: LabSpec, host: str) -> dict[str, Section]:
    """The lab's defaults, overridden by the user's configuration, and that by what only the lab can know."""
    return _merged(_merged(_proposed(spec), tomllib.loads(spec.config)), _fixed(spec, host))


def _proposed(spec: LabSpec) -> dict[str, Section]:
    return {
        "default": {"cluster-subnets": [POD_SUBNETS[family] for family in spec.families]},
        "kubernetes": {"service-cidrs": [SERVICE_SUBNETS[family] for family in spec.families]},
        "gateway": {"interface": BRIDGE},
        # A lab that lost its leader should not wait for minutes, as a data centre may.
        "clustermgrha": {
            "election-lease-duration": 10, "election-renew-deadline": 7, "election-retry-period": 2,
        },
        "metrics": {"bind-address": METRICS_ADDRESS},
    }  # fmt: skip


def _fixed(spec: LabSpec, host: str) -> dict[str, Section]:
    files = Files(spec.name)
    fixed: dict[str, Section] = {
        "default": {"zone-mode": spec.zones},
        "kubernetes": {"kubeconfig": str(files.ovnkit_kubeconfig(spec.account(host)))},
    }
    if host != CONTROL or not spec.per_node_zones:
        fixed["ovnnorth"] = {"address": spec.database(host, "nb")}
        fixed["ovnsouth"] = {"address": spec.database(host, "sb")}
    fixed["ovspaths"] = {
        "ovs-run-dir": str(files.ovs(host)), "ovn-run-dir": str(files.ovn(host)),
        "ovn-log-dir": str(files.log(host)),
    }  # fmt: skip
    if host != CONTROL:
        fixed["cni"] = {
            "conf-dir": str(files.cni_conf(host)), "bin-dir": str(files.cni_bin(host)),
            "run-dir": str(files.cni_run(host)), "logfile": str(files.log(host) / "cni.log"),
        }  # fmt: skip
    return fixed


def _merged(below: Mapping[str, Section], above: Mapping[str, Section]) -> dict[str, Section]:
    return {name: {**below.get(name, {}), **above.get(name, {})} for name in {**below, **above}}


def _toml(sections: Mapping[str, Section]) -> str:
    lines = []
    for name, section in sections.items():
        lines.append(f"[{_key(name)}]")
        lines += [f"{_key(key)} = {toml_value(value)}" for key, value in section.items()]
        lines.append("")
    return "\n".join(lines)


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)


def toml_value(value: object) -> str:
    """A value as TOML, which writes strings, numbers and booleans as JSON does."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str | bool | int | float):
        return json.dumps(value)
    return str(value)
