"""The process that runs the controllers: `python -m ovnkit_lab.controllers LAB`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import structlog

from ovnkit_lab import apiservers, layout, pki
from ovnkit_lab.controllers import endpoints, nodes, scheduler, workloads
from ovnkit_lab.controllers.world import World

log = structlog.get_logger()
_GATHER = 0.02
"""Seconds to gather changes before looking at them."""
_RESYNC = 30.0


def main() -> None:
    """Run until killed. Every pass looks at everything: a lab is small."""
    spec = layout.load(sys.argv[1])
    changed = threading.Event()
    world = World(apiservers.client(spec, pki.AGENT, on_machine=False), lambda _key: changed.set())
    world.wait()
    passes: tuple[Callable[[World], bool | None], ...] = (
        nodes.sync, scheduler.sync, workloads.sync, endpoints.sync,
    )  # fmt: skip
    pause = _RESYNC
    while True:
        changed.wait(pause)
        changed.clear()
        pause = _RESYNC
        threading.Event().wait(_GATHER)
        for one in passes:
            try:
                if one(world):
                    changed.set()
            except Exception as error:
                log.warning(
                    "pass failed", controller=one.__module__, error=f"{type(error).__name__}: {error}"[:300]
                )
                pause = 0.5


if __name__ == "__main__":
    main()
