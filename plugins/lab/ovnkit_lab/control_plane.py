"""The control plane of a lab: Kubernetes' own programs where they are found, kubelab's otherwise."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from kubelab.client import ApiError, Client
from ovnkit.testing.daemons import Daemon
from ovnkit_lab import pki
from ovnkit_lab.layout import API_PORT, CONTROL, SERVICE_SUBNETS, Files, Kubernetes, LabError, LabSpec

CONTROLLER_MANAGER, SCHEDULER = "kube-controller-manager", "kube-scheduler"
_ETCD = "http://127.0.0.1:2379"
_READY_DEADLINE = 90.0


def find(environ: Mapping[str, str] = os.environ) -> Kubernetes | None:
    """The programs of Kubernetes from KUBEBUILDER_ASSETS or PATH; None without kube-apiserver or etcd.

    The controller manager and the scheduler are taken from kube-apiserver's directory only: others might be of
    another version.
    """
    assets = environ.get("KUBEBUILDER_ASSETS", "")
    search = os.pathsep.join(filter(None, (assets, environ.get("PATH"))))
    server, etcd = shutil.which("kube-apiserver", path=search), shutil.which("etcd", path=search)
    if not (server and etcd):
        return None
    beside = str(Path(server).parent)
    manager, scheduler = (
        shutil.which(name, path=beside) or "" for name in ("kube-controller-manager", "kube-scheduler")
    )
    used = bool(assets) and Path(server).parent == Path(assets)
    return Kubernetes(server, etcd, manager, scheduler, assets if used else "")


def daemons(spec: LabSpec) -> dict[str, Daemon]:
    """The API server's processes on the control host, in the order in which they start."""
    if spec.kubernetes is None:
        return {"apiserver": _daemon(spec, "apiserver", _kubelab_apiserver(spec))}
    return {
        "etcd": _daemon(spec, "etcd", _etcd(spec, spec.kubernetes.etcd)),
        "apiserver": _daemon(spec, "apiserver", _kube_apiserver(spec, spec.kubernetes.apiserver)),
    }


def managers(spec: LabSpec) -> dict[str, Daemon]:
    """kube-controller-manager and kube-scheduler, as far as they were found; kubelab's controllers do the rest."""
    found: dict[str, Daemon] = {}
    if spec.kubernetes and spec.kubernetes.controller_manager:
        command = _controller_manager(spec, spec.kubernetes.controller_manager)
        found[CONTROLLER_MANAGER] = _daemon(spec, CONTROLLER_MANAGER, command)
    if spec.kubernetes and spec.kubernetes.scheduler:
        found[SCHEDULER] = _daemon(spec, SCHEDULER, _scheduler(spec, spec.kubernetes.scheduler))
    return found


def controllers(spec: LabSpec) -> dict[str, Daemon]:
    """kubelab's controllers, for what no program of Kubernetes does; none when those do everything."""
    running = managers(spec)
    if len(running) == len(pki.MANAGERS):
        return {}
    directory = Files(spec.name).pki
    command = [
        sys.executable, "-m", "kubelab.controllers", "--server", pki.fabric_url(spec),
        "--certificate-authority", str(directory / "ca.crt"),
        "--token-file", str(pki.token_path(spec, pki.AGENT)),
    ]  # fmt: skip
    if CONTROLLER_MANAGER in running:
        command += ["--no-workloads"]
    if CONTROLLER_MANAGER in running or spec.kubernetes is None:
        command += ["--no-cleanup"]
    if SCHEDULER in running:
        command += ["--no-scheduler"]
    return {"controllers": _daemon(spec, "controllers", command)}


def write_credentials(spec: LabSpec) -> None:
    """Write the kubeconfig files of kube-controller-manager and kube-scheduler."""
    for name in managers(spec):
        user = f"system:{name}"
        pki.write_kubeconfig(spec, _kubeconfig(spec, name), pki.fabric_url(spec), user, pki.token(spec, user))


def client(spec: LabSpec, user: str = pki.ADMIN, *, on_machine: bool = True) -> Client:
    """A client of the API server with a user's static token, for use on the machine or on the fabric."""
    url = pki.machine_url(spec) if on_machine else pki.fabric_url(spec)
    return Client(url, Files(spec.name).pki / "ca.crt", pki.token(spec, user))


