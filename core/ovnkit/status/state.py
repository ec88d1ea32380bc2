"""The state of the process: read in the reconciler's thread, answered as /status, /readyz and /healthz."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field

from ovnkit import __version__
from ovnkit.api.hooks import Scope
from ovnkit.api.http_server import Answer
from ovnkit.engine.reconciler import Reconciler
from ovnkit.engine.sink import AnySink
from ovnkit.plugins.registry import Plugins, PluginState
from ovnkit.status.read import plugin_row
from ovnkit.status.server import json_answer
from ovnkit.status.snapshot import Snapshot

STUCK_AFTER = 60.0
"""Seconds without a sign of life of the reconciler after which /healthz says so."""


@define
class Progress:
    """How far the start has come; written by the process, read by everyone."""

    begun: float = field(factory=time.monotonic)
    began_at: float = field(factory=time.time)
    started: bool = False
    stopping: bool = False
    ready_after: float | None = None
    """Seconds from start to being ready for the first time."""


class StateReader:
    """Gathers the state. `sinks` are read through functions because some come later."""

    def __init__(
        self,
        scope: Scope,
        plugins: Plugins,
        reconciler: Reconciler,
        progress: Progress,
        *,
        unlisted: Callable[[], Sequence[str]],
        sinks: Callable[[], Sequence[AnySink]],
        watches: Callable[[], Mapping[str, Mapping[str, Any]]],
        leases: Callable[[], Mapping[str, Mapping[str, Any]]],
        waiting: Callable[[], Sequence[str]],
        complaints: Mapping[str, int],
    ) -> None:
        self._scope = scope
        self._plugins = plugins
        self._reconciler = reconciler
        self._progress = progress
        self._unlisted = unlisted
        self._sinks = sinks
        self._watches = watches
        self._leases = leases
        self._waiting = waiting
        self._complaints = complaints

    def read(self) -> dict[str, Any]:
        """Everything, in the reconciler's thread."""
        reconciler, progress = self._reconciler, self._progress
        for plugin, why in reconciler.quarantined().items():
            if self._plugins.all[plugin].state is PluginState.ENABLED:
                self._plugins.quarantine(plugin, why)
        self._release()
        sinks = {sink.name: {**sink.status(), "ready": sink.ready} for sink in self._sinks()}
        return {
            "version": __version__,
            "pid": os.getpid(),
            "roles": sorted(role.value for role in self._scope.roles),
            "node": self._scope.node,
            "zone": self._scope.zone,
            "began_at": progress.began_at,
            "started": progress.started,
            "stopping": progress.stopping,
            "ready_duration_seconds": progress.ready_after,
            "synced": reconciler.synced,
            "waiting_for_databases": list(self._waiting()),
            "unlisted": list(self._unlisted()),
            "plugins": [plugin_row(plugin) for plugin in self._plugins.all.values()],
            "quarantined": dict(reconciler.quarantined()),
            "kinds": dict(reconciler.kinds()),
            "pools": {pool: dict(scopes) for pool, scopes in reconciler.pools().items()},
            "sinks": sinks,
            "watches": dict(self._watches()),
            "leases": dict(self._leases()),
            "failures": [
                {
                    "owner": str(failure.owner),
                    "what": failure.what,
                    "message": failure.message,
                    "since": failure.since,
                }
                for failure in reconciler.failures()
            ],
            "renders": dict(reconciler.renders_total),
            "render_failures": dict(reconciler.render_failures.failures_total),
            "hook_failures": dict(self._plugins.calls.failures),
            "match_complaints": dict(self._complaints),
        }

    def _release(self) -> None:
        """Plugins whose quarantine by the reconciler is over."""
        held = self._reconciler.quarantined()
        for plugin in self._plugins.all.values():
            if plugin.state is PluginState.QUARANTINED and plugin.name not in held and not plugin.held_at_start:
                plugin.state, plugin.why = PluginState.ENABLED, ""


