"""The edges of `ovnkit run`: the API server, the databases, and the node that it runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ovnkit.api.config import Config
from ovnkit.api.hooks import Hooks, Scope
from ovnkit.api.kinds import Kind, View
from ovnkit.api.models import is_object_kind
from ovnkit.api.renderers import Role
from ovnkit.engine.answers import AnswerSink, answer_kinds
from ovnkit.engine.sink import AnySink
from ovnkit.plugins.registry import PluginState
from ovnkit.process.databases import Database, connect
from ovnkit.process.watches import Tap, kinds_of, stand_in
from ovnkit.process.wiring import Wiring
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.leftovers import KubeLeftovers
from ovnkit.sinks.kube.managers import FieldManagers
from ovnkit.sinks.kube.writer import KubeSink
from ovnkit.sinks.ovsdb.wire.locations import endpoint, tls_for


class ProcessEdges:
    """Makes the sinks that have a real thing behind them. Implements `ovnkit.process.wiring.Edges`."""

    def __init__(self, config: Config, scope: Scope, *, allow_mass_delete: bool = False) -> None:
        self.client = Client.connect(config.kubernetes)
        self.taps: list[Tap] = []
        """Those who look at objects as the API server sent them."""
        self._scope = scope
        self._allow_mass_delete = allow_mass_delete

    def kube(self, wiring: Wiring) -> AnySink:
        """The writer of Kubernetes objects; Events of the reconciler go the same way."""
        inbox, reconciler = wiring.inbox, wiring.reconciler
        self._managers = FieldManagers(self._scope, reconciler.role_of)
        self._kube = kube = KubeSink(
            self.client,
            observed=reconciler.get,
            post=inbox.post,
            post_later=inbox.post_later,
            report=reconciler.report,
            manager=self._managers.name,
        )
        self.taps.append(kube.tap)

        def on_event(kind: Kind[View], key: str, reason: str, message: str, warning: bool) -> None:
            if is_object_kind(kind):
                view = reconciler.get(kind, key) or stand_in(key)
                kube.events.record(kind, view, reason, message, warning=warning)

        reconciler.on_event = on_event
        return kube

    def stop_writing(self, timeout: float) -> None:
        """End the writer of Kubernetes objects, after what is in flight or `timeout` seconds."""
        self._kube.stop(timeout)

    def answers(self, wiring: Wiring) -> AnySink:
        """Plugins' own services."""
        reconciler = wiring.reconciler
        self._answers = AnswerSink(wiring.inbox.post, reconciler.observe, reconciler.report)
        return self._answers

    def database(self, wiring: Wiring, db: str, needs: Mapping[str, set[str]]) -> Database:
        """As configured, else on this node."""
        where, tls = endpoint(wiring.config, db), tls_for(wiring.config, db)
        mass = self._allow_mass_delete
        return connect(wiring.reconciler, db, where, needs, tls=tls, allow_mass_delete=mass)

    def node(self, wiring: Wiring) -> Sequence[AnySink]:
        """The node's kernel, flows and uplinks. The netlink library alone takes 0.13 s of a start."""
        from ovnkit.process.node_sinks import NODE_SINKS

        return [make(wiring.config, wiring.reconciler) for make in NODE_SINKS.values()]

    def leftovers(self, wiring: Wiring, role: Role) -> Sequence[AnySink]:
        """What an earlier process wrote into Kubernetes objects."""
        plugins, inbox, kinds = wiring.plugins, wiring.inbox, wiring.kinds
        observed = [kind for kind in kinds.values() if is_object_kind(kind)]
        disabled = [plugin for name, plugin in plugins.all.items() if name not in plugins.silent]
        others = kinds_of(plugin.declaration for plugin in disabled).values()
        residue = KubeLeftovers(
            role,
            self.client,
            self._managers,
            self._kube,
            post=inbox.post,
            post_later=inbox.post_later,
            listed=lambda: not wiring.reconciler.unlisted(observed),
            applied=[
                (plugin.name, status)
                for plugin in disabled
                if plugin.state is not PluginState.ENABLED
                for status in plugin.declaration.applies
            ],
            unwatched=[kind for kind in others if kind.name not in kinds and is_object_kind(kind)],
            allow_mass_delete=self._allow_mass_delete,
        )
        self.taps.append(residue.tap)
        return [residue]

    def rendering(self, wiring: Wiring) -> None:
        """Plugins' services that find out what renderers ask for."""
        calls, tell = wiring.plugins.calls, self._answers.tell
        for plugin, found in calls.each(
            Hooks.ovnkit_answerers, config=wiring.config, scope=wiring.scope, tell=tell
        ):
            for answerer in found:
                self._answers.add(plugin, answerer)
        for kind in answer_kinds(wiring.kinds.values()):
            wiring.reconciler.listed(kind)
