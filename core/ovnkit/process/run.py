"""`ovnkit run`: one process with its roles, from start to graceful stop."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import structlog

from ovnkit.api.hooks import Hooks, Scope
from ovnkit.api.kinds import View
from ovnkit.api.metrics import Latency, Metric
from ovnkit.api.renderers import Role
from ovnkit.config.load import Loaded
from ovnkit.plugins.registry import Plugins
from ovnkit.process import shutdown
from ovnkit.process.complaints import Complaints
from ovnkit.process.edges import ProcessEdges
from ovnkit.process.garbage import LoadPhase, collect_at_rest
from ovnkit.process.leadership import Leadership
from ovnkit.process.memory import give_back_large_blocks
from ovnkit.process.runtime import PluginRuntime
from ovnkit.process.watches import Watches
from ovnkit.process.wiring import Wiring
from ovnkit.sinks.ovsdb.wire.schema import Schema
from ovnkit.status.metrics import Metrics
from ovnkit.status.read import socket_path
from ovnkit.status.server import HealthServer, json_answer
from ovnkit.status.snapshot import Snapshots
from ovnkit.status.state import Progress, StateReader, health_answer, public, ready_answer

log = structlog.get_logger()

EXIT_STOPPED, EXIT_FAILURE, EXIT_LEASE_LOST = 0, 1, 3

WAITING_LINE = 5.0
"""Seconds between log lines on what is being waited for at start."""

STARTED_PATIENCE = 5.0
"""Seconds after the first full render that sinks get to apply it before services start without them: an object
that the API server refuses for ever must not keep the CNI server down."""

_POLL = 0.1


class Process:
    """Everything of one `ovnkit run`, wired. Raises ConfigError when it can't be with this configuration."""

    def __init__(
        self,
        loaded: Loaded,
        plugins: Plugins,
        scope: Scope,
        *,
        allow_mass_delete: bool = False,
        identity: str = "",
    ) -> None:
        config = loaded.config
        self._config, self._plugins, self._scope = config, plugins, scope
        self._exit_code = EXIT_STOPPED
        self._stop = threading.Event()
        self._signals: queue.SimpleQueue[signal.Signals | None] = queue.SimpleQueue()
        self._halt = threading.Event()
        self._progress = Progress()
        self._edges = ProcessEdges(config, scope, allow_mass_delete=allow_mass_delete)
        self._wiring = Wiring(config, scope, plugins, self._edges, known=self._schemas_known)
        self._inbox, self._reconciler = self._wiring.inbox, self._wiring.reconciler
        self._databases = self._wiring.databases
        self._inbox.at_rest = collect_at_rest
        self._load_phase = LoadPhase(lambda: self._reconciler.synced, self._inbox.post_later)
        self._complaints = Complaints(
            Path(config.ovspaths.ovn_log_dir),
            post=self._inbox.post,
            owners=self._databases.owners_of_match,
            report=self._reconciler.report,
        )
        self._leadership = Leadership(config, scope, gained=self._gained, lost=self._lost, identity=identity)
        self.runtime = PluginRuntime(
            config, scope, plugins.calls, self._reconciler, self._edges.client, self._databases.session
        )
        self._rendered_at = 0.0
        self._state = StateReader(
            scope,
            plugins,
            self._reconciler,
            self._progress,
            unlisted=lambda: self._wiring.unlisted,
            sinks=lambda: self._wiring.sinks,
            watches=lambda: self._watches.status(),
            leases=self._leadership.status,
            waiting=lambda: self._databases.waiting,
            complaints=self._complaints.counts,
        )
        self._snapshots = Snapshots(self._inbox, self._state.read)
        self._metrics = Metrics(lambda: self._snapshots.take().content, self._plugin_metrics, _latencies(plugins))
        self._watches = Watches(self._reconciler, scope, [self._metrics.latencies.observe])
        self._health = HealthServer(
            {
                "/healthz": lambda: health_answer(self._snapshots.take()),
                "/readyz": lambda: ready_answer(self._snapshots.take().content, self._plugin_health()),
                "/status": lambda: json_answer(public(self._snapshots.take().content, self._plugin_health())),
                "/metrics": self._metrics.answer,
            }
        )

    # -- from start to stop (main thread) -------------------------------------------------------------------

    def run(self) -> int:
        """Run until told to stop; the exit code: 0 stopped, 1 failure, 3 lost the lease."""
        give_back_large_blocks()
        self._load_phase.begin()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        self._listen()
        reconciler = threading.Thread(target=self._reconcile, name="reconciler", daemon=True)
        reconciler.start()
        self._start()
        told = self._signals.get()
        if told is not None:
            log.info("stopping", signal=told.name)
            self.stop()
        self._shut_down()
        reconciler.join(2.0)
        log.info("stopped", exit_code=self._exit_code)
        return self._exit_code

    def stop(self, exit_code: int = EXIT_STOPPED) -> None:
        """Stop gracefully; from any thread."""
        if not self._stop.is_set():
            self._exit_code = exit_code
            self._stop.set()
            self._signals.put(None)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        # It runs in the middle of whatever the main thread does, which may hold the lock of a log or an event.
        self._signals.put(signal.Signals(number))

    def _listen(self) -> None:
        self._health.listen_unix(socket_path(self._config, (role.value for role in self._scope.roles)))
        if self._config.metrics.bind_address:
            self._health.listen_tcp(self._config.metrics.bind_address)

    def _reconcile(self) -> None:
        try:
            self._inbox.run(self._halt)
        except BaseException:
            log.exception("the reconciler died")
            self.stop(EXIT_FAILURE)

    def _start(self) -> None:
        log.info(
            "starting",
            roles=sorted(role.value for role in self._scope.roles),
            node=self._scope.node,
            zone=self._scope.zone,
            plugins=[plugin.name for plugin in self._plugins.enabled],
            api_server=self._edges.client.host,
            databases=list(self._databases.databases),
        )
        self._watches.start(self._edges.client, self._wiring.kinds.values(), self._edges.taps)
        for sink in self._wiring.node:
            sink.start()
        if Role.NODE in self._scope.roles:
            self._complaints.start()
        self._databases.start()
        self._inbox.post_later(_POLL, self._look)
        self._inbox.post_later(WAITING_LINE, self._tell_waiting)

    def _shut_down(self) -> None:
        self._progress.stopping = True
        lost = self._exit_code == EXIT_LEASE_LOST
        steps: list[tuple[str, Callable[[], object]]] = [
            ("plugins", lambda: shutdown.stop_plugins(self._plugins, self.runtime))
        ]
        if not lost and self._wiring.rendering:
            steps.append(("sinks", lambda: shutdown.flush(self._reconciler)))
        steps += [
            ("leases", self._leadership.stop),
            ("reconciler", self._halt_reconciler),
            ("kubernetes writer", lambda: self._edges.stop_writing(0.0 if lost else 2.0)),
            ("answers", self._wiring.answers.stop),
            ("complaints", self._complaints.stop),
            ("watches", self._watches.stop),
            ("databases", self._databases.stop),
            *((sink.name, sink.stop) for sink in self._wiring.node),
            ("runtime", self.runtime.close),
            ("status", self._health.stop),
        ]
        shutdown.in_turn(steps)

    def _halt_reconciler(self) -> None:
        self._halt.set()
        self._inbox.wake()

    # -- what starts when (reconciler's thread) -------------------------------------------------------------

    def _schemas_known(self, schemas: Mapping[str, Schema]) -> None:
        """All databases have answered: plugins whose columns exist begin to render."""
        self._wiring.render(schemas)
        self._activate(self._scope.roles - self._leadership.elected)
        self._leadership.start(self._edges.client)

    def _activate(self, roles: frozenset[Role]) -> None:
        if self._wiring.rendering and roles:
            self._load_phase.begin()
            self._wiring.activate(roles)
            log.info("acting", roles=sorted(role.value for role in roles))

    def _look(self) -> None:
        """Has everything been rendered, and applied as far as it can be? Then services start."""
        if self._progress.started or self._stop.is_set():
            return
        now = time.monotonic()
        done = self._wiring.rendering and self._reconciler.rendered
        if not done:
            self._rendered_at = 0.0
        elif not self._rendered_at:
            self._rendered_at = now
        if done and (self._reconciler.idle or now - self._rendered_at > STARTED_PATIENCE):
            self._progress.started = True
            self._progress.ready_after = now - self._progress.begun
            log.info("everything is rendered", seconds=round(self._progress.ready_after, 3))
            threading.Thread(target=self._start_services, name="services", daemon=True).start()
            return
        self._inbox.post_later(_POLL, self._look)

    def _start_services(self) -> None:
        self._plugins.calls.each(Hooks.ovnkit_started, runtime=self.runtime)

    def _tell_waiting(self) -> None:
        if self._progress.started or self._stop.is_set():
            return
        unlisted = self._wiring.unlisted
        sinks = [sink.name for sink in self._wiring.sinks if not sink.ready]
        log.warning("still waiting", databases=self._databases.waiting, sinks=sinks, unlisted=unlisted)
        self._inbox.post_later(WAITING_LINE, self._tell_waiting)

    # -- elections (electors' threads) ----------------------------------------------------------------------

    def _gained(self, role: Role) -> None:
        self._inbox.post(lambda: self._activate(frozenset({role})))

    def _lost(self, role: Role) -> None:
        if not self._stop.is_set():
            log.error("lost the lease, stopping", role=role.value)
            self._halt_reconciler()
            self.stop(EXIT_LEASE_LOST)

    # -- what plugins say -----------------------------------------------------------------------------------

    def _plugin_health(self) -> dict[str, Mapping[str, str]]:
        """What plugins say is wrong with them, by plugin."""
        if not self._progress.started:
            return {}
        answers = self._plugins.calls.observe(Hooks.ovnkit_health, runtime=self.runtime)
        return {name: found for name, found in answers if found}

    def _plugin_metrics(self) -> Sequence[tuple[str, Iterable[Metric]]]:
        """What plugins tell in numbers, as they give it."""
        if not self._progress.started:
            return ()
        return self._plugins.calls.observe(Hooks.ovnkit_metrics, runtime=self.runtime)


def _latencies(plugins: Plugins) -> list[tuple[str, Sequence[Latency[View]]]]:
    return [(plugin.name, plugin.declaration.latencies) for plugin in plugins.enabled]