def reasons_not_ready(state: Mapping[str, Any], health: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Why /readyz says no, in words; empty when the process is ready."""
    reasons = []
    if not state:
        return ["the reconciler hasn't answered yet"]
    if state["stopping"]:
        reasons.append("stopping")
    reasons += [f"database {db} doesn't answer" for db in state["waiting_for_databases"]]
    reasons += [f"{kind} have not been listed yet" for kind in state["unlisted"]]
    reasons += [
        f"sink {name} is not connected{': ' + sink['last_error'] if sink.get('last_error') else ''}"
        for name, sink in state["sinks"].items()
        if not sink["ready"]
    ]
    if not state["started"]:
        reasons.append("not everything has been rendered and applied once")
    reasons += [
        f"plugin {plugin}: {name}: {text}" for plugin, found in health.items() for name, text in found.items()
    ]
    return reasons


WAITING_TOO_LONG = 60.0
"""Seconds after which something that waits makes the process degraded: what waits at a start is there by then."""


def reasons_degraded(state: Mapping[str, Any], now: float) -> list[str]:
    """What of the desired state isn't in effect although the process works, in words; `now` since the epoch."""
    reasons = [
        f"plugin {row['name']} {row['state']}: {row['why']}"
        for row in state.get("plugins", ())
        if row["state"] in (PluginState.FAILED.value, PluginState.MISSING.value, PluginState.QUARANTINED.value)
    ]
    counts = Counter(
        failure["what"]
        for failure in state.get("failures", ())
        if failure["what"] != "waiting" or now - failure["since"] > WAITING_TOO_LONG
    )
    for what, text in _FAILURES.items():
        if counts[what]:
            reasons.append(f"{text}: {counts[what]}")
    for name, sink in state.get("sinks", {}).items():
        if sink.get("held_back"):
            reasons.append(
                f"sink {name} holds back {sink['held_back']} deletions (--allow-mass-delete lets them go)"
            )
        late = sum(1 for wait in sink.get("waits", ()) if now - wait["since"] > WAITING_TOO_LONG)
        if late:
            reasons.append(f"sink {name}: items that wait for something: {late}")
    return reasons


_FAILURES = {
    "failed": "renders that failed by a plugin's fault",
    "rejected": "objects that are wrong (their Events say why)",
    "refused": "renders whose items could not be applied",
    "waiting": "renders that wait for something",
}


def public(state: Mapping[str, Any], health: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The state as /status shows it."""
    shown = dict(state)
    for name, labels in (
        ("renders", ("plugin", "renderer")),
        ("render_failures", ("plugin", "renderer", "what")),
        ("hook_failures", ("plugin", "hook")),
    ):
        shown[name] = [
            {**dict(zip(labels, key, strict=True)), "count": count} for key, count in state.get(name, {}).items()
        ]
    shown["plugins"] = [{**row, "health": dict(health.get(row["name"], {}))} for row in state.get("plugins", ())]
    shown["not_ready"] = reasons_not_ready(state, health)
    shown["ready"] = not shown["not_ready"]
    shown["degraded"] = reasons_degraded(state, time.time())
    return shown


def ready_answer(state: Mapping[str, Any], health: Mapping[str, Mapping[str, str]]) -> Answer:
    """The answer to /readyz: 200 or 503, with what is missing."""
    reasons = reasons_not_ready(state, health)
    content = {
        "ready": not reasons,
        "reasons": reasons,
        "degraded": reasons_degraded(state, time.time()),
        "kinds": {"unlisted": state.get("unlisted", [])},
        "sinks": {name: sink["ready"] for name, sink in state.get("sinks", {}).items()},
        "plugins": {row["name"]: row["state"] for row in state.get("plugins", ())},
        "leases": state.get("leases", {}),
    }
    return json_answer(content, 503 if reasons else 200)


def health_answer(snapshot: Snapshot) -> Answer:
    """The answer to /healthz: 503 when the reconciler gives no sign of life."""
    age = time.monotonic() - snapshot.taken if snapshot.taken else 0.0
    stuck = age > STUCK_AFTER
    return json_answer({"healthy": not stuck, "reconciler_seen_seconds_ago": round(age, 1)}, 503 if stuck else 200)
