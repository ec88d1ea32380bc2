"""`ovnkit run`: one process with its roles, from start to graceful stop."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from ovnkit.api.config import Config
from ovnkit.api.hooks import Scope
from ovnkit.api.kinds import Answers, Kind, Resource
from ovnkit.api.renderers import Renderer, Role
from ovnkit.config.load import Loaded
from ovnkit.engine.answers import AnswerSink, answer_kinds
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.reconciler import Reconciler
from ovnkit.engine.sink import Sink
from ovnkit.plugins.registry import Plugins, State
from ovnkit.process import shutdown
from ovnkit.process.complaints import Complaints
from ovnkit.process.databases import ROLES, Databases, schema_columns
from ovnkit.process.garbage import LoadPhase, collect_at_rest
from ovnkit.process.leadership import Leadership
from ovnkit.process.memory import give_back_large_blocks
from ovnkit.process.runtime import PluginRuntime
from ovnkit.process.watches import Watches, kinds_of, stand_in
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.managers import FieldManagers
from ovnkit.sinks.kube.residue import Residue
from ovnkit.sinks.kube.writer import KubeSink
from ovnkit.sinks.ovsdb.schema import Schema
from ovnkit.status.metrics import Metrics
from ovnkit.status.read import socket_path
from ovnkit.status.server import HealthServer, json_answer
from ovnkit.status.snapshot import Snapshots
from ovnkit.status.state import Progress, StateReader, health_answer, public, ready_answer

if TYPE_CHECKING:
    from ovnkit.process.node_sinks import NodeSink, NodeSinks

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
        self._told: queue.SimpleQueue[signal.Signals | None] = queue.SimpleQueue()
        self._halt = threading.Event()
        self._progress = Progress()
        self._inbox = Inbox()
        self._reconciler = Reconciler(self._inbox)
        self._inbox.at_rest = collect_at_rest
        self._load_phase = LoadPhase(lambda: self._reconciler.synced, self._inbox.post_later)
        self._client = Client.connect(config.kubernetes)
        self._kinds = kinds_of(plugin.declaration for plugin in plugins.enabled)
        self._managers = FieldManagers(scope, self._reconciler.role_of)
        self._kube = KubeSink(
            self._client,
            observed=self._reconciler.get,
            post=self._inbox.post,
            post_later=self._inbox.post_later,
            report=self._reconciler.report,
            manager=self._managers.name,
        )
        self._residues = {role: self._residue(role, allow_mass_delete) for role in scope.roles}
        self._reconciler.on_event = self._event
        self._answers = AnswerSink(self._inbox.post, self._reconciler.observe, self._reconciler.report)
        self._node = _node_sinks(config, scope, self._reconciler)
        self._of_node: Sequence[NodeSink] = self._node.all if self._node is not None else ()
        self._databases = Databases(
            config,
            scope,
            self._reconciler,
            [plugin.declaration for plugin in plugins.all.values()],
            self._kinds.values(),
            known=self._schemas_known,
            allow_mass_delete=allow_mass_delete,
        )
        self._complaints = Complaints(
            Path(config.ovspaths.ovn_log_dir),
            post=self._inbox.post,
            owners=self._databases.owners_of_match,
            report=self._reconciler.report,
        )
        self._leadership = Leadership(config, scope, gained=self._gained, lost=self._lost, identity=identity)
        self.runtime = PluginRuntime(
            config, scope, plugins.calls, self._reconciler, self._client, self._databases.session
        )
        self._won: set[Role] = set()
        self._rendered_at = 0.0
        self._state = StateReader(
            scope,
            plugins,
            self._reconciler,
            self._progress,
            kinds=[kind for kind in self._kinds.values() if self._observes(kind)],
            sinks=self._sinks,
            watches=lambda: self._watches.status(),
            leases=self._leadership.status,
            waiting=lambda: self._databases.waiting,
            complaints=self._complaints.counts,
        )
        self._snapshots = Snapshots(self._inbox, self._state.read)
        self._metrics = Metrics(lambda: self._snapshots.take().content, self._plugin_metrics, config)
        self._watches = Watches(self._reconciler, scope, [self._metrics.pods.observe])
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
        told = self._told.get()
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
            self._told.put(None)

    def _signalled(self, number: int, _frame: Any) -> None:
        # It runs in the middle of whatever the main thread does, which may hold the lock of a log or an event.
        self._told.put(signal.Signals(number))

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
            api_server=self._client.host,
            databases=list(self._databases.databases),
        )
        taps = [self._kube.tap, *(residue.tap for residue in self._residues.values())]
        self._watches.start(self._client, self._kinds.values(), taps)
        if self._node is not None:
            self._node.start()
            self._complaints.start()
        self._databases.start()
        if not self._databases.databases:
            self._inbox.post(lambda: self._schemas_known({}))
        self._inbox.post_later(_POLL, self._look)
        self._inbox.post_later(WAITING_LINE, self._tell_waiting)

    def _shut_down(self) -> None:
        self._progress.stopping = True
        lost = self._exit_code == EXIT_LEASE_LOST
        steps: list[tuple[str, Any]] = [("plugins", lambda: shutdown.stop_plugins(self._plugins, self.runtime))]
        if not lost and self._progress.rendering:
            steps.append(("sinks", lambda: shutdown.flush(self._reconciler)))
        steps += [
            ("leases", self._leadership.stop),
            ("reconciler", self._halt_reconciler),
            ("kubernetes writer", lambda: self._kube.stop(0.0 if lost else 2.0)),
            ("answers", self._answers.stop),
            ("complaints", self._complaints.stop),
            ("watches", self._watches.stop),
            ("databases", self._databases.stop),
            *((sink.name, sink.stop) for sink in self._of_node),
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
        plugins, reconciler = self._plugins, self._reconciler
        plugins.check_schema(schema_columns(schemas))
        answers = plugins.require("ovnkit_renderers", config=self._config, scope=self._scope, hooks=plugins.calls)
        self._add_answerers()
        for plugin, renderers in answers:
            mine = [renderer for renderer in _checked(plugin, renderers) if renderer.role in self._scope.roles]
            reconciler.add_plugin(plugin, mine)
        reconciler.leftovers.keep(plugins.silent)
        reconciler.add_sink(self._kube, frozenset())
        reconciler.add_sink(self._answers, frozenset())
        for db, database in self._databases.databases.items():
            reconciler.add_sink(database.sink, frozenset({ROLES[db]}))
        if self._node is not None:
            self._node.plugins_active((*plugins.active(), *plugins.silent))
        for sink in self._of_node:
            reconciler.add_sink(sink, frozenset({Role.NODE}))
        self._progress.rendering = True
        self._activate(self._scope.roles - self._leadership.elected)
        self._leadership.start(self._client)

    def _add_answerers(self) -> None:
        calls = self._plugins.calls
        tell = self._answers.tell
        for plugin, found in calls.each("ovnkit_answerers", config=self._config, scope=self._scope, tell=tell):
            for answerer in found:
                self._answers.add(plugin, answerer)
        for kind in answer_kinds(self._kinds.values()):
            self._reconciler.listed(kind)

    def _activate(self, roles: frozenset[Role]) -> None:
        if self._progress.rendering and roles:
            self._load_phase.begin()
            self._reconciler.activate(roles)
            for role in roles:
                self._reconciler.add_sink(self._residues[role], frozenset({role}))
            log.info("acting", roles=sorted(role.value for role in roles))

    def _look(self) -> None:
        """Has everything been rendered, and applied as far as it can be? Then services start."""
        if self._progress.started or self._stop.is_set():
            return
        now = time.monotonic()
        done = self._progress.rendering and self._reconciler.rendered
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
        self._plugins.calls.each("ovnkit_started", runtime=self.runtime)

    def _tell_waiting(self) -> None:
        if self._progress.started or self._stop.is_set():
            return
        unlisted = self._reconciler.unlisted([kind for kind in self._kinds.values() if self._observes(kind)])
        sinks = [sink.name for sink in self._sinks() if not sink.ready]
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

    # -- parts ----------------------------------------------------------------------------------------------

    def _sinks(self) -> Sequence[Sink]:
        sinks: list[Sink] = [database.sink for database in self._databases.databases.values()]
        return [self._kube, self._answers, *sinks, *self._of_node, *self._residues.values()]

    def _residue(self, role: Role, allow_mass_delete: bool) -> Residue:
        observed = [kind for kind in self._kinds.values() if isinstance(kind.source, Resource)]
        disabled = [plugin for name, plugin in self._plugins.all.items() if name not in self._plugins.silent]
        others = kinds_of(plugin.declaration for plugin in disabled).values()
        return Residue(
            role,
            self._client,
            self._managers,
            self._kube,
            post=self._inbox.post,
            post_later=self._inbox.post_later,
            listed=lambda: not self._reconciler.unlisted(observed),
            applied=[
                (plugin.name, status)
                for plugin in disabled
                if plugin.state is not State.ENABLED
                for status in plugin.declaration.applies
            ],
            unwatched=[k for k in others if k.name not in self._kinds and isinstance(k.source, Resource)],
            allow_mass_delete=allow_mass_delete,
        )

    def _observes(self, kind: Kind[Any]) -> bool:
        """Whether this process is a place where the kind can be observed."""
        if isinstance(kind.source, Resource | Answers):
            return True
        db = getattr(kind.source, "db", "")
        return db in self._databases.databases if db else self._node is not None

    def _event(self, kind: Kind[Any], key: str, reason: str, message: str, warning: bool) -> None:
        if isinstance(kind.source, Resource):
            view = self._reconciler.get(kind, key) or stand_in(key)
            self._kube.events.record(kind, view, reason, message, warning=warning)

    def _plugin_health(self) -> dict[str, Mapping[str, str]]:
        """What plugins say is wrong with them, by plugin."""
        if not self._progress.started:
            return {}
        answers = self._plugins.calls.observe("ovnkit_health", runtime=self.runtime)
        return {name: found for name, found in answers if found}

    def _plugin_metrics(self) -> Sequence[tuple[str, Any]]:
        """What plugins tell in numbers, as they give it."""
        if not self._progress.started:
            return ()
        return self._plugins.calls.observe("ovnkit_metrics", runtime=self.runtime)


def _node_sinks(config: Config, scope: Scope, reconciler: Reconciler) -> NodeSinks | None:
    if Role.NODE not in scope.roles:
        return None
    from ovnkit.process.node_sinks import NodeSinks

    return NodeSinks(config, reconciler)


def _checked(plugin: str, renderers: Any) -> list[Renderer]:
    found = list(renderers)
    for renderer in found:
        if not isinstance(renderer, Renderer):
            raise TypeError(f"{plugin}: ovnkit_renderers gave {renderer!r}, which is no Renderer")
    return found
