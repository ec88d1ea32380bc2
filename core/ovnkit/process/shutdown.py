"""Stopping gracefully: services first, then what is in flight, then leases and connections, all with deadlines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from ovnkit.api.hooks import Hooks, Runtime
from ovnkit.engine.reconciler import Reconciler
from ovnkit.plugins.registry import Plugins

log = structlog.get_logger()

HOOK_DEADLINE = 5.0
"""Seconds a plugin's `ovnkit_stopping` may take."""
FLUSH_DEADLINE = 5.0
"""Seconds that sinks get to apply what is in flight."""


def stop_plugins(plugins: Plugins, runtime: Runtime) -> None:
    """Call `ovnkit_stopping` on each plugin, last started first; one that takes too long is left behind."""
    for name in reversed(plugins.active()):
        if not plugins.calls.implements(name, Hooks.ovnkit_stopping):
            continue
        call = threading.Thread(
            target=plugins.calls.attempt,
            args=(name, Hooks.ovnkit_stopping),
            kwargs={"runtime": runtime},
            name=f"stopping-{name}",
            daemon=True,
        )
        call.start()
        call.join(HOOK_DEADLINE)
        if call.is_alive():
            log.warning("plugin takes too long to stop, going on without", plugin=name, seconds=HOOK_DEADLINE)


def flush(reconciler: Reconciler, deadline: float = FLUSH_DEADLINE) -> bool:
    """Wait until nothing is to be rendered or applied; whether that came to pass in time."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        idle: list[bool] = []
        asked = threading.Event()

        def ask(idle: list[bool] = idle, asked: threading.Event = asked) -> None:
            idle.append(reconciler.idle)
            asked.set()

        reconciler.inbox.post(ask)
        if asked.wait(max(0.0, end - time.monotonic())) and idle[0]:
            return True
        time.sleep(0.02)
    log.warning("stopping with changes that have not been applied", seconds=deadline)
    return False


def in_turn(steps: Sequence[tuple[str, Callable[[], object]]]) -> None:
    """Run all steps even if one raises."""
    for name, step in steps:
        try:
            step()
        except Exception:
            log.exception("stopping failed", what=name)
