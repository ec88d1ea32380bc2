"""Certificates, tokens and kubeconfig files of a lab."""

from __future__ import annotations

import os
import secrets
from ipaddress import ip_network
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kubelab import kubeconfig
from ovnkit_lab.layout import (
    API_PORT,
    CONTROL,
    SERVICE_SUBNETS,
    Files,
    LabSpec,
    bracketed,
)

ADMIN = "kubernetes-admin"
AGENT = "ovnkit-lab-agent"
MANAGERS = ("system:kube-controller-manager", "system:kube-scheduler")
"""Users that every cluster has roles for."""
_SERVER_NAMES = (
    "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)  # fmt: skip


def make(spec: LabSpec) -> None:
    """Create the authority, the API server's certificate, the key of service account tokens, and static tokens."""
    directory = Files(spec.name).pki
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    authority = trustme.CA(organization_name=f"ovnkit-lab-{spec.name}")
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    server = authority.issue_cert(*_server_addresses(spec), *_SERVER_NAMES, common_name="kube-apiserver")
    server.cert_chain_pems[0].write_to_path(str(directory / "apiserver.crt"))
    _write_secret(directory / "apiserver.key", server.private_key_pem.bytes().decode())
    # kube-apiserver signs tokens with this key; every version accepts RSA.
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_secret(directory / "sa.key", pem.decode())
    lines = []
    for user, group in ((ADMIN, "system:masters"), (AGENT, "system:masters"), *((name, "") for name in MANAGERS)):
        token = secrets.token_hex(20)
        _write_secret(token_path(spec, user), token)
        lines.append(f'{token},{user},{user},"{group}"' if group else f"{token},{user},{user}")
    _write_secret(directory / "tokens.csv", "\n".join(lines) + "\n")


def _server_addresses(spec: LabSpec) -> list[str]:
    """The addresses at which clients find the API server."""
    own = [str(spec.api_link[1].ip), *(str(item.ip) for item in spec.addresses(CONTROL))]
    services = [str(ip_network(SERVICE_SUBNETS[family])[1]) for family in spec.families]
    return ["127.0.0.1", "::1", *own, *services]


def token_path(spec: LabSpec, user: str) -> Path:
    """The file with the static token of a user."""
    return Files(spec.name).pki / f"{user}.token"


def token(spec: LabSpec, user: str) -> str:
    """The static token of a user."""
    return token_path(spec, user).read_text()


def machine_url(spec: LabSpec) -> str:
    """URL of the API server for programs on the machine."""
    return f"https://{bracketed(spec.api_link[1])}:{API_PORT}"


def fabric_url(spec: LabSpec) -> str:
    """URL of the API server for the hosts of the fabric."""
    return f"https://{bracketed(spec.addresses(CONTROL)[0])}:{API_PORT}"


def write_kubeconfig(spec: LabSpec, path: Path, server: str, user: str, bearer: str) -> None:
    """Write the kubeconfig of a user of a lab, with the authority inside."""
    authority = Files(spec.name).pki / "ca.crt"
    kubeconfig.write_kubeconfig(
        path, kubeconfig.kubeconfig(server, bearer, authority, name=f"ovnkit-{spec.name}", user=user)
    )


def _write_secret(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
