"""Writes the kubeconfig that points clients at the embedded server."""

import base64
import os
from pathlib import Path

import yaml


def kubeconfig(server: str, token: str = "", ca_file: Path | None = None, name: str = "ovnkit") -> str:
    """A kubeconfig for ``server`` (a URL); ``ca_file`` is embedded, so that the text stands alone."""
    cluster: dict[str, str] = {"server": server}
    if ca_file is not None:
        cluster["certificate-authority-data"] = base64.b64encode(ca_file.read_bytes()).decode()
    user: dict[str, str] = {"token": token} if token else {}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(content, sort_keys=False)


def write_kubeconfig(
    path: Path, server: str, token: str = "", ca_file: Path | None = None, name: str = "ovnkit"
) -> Path:
    """Write :func:`kubeconfig` to ``path``, readable by its owner only (it holds a token); returns the path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(kubeconfig(server, token, ca_file, name))
    return path
