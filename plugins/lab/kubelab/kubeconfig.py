"""Kubeconfig files: what points kubectl and other clients at an API server."""

import base64
import os
from pathlib import Path

import yaml


def kubeconfig(
    server: str, token: str = "", ca_file: Path | None = None, *, name: str = "kubelab", user: str = "kubelab"
) -> str:
    """A kubeconfig for ``server`` (a URL); the authority in ``ca_file`` becomes part of it.

    ``name`` is that of the cluster and the context, ``user`` that of the holder of the token.
    """
    cluster: dict[str, str] = {"server": server}
    if ca_file is not None:
        cluster["certificate-authority-data"] = base64.b64encode(ca_file.read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token} if token else {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    return yaml.safe_dump(content, sort_keys=False)


def write_kubeconfig(path: Path, content: str) -> Path:
    """Write a kubeconfig to ``path``, readable by its owner only (it holds a token); returns the path."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(content)
    return path
