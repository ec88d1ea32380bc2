"""Certificates, tokens and kubeconfig files of a lab, made with the openssl program."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from ipaddress import ip_network
from pathlib import Path

import yaml

from ovnkit_lab.layout import (
    API_PORT,
    CONTROL,
    SERVICE_SUBNETS,
    Files,
    LabError,
    LabSpec,
    bracketed,
)
from ovnkit_lab.namespaces import run

ADMIN = "kubernetes-admin"
AGENT = "ovnkit-lab-agent"
MANAGERS = ("system:kube-controller-manager", "system:kube-scheduler")
"""Users that every cluster has roles for."""
_DAYS = "3650"
_CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")


def make(spec: LabSpec) -> None:
    """Make the authority, the API server's certificate, the key of service accounts, and the static tokens."""
    directory = Files(spec.name).pki
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    ca, ca_key = directory / "ca.crt", directory / "ca.key"
    extensions = [word for text in _CA_EXTENSIONS for word in ("-addext", text)]
    _openssl("req", "-x509", *_new_key(ca_key), "-out", str(ca), "-days", _DAYS,
             "-subj", f"/CN=ovnkit-lab-{spec.name}", *extensions)  # fmt: skip
    _server_certificate(spec, directory, ca, ca_key)
    # Real API servers sign tokens with this key; RSA is what all of them take.
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(directory / "sa.key"))
    lines = []
    for user, group in ((ADMIN, "system:masters"), (AGENT, "system:masters"), *((name, "") for name in MANAGERS)):
        token = secrets.token_hex(20)
        _write_secret(directory / f"{user}.token", token)
        lines.append(f'{token},{user},{user},"{group}"' if group else f"{token},{user},{user}")
    _write_secret(directory / "tokens.csv", "\n".join(lines) + "\n")


def token(spec: LabSpec, user: str) -> str:
    """The static token of a user."""
    return (Files(spec.name).pki / f"{user}.token").read_text()


def machine_url(spec: LabSpec) -> str:
    """The API server as the machine reaches it."""
    return f"https://{bracketed(spec.api_link[1])}:{API_PORT}"


def fabric_url(spec: LabSpec) -> str:
    """The API server as the hosts of the fabric reach it."""
    return f"https://{bracketed(spec.addresses(CONTROL)[0])}:{API_PORT}"


def write_kubeconfig(spec: LabSpec, path: Path, server: str, user: str, bearer: str) -> None:
    """Write a kubeconfig with the authority inside."""
    name = f"ovnkit-{spec.name}"
    authority = (Files(spec.name).pki / "ca.crt").read_bytes()
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": server, "certificate-authority-data": b64encode(authority).decode(),
        }}],
        "users": [{"name": user, "user": {"token": bearer}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
    }  # fmt: skip
    _write_secret(path, yaml.safe_dump(content, sort_keys=False))


def _server_certificate(spec: LabSpec, directory: Path, ca: Path, ca_key: Path) -> None:
    addresses = ["127.0.0.1", "::1", str(spec.api_link[1].ip), *(str(item.ip) for item in spec.addresses(CONTROL))]
    for family in spec.families:
        network = SERVICE_SUBNETS[family]
        addresses.append(str(ip_network(network)[1]))
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
             "kubernetes.default.svc.cluster.local"]  # fmt: skip
    extensions = directory / "apiserver.ext"
    alternatives = ",".join([*(f"IP:{item}" for item in addresses), *(f"DNS:{item}" for item in names)])
    extensions.write_text(
        f"subjectAltName={alternatives}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n"
        "keyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    request, key = directory / "apiserver.csr", directory / "apiserver.key"
    _openssl("req", "-new", *_new_key(key), "-out", str(request), "-subj", "/CN=kube-apiserver")
    _openssl("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key), "-CAcreateserial",
             "-days", _DAYS, "-extfile", str(extensions), "-out", str(directory / "apiserver.crt"))  # fmt: skip


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(path)]


def _openssl(*arguments: str) -> None:
    try:
        run(["openssl", *arguments])
    except FileNotFoundError:
        raise LabError("openssl is missing: install it") from None


def _write_secret(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
