"""The hooks of the CNI plugin."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ovnkit.api.hooks import Answerer, Declaration, Runtime, Scope, Tell, hookimpl
from ovnkit.api.host import LINKS
from ovnkit.api.metrics import Metric
from ovnkit.api.renderers import Renderer, Role
from ovnkit.network.names import MANAGEMENT_LINK
from ovnkit_cni.node import LOST_PORTS, LostPortEvents, LostPorts

if TYPE_CHECKING:
    from ovnkit_cni.commands import Commands
    from ovnkit_cni.server import CniServer

log = structlog.get_logger(plugin="cni")

_PATIENCE = 1.0


class CniPlugin:
    """Plugs pods on nodes."""

    def __init__(self) -> None:
        self._server: CniServer | None = None
        self._problem = ""
        self._lost: LostPorts | None = None

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """Declare it; the management port comes first, as it makes the node ready."""
        return Declaration(
            after=("management_port",),
            kinds=(LINKS, LOST_PORTS),
            default=True,
            summary="plugs pods: the CNI executable and the node's CNI server",
        )

    @hookimpl
    def ovnkit_renderers(self, scope: Scope) -> Iterable[Renderer]:
        """Role node: Events on pods that have lost their port."""
        return LostPortEvents(scope).renderers()

    @hookimpl
    def ovnkit_answerers(self, tell: Tell) -> Iterable[Answerer]:
        """Which pods have lost their port."""
        self._lost = LostPorts(tell)
        return [self._lost]

    @hookimpl
    def ovnkit_metrics(self) -> Iterable[Metric]:
        """How many ports are lost, and how many were restored."""
        return self._lost.metrics() if self._lost is not None else ()

    @hookimpl
    def ovnkit_started(self, runtime: Runtime) -> None:
        """On nodes: serve, install the executable, and say that the node is ready when it is."""
        if Role.NODE not in runtime.scope.roles:
            return
        # only here: a process without the node role needs neither netlink nor the node's Open vSwitch
        from ovnkit_cni.commands import Commands
        from ovnkit_cni.hygiene import Hygiene
        from ovnkit_cni.install import install_shim
        from ovnkit_cni.keeper import Keeper
        from ovnkit_cni.server import CniServer

        options = runtime.config.cni
        commands = Commands(runtime)
        self._server = CniServer(Path(options.run_dir), commands)
        self._server.start()
        install_shim(options)
        Hygiene(runtime, commands).start()
        if self._lost is not None:
            Keeper(runtime, commands, self._lost).start()
        threading.Thread(target=self._announce, args=(runtime, commands), name="cni-conf", daemon=True).start()

    def _announce(self, runtime: Runtime, commands: Commands) -> None:
        """Write the configuration file once the management port is up."""
        from ovnkit_cni.install import write_conf

        needs_port = "management_port" not in runtime.config.plugins.disabled
        while needs_port and not commands.stopping.is_set():
            try:
                runtime.wait_for(LINKS, MANAGEMENT_LINK, _PATIENCE, lambda link: link is not None and link.up)
            except TimeoutError:
                self._problem = f"interface {MANAGEMENT_LINK} is not up"
                continue
            break
        if commands.stopping.is_set():
            return
        self._problem = ""
        log.info("node is ready for pods", conf=str(write_conf(runtime.config.cni)))

    @hookimpl
    def ovnkit_stopping(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.stop()

    @hookimpl
    def ovnkit_health(self, runtime: Runtime) -> Mapping[str, str] | None:
        """Whether pods can be plugged."""
        if Role.NODE not in runtime.scope.roles:
            return None
        if self._server is None or not self._server.listening:
            return {"cni-server": "not listening"}
        return {"cni-conf": self._problem} if self._problem else {}
