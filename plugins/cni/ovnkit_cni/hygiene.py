"""Ports that nobody will take away any more: looked for every minute, as upstream does."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import structlog

from ovnkit.api.hooks import Runtime
from ovnkit.api.models import PODS
from ovnkit_cni import ports
from ovnkit_cni.commands import Commands

log = structlog.get_logger(plugin="cni")

PERIOD = 60.0


def sweep(runtime: Runtime, commands: Commands) -> None:
    """Remove ports of pods that are gone, and ports whose device is gone.

    A pod counts as gone when the API server says so: the cache may lag behind the request that plugged it.
    """
    switch = commands.switch()
    for name, attachment, ids in list(ports.attachments(switch)):
        if not (uid := ids.get("iface-id-ver")) or _lives(runtime, ids, uid):
            continue
        log.info("removing the port of a pod that is gone", port=name, iface_id=ids.get("iface-id"))
        commands.unplug(attachment, name)
    gone = ports.remove(
        switch, lambda name, ids, ofport: name not in switch.kept and _without_device(name, ids, ofport)
    )
    if gone:
        log.info("removed ports without a device", ports=sorted(gone))
    limits = ports.collect_limits(switch)
    if limits:
        log.info("removed bandwidth limits that no port uses", rows=limits)


def _lives(runtime: Runtime, ids: Mapping[str, str], uid: str) -> bool:
    namespace, separator, name = ids.get("iface-id", "").partition("_")
    if not separator:
        return True
    key = f"{namespace}/{name}"
    pod = runtime.get(PODS, key)
    if pod is None or pod.uid != uid:
        pod = runtime.refresh(PODS, key)
    return pod is not None and pod.uid == uid and not pod.host_network


def _without_device(name: str, ids: Mapping[str, str], ofport: int) -> bool:
    return ofport == -1 and name not in ports.KEEP and "sandbox" in ids


class Hygiene:
    """Sweeps every minute in a thread of its own."""

    def __init__(self, runtime: Runtime, commands: Commands) -> None:
        self._runtime = runtime
        self._commands = commands
        self._thread = threading.Thread(target=self._run, name="cni-hygiene", daemon=True)

    def start(self) -> None:
        """Start; it ends with the commands' `stopping`."""
        self._thread.start()

    def _run(self) -> None:
        while not self._commands.stopping.wait(PERIOD):
            try:
                sweep(self._runtime, self._commands)
            except Exception as error:
                log.warning("looking for stale ports failed", error=str(error))
