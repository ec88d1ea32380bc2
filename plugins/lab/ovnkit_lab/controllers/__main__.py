"""The process that runs the controllers: `python -m ovnkit_lab.controllers LAB`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from ovnkit_lab import apiservers, layout, pki
from ovnkit_lab.controllers import disruptions, endpoints, namespaces, nodes, scheduler, workloads
from ovnkit_lab.controllers.garbage import GarbageCollector
from ovnkit_lab.controllers.resources import Metadata
from ovnkit_lab.controllers.world import World
from ovnkit_lab.layout import LabSpec

log = structlog.get_logger()
_GATHER = 0.02
"""Seconds to gather changes before looking at them."""
_RESYNC = 30.0
_AGAIN = 0.5
"""Seconds before another pass when one has failed, or waits for something that no watch shows."""
_DISCOVERY = 5.0
"""Seconds between two looks at which resources there are."""

Pass = Callable[[], bool | None]
"""Whether something was done, whose effects must be looked at."""


class Every:
    """A pass that isn't made more often than every `seconds`."""

    def __init__(self, seconds: float, one: Pass) -> None:
        self._seconds, self._one = seconds, one
        self._due = 0.0

    def __call__(self) -> None:
        """Make it if it is time."""
        if time.monotonic() >= self._due:
            self._one()
            self._due = time.monotonic() + self._seconds


def passes(spec: LabSpec, world: World, changed: threading.Event) -> dict[str, Pass]:
    """What is done here: all that none of Kubernetes' own programs does in this lab.

    The embedded API server collects garbage and ends namespaces by itself.
    """
    found: dict[str, Pass] = {}
    running = apiservers.managers(spec)
    if apiservers.CONTROLLER_MANAGER not in running:
        found |= {
            "nodes": partial(nodes.sync, world), "workloads": partial(workloads.sync, world),
            "endpoints": partial(endpoints.sync, world), "disruptions": partial(disruptions.sync, world),
        }  # fmt: skip
        if spec.kubernetes is not None:
            metadata = Metadata(world.client, lambda _key: changed.set())
            found |= {
                "service accounts": partial(namespaces.accounts, world),
                "namespaces": Every(_AGAIN, partial(namespaces.emptied, world)),
                "resources": Every(_DISCOVERY, metadata.refresh),
                "garbage": GarbageCollector(world.client, metadata).sync,
            }
    if apiservers.SCHEDULER not in running:
        found["scheduler"] = partial(scheduler.sync, world)
    return found


def run(todo: Mapping[str, Pass], changed: threading.Event) -> None:
    """Run until killed. Every pass looks at everything: a lab is small."""
    resync = _AGAIN if any(isinstance(one, Every) for one in todo.values()) else _RESYNC
    pause = resync
    while True:
        changed.wait(pause)
        changed.clear()
        pause = resync
        time.sleep(_GATHER)
        for name, one in todo.items():
            try:
                if one():
                    changed.set()
            except Exception as error:
                log.warning("pass failed", controller=name, error=f"{type(error).__name__}: {error}"[:300])
                pause = _AGAIN


def main() -> None:
    """The controllers of the lab that the command line names."""
    spec = layout.load(sys.argv[1])
    changed = threading.Event()
    world = World(apiservers.client(spec, pki.AGENT, on_machine=False), lambda _key: changed.set())
    world.wait()
    run(passes(spec, world, changed), changed)


if __name__ == "__main__":
    main()