def wait_ready(spec: LabSpec, server: Daemon, progress: Callable[[str], None]) -> None:
    """Wait until the API server answers; raises LabError when its process exits, or after 90 s."""
    api = client(spec)
    progress("waiting for the API server")
    end = time.monotonic() + _READY_DEADLINE
    while True:
        try:
            api.get("/readyz")
            api.get("/api/v1/namespaces/default")
        except ApiError as error:
            if not server.running:
                raise LabError(f"the API server exited while starting: {server.last_words()}") from None
            if time.monotonic() > end:
                raise LabError(f"the API server does not answer: {error}") from None
            time.sleep(0.05)
        else:
            return


def _daemon(spec: LabSpec, name: str, command: list[str]) -> Daemon:
    files = Files(spec.name)
    return Daemon(
        name=name, command=command, netns=spec.netns(CONTROL), env={"PYTHONUNBUFFERED": "1"},
        log=files.log(CONTROL) / f"{name}.log", pid_file=files.host(CONTROL) / f"{name}.daemon",
    )  # fmt: skip


def _service_cidrs(spec: LabSpec) -> str:
    return ",".join(SERVICE_SUBNETS[family] for family in spec.families)


def _kubelab_apiserver(spec: LabSpec) -> list[str]:
    directory = Files(spec.name).pki
    everywhere = "[::]" if spec.families[0] == 6 else "0.0.0.0"
    return [
        sys.executable, "-m", "kubelab.apiserver", "--listen", f"{everywhere}:{API_PORT}",
        "--data-dir", str(Files(spec.name).host(CONTROL) / "apiserver"),
        "--tls-cert", str(directory / "apiserver.crt"), "--tls-key", str(directory / "apiserver.key"),
        "--token-file", str(directory / "tokens.csv"), "--service-cidr", _service_cidrs(spec),
        "--instead", "log=ovnkit lab logs", "--instead", "exec=ovnkit lab exec",
        "--instead", "attach=ovnkit lab logs -f",
    ]  # fmt: skip


def _etcd(spec: LabSpec, program: str) -> list[str]:
    return [
        program, "--data-dir", str(Files(spec.name).host(CONTROL) / "etcd"),
        "--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD,
        "--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync",
    ]  # fmt: skip


def _kubeconfig(spec: LabSpec, name: str) -> Path:
    return Files(spec.name).base / f"{name}.kubeconfig"


def _manager(spec: LabSpec, name: str, program: str) -> list[str]:
    """Arguments of both: no leader election (there is one of each), and no port that others can reach."""
    kubeconfig = _kubeconfig(spec, name)
    return [
        program, f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1",
        f"--cert-dir={Files(spec.name).host(CONTROL) / name}",
    ]  # fmt: skip


def _controller_manager(spec: LabSpec, program: str) -> list[str]:
    directory = Files(spec.name).pki
    return [
        *_manager(spec, CONTROLLER_MANAGER, program), f"--cluster-name=ovnkit-{spec.name}",
        "--use-service-account-credentials=true", f"--root-ca-file={directory / 'ca.crt'}",
        f"--service-account-private-key-file={directory / 'sa.key'}",
    ]  # fmt: skip


def _scheduler(spec: LabSpec, program: str) -> list[str]:
    return _manager(spec, SCHEDULER, program)


def _kube_apiserver(spec: LabSpec, program: str) -> list[str]:
    directory = Files(spec.name).pki
    return [
        program, f"--etcd-servers={_ETCD}", "--bind-address=::", f"--secure-port={API_PORT}",
        f"--advertise-address={spec.addresses(CONTROL)[0].ip}", f"--cert-dir={directory}",
        f"--tls-cert-file={directory / 'apiserver.crt'}", f"--tls-private-key-file={directory / 'apiserver.key'}",
        f"--token-auth-file={directory / 'tokens.csv'}", "--authorization-mode=RBAC", "--allow-privileged",
        f"--service-cluster-ip-range={_service_cidrs(spec)}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={directory / 'sa.key'}",
        f"--service-account-signing-key-file={directory / 'sa.key'}",
        # Node names don't resolve here, and the default is to try them first.
        "--kubelet-preferred-address-types=InternalIP",
    ]  # fmt: skip
