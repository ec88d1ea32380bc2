"""Runs the controllers, one after the other in each round; changes start a round."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from kubelab.controllers import disruptions, endpoints, namespaces, nodes, scheduler, workloads
from kubelab.controllers.context import ControllerContext
from kubelab.controllers.garbage import GarbageCollector
from kubelab.controllers.resources import Metadata

log = structlog.get_logger()
_GATHER_SECONDS = 0.02
"""How long changes are gathered before the controllers look at them."""
_RESYNC_SECONDS = 30.0
_RETRY_SECONDS = 0.5
"""Pause before the next round when a controller failed, or waits for something that no watch shows."""
_DISCOVERY_SECONDS = 5.0
"""How often the API server is asked which resources it has."""

Sync = Callable[[], bool | None]
"""Makes a controller's part of the cluster as it should be; whether that changed something to look at again."""


class Periodic:
    """A sync that runs every `seconds` at most."""

    def __init__(self, seconds: float, sync: Sync) -> None:
        self._seconds, self._sync = seconds, sync
        self._due = 0.0

    def __call__(self) -> None:
        """Run it if it is due."""
        if time.monotonic() >= self._due:
            self._sync()
            self._due = time.monotonic() + self._seconds


def controllers(
    context: ControllerContext, changed: threading.Event, *,
    with_workloads: bool = True, with_scheduler: bool = True, with_cleanup: bool = True,
) -> dict[str, Sync]:  # fmt: skip
    """The controllers by name, in the order of a round. See the command line for the groups."""
    found: dict[str, Sync] = {}
    if with_workloads:
        found |= {
            "nodes": partial(nodes.sync, context), "workloads": partial(workloads.sync, context),
            "endpoints": partial(endpoints.sync, context), "disruptions": partial(disruptions.sync, context),
        }  # fmt: skip
    if with_cleanup:
        metadata = Metadata(context.client, lambda _key: changed.set())
        found |= {
            "service accounts": partial(namespaces.accounts, context),
            "namespaces": Periodic(_RETRY_SECONDS, partial(namespaces.empty_terminating, context)),
            "resources": Periodic(_DISCOVERY_SECONDS, metadata.refresh),
            "garbage": GarbageCollector(context.client, metadata).sync,
        }
    if with_scheduler:
        found["scheduler"] = partial(scheduler.sync, context)
    return found


def run(running: Mapping[str, Sync], changed: threading.Event) -> None:
    """Run controllers until the process is killed. Each looks at everything: such a cluster is small."""
    resync = _RETRY_SECONDS if any(isinstance(sync, Periodic) for sync in running.values()) else _RESYNC_SECONDS
    pause = resync
    while True:
        changed.wait(pause)
        changed.clear()
        pause = resync
        time.sleep(_GATHER_SECONDS)
        for name, sync in running.items():
            try:
                if sync():
                    changed.set()
            except Exception as error:
                log.warning("controller failed", controller=name, error=f"{type(error).__name__}: {error}"[:300])
                pause = _RETRY_SECONDS
