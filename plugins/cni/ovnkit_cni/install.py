"""What the container runtime finds on the node: the executable and the network's configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ovnkit.api.config import CniOptions
from ovnkit.api.text import print_json
from ovnkit_cni import shim
from ovnkit_cni.attachments import NETWORK
from ovnkit_cni.server import SOCKET_NAME

CONF_NAME = "10-ovn-kubernetes.conf"


def install_shim(options: CniOptions) -> Path:
    """Write the executable to `[cni] bin-dir`; its path. It runs with this interpreter, free of site packages."""
    source = Path(shim.__file__).read_text()
    constant = f'SOCKET = "{shim.SOCKET}"'
    if constant not in source:
        raise RuntimeError("the shim's source lacks its SOCKET line")
    socket = str(Path(options.run_dir).absolute() / SOCKET_NAME)
    source = source.replace(constant, f"SOCKET = {socket!r}", 1)
    # -I: no environment, no user's site; -S: no site at all, which is most of the start time.
    text = f"#!{os.path.realpath(sys.executable)} -IS\n{source}"
    path = Path(options.bin_dir) / options.plugin
    _write(path, text, 0o755)
    return path


def write_conf(options: CniOptions) -> Path:
    """Write the network's configuration to `[cni] conf-dir`: the runtime's sign that this node is ready."""
    conf: dict[str, Any] = {
        "cniVersion": "1.1.0",
        "name": NETWORK,
        "type": options.plugin,
        "ipam": {},
        "dns": {},
        "logFile": options.logfile,
        "logLevel": "4",
        "logfile-maxsize": 100,
        "logfile-maxbackups": 5,
        "logfile-maxage": 5,
    }
    path = Path(options.conf_dir) / CONF_NAME
    _write(path, print_json(conf) + "\n", 0o644)
    return path


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file at once; nothing is written when it is so already."""
    if path.is_file() and path.read_text() == text and path.stat().st_mode & 0o777 == mode:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(text)
    partial.chmod(mode)
    partial.rename(path)
