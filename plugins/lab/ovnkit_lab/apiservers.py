"""The lab's Kubernetes API: kube-apiserver with etcd where they are found, else the embedded server."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ovnkit.api.daemons import Daemon
from ovnkit_lab import pki
from ovnkit_lab.client import ApiError, Client
from ovnkit_lab.layout import API_PORT, CONTROL, SERVICE_SUBNETS, Files, LabError, LabSpec

_ETCD = "http://127.0.0.1:2379"
_READY_DEADLINE = 90.0


def real_binaries() -> tuple[Path, Path] | None:
    """kube-apiserver and etcd from KUBEBUILDER_ASSETS or PATH, None when either is missing."""
    search = os.pathsep.join(filter(None, (os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH"))))
    server, etcd = shutil.which("kube-apiserver", path=search), shutil.which("etcd", path=search)
    return (Path(server), Path(etcd)) if server and etcd else None


def daemons(spec: LabSpec) -> dict[str, Daemon]:
    """The processes of the API server on the control host, in the order of starting."""
    real = real_binaries()
    if real is None:
        return {"apiserver": _daemon(spec, "apiserver", _embedded(spec))}
    server, etcd = real
    return {
        "etcd": _daemon(spec, "etcd", _etcd(spec, etcd)),
        "apiserver": _daemon(spec, "apiserver", _real(spec, server)),
    }


def client(spec: LabSpec, user: str = pki.ADMIN, *, on_machine: bool = True) -> Client:
    """A client of the API server with a user's static token, from the machine or from the fabric."""
    url = pki.machine_url(spec) if on_machine else pki.fabric_url(spec)
    return Client(url, Files(spec.name).pki / "ca.crt", pki.token(spec, user))


def wait_ready(spec: LabSpec, server: Daemon, progress: Callable[[str], None]) -> None:
    """Return when the API server answers; raises LabError when its process ends or after 90 s."""
    api = client(spec)
    progress("waiting for the API server")
    end = time.monotonic() + _READY_DEADLINE
    while True:
        try:
            api.get("/readyz")
            api.get("/api/v1/namespaces/default")
        except ApiError as error:
            if not server.running:
                raise LabError(f"the API server ended at its start: {server.last_words()}") from None
            if time.monotonic() > end:
                raise LabError(f"the API server doesn't answer: {error}") from None
            time.sleep(0.05)
        else:
            return


def _daemon(spec: LabSpec, name: str, command: list[str]) -> Daemon:
    files = Files(spec.name)
    return Daemon(
        name=name, command=command, netns=spec.netns(CONTROL),
        log=files.log(CONTROL) / f"{name}.log", pid_file=files.host(CONTROL) / f"{name}.daemon",
    )  # fmt: skip


def _service_cidrs(spec: LabSpec) -> str:
    return ",".join(SERVICE_SUBNETS[family] for family in spec.families)


def _embedded(spec: LabSpec) -> list[str]:
    directory = Files(spec.name).pki
    everywhere = "[::]" if spec.families[0] == 6 else "0.0.0.0"
    return [
        sys.executable, "-m", "ovnkit_lab.apiserver", "--listen", f"{everywhere}:{API_PORT}",
        "--data-dir", str(Files(spec.name).host(CONTROL) / "apiserver"),
        "--tls-cert", str(directory / "apiserver.crt"), "--tls-key", str(directory / "apiserver.key"),
        "--token-file", str(directory / "tokens.csv"), "--service-cidr", _service_cidrs(spec),
    ]  # fmt: skip


def _etcd(spec: LabSpec, program: Path) -> list[str]:
    return [
        str(program), "--data-dir", str(Files(spec.name).host(CONTROL) / "etcd"),
        "--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD,
        "--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync",
    ]  # fmt: skip


def _real(spec: LabSpec, program: Path) -> list[str]:
    directory = Files(spec.name).pki
    return [
        str(program), f"--etcd-servers={_ETCD}", "--bind-address=::", f"--secure-port={API_PORT}",
        f"--advertise-address={spec.addresses(CONTROL)[0].ip}", f"--cert-dir={directory}",
        f"--tls-cert-file={directory / 'apiserver.crt'}", f"--tls-private-key-file={directory / 'apiserver.key'}",
        f"--token-auth-file={directory / 'tokens.csv'}", "--authorization-mode=RBAC", "--allow-privileged",
        f"--service-cluster-ip-range={_service_cidrs(spec)}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory / 'sa.key'}",
        f"--service-account-signing-key-file={directory / 'sa.key'}",
        # No controller makes service accounts for namespaces here.
        "--disable-admission-plugins=ServiceAccount",
    ]  # fmt: skip
