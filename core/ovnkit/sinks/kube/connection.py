"""How the API server is reached: the official client's Configuration from ovnkit's options."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from kubernetes import config as kubernetes_config
from kubernetes.client import Configuration
from kubernetes.client.exceptions import OpenApiException
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from ovnkit.api.config import KubernetesOptions
from ovnkit.api.errors import ConfigError

UNANSWERED = 15_000
"""Milliseconds without an acknowledgement after which a connection counts as lost (TCP_USER_TIMEOUT)."""

_TOKEN_PERIOD = 60.0
"""Seconds after which a token file is read again; the kubelet renews projected tokens well before they end."""


def load(options: KubernetesOptions) -> Any:
    """The official client's `Configuration`.

    Explicit `kubeconfig`, else explicit `apiserver` (with `token` or `token_file`, and `cacert`), else the
    service account of the pod, else the default kubeconfig. `apiserver`, `token` and `cacert` also override
    what a kubeconfig says. Raises ConfigError, also for files that are missing or wrong.
    """
    configuration: Any = Configuration()
    try:
        if options.kubeconfig or not (options.apiserver or _in_cluster()):
            kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                options.kubeconfig or None, client_configuration=configuration, persist_config=False
            )
        elif not options.apiserver:
            kubernetes_config.load_incluster_config(  # type: ignore[no-untyped-call]
                client_configuration=configuration
            )
        _override(configuration, options)
    except (kubernetes_config.ConfigException, OpenApiException, OSError, ValueError) as error:
        where = options.kubeconfig or options.apiserver or "in-cluster or default kubeconfig"
        raise ConfigError(f"[kubernetes]: no connection from {where}: {error}") from error
    configuration.retries = False
    unanswered = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED)
    configuration.socket_options = [*tcp_keepalive_socket_options(), unanswered]
    return configuration


def _in_cluster() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and not os.environ.get("KUBECONFIG")


def _override(configuration: Any, options: KubernetesOptions) -> None:
    if options.apiserver:
        configuration.host = options.apiserver.rstrip("/")
    if options.cacert:
        Path(options.cacert).read_bytes()  # a missing file shall be told now, not by each request
        configuration.ssl_ca_cert = options.cacert
    if options.token:
        configuration.api_key["BearerToken"] = f"Bearer {options.token}"
        configuration.refresh_api_key_hook = None
    elif options.token_file:
        hook = _TokenFile(Path(options.token_file))
        hook(configuration)
        configuration.refresh_api_key_hook = hook


class _TokenFile:
    """Refresh hook that reads the token from a file again each minute."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due = 0.0

    def __call__(self, configuration: Any) -> None:
        now = time.monotonic()
        if now >= self._due:
            configuration.api_key["BearerToken"] = f"Bearer {self._path.read_text().strip()}"
            self._due = now + _TOKEN_PERIOD
