"""Roles that only one process may hold at a time, and the Leases that decide."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.renderers import Role
from ovnkit.sinks.kube.lease import LEASE_NAME, LeaderElector

if TYPE_CHECKING:
    from ovnkit.sinks.kube.client import Client


def lease_names(scope: Scope) -> dict[Role, str]:
    """The Lease that each elected role of this process needs; roles that need none are not named."""
    names = {}
    if Role.CLUSTER in scope.roles:
        names[Role.CLUSTER] = LEASE_NAME
    if Role.ZONE in scope.roles and not scope.per_node_zones:
        names[Role.ZONE] = f"{LEASE_NAME}-{scope.zone}"
    return names


def default_identity(scope: Scope) -> str:
    """Name of this candidate: the pod's, else the node's, else the host's.

    It stays the same over a restart, so that a process that was killed takes its own lease up again at once.
    """
    return os.environ.get("POD_NAME") or scope.node or socket.gethostname()


class Leadership:
    """The elections of this process. `gained(role)` and `lost(role)` are called in threads of the electors."""

    def __init__(
        self,
        config: Config,
        scope: Scope,
        *,
        gained: Callable[[Role], None],
        lost: Callable[[Role], None],
        identity: str = "",
    ) -> None:
        self._config = config
        self._names = lease_names(scope)
        self._identity = identity or default_identity(scope)
        self._gained = gained
        self._lost = lost
        self._electors: dict[Role, LeaderElector] = {}

    @property
    def elected(self) -> frozenset[Role]:
        """The roles that need a lease."""
        return frozenset(self._names)

    def start(self, client: Client) -> None:
        """Start competing."""
        for role, name in self._names.items():
            self._electors[role] = LeaderElector.configured(
                client,
                self._config.clustermgrha,
                identity=self._identity,
                namespace=self._config.kubernetes.ovn_config_namespace,
                name=name,
                acquired=lambda role=role: self._gained(role),
                lost=lambda role=role: self._lost(role),
            )
            self._electors[role].start()

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """State of each election by role."""
        return {role.value: elector.status() for role, elector in self._electors.items()}

    def stop(self) -> None:
        """Give the leases back."""
        for elector in self._electors.values():
            elector.stop(timeout=3.0)
