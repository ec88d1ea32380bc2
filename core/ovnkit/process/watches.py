"""What this process observes: watches of the Kubernetes API and of the host, by the kinds its plugins declare."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import structlog

from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Declaration, Scope
from ovnkit.api.host import ADDRESSES, ROUTE_PROTOCOL
from ovnkit.api.kinds import Changes, HostFacts, Kind, Table, View
from ovnkit.api.models import COMMON_KINDS, ObjectView, is_object_kind
from ovnkit.api.renderers import Role
from ovnkit.engine.reconciler import Reconciler
from ovnkit.sinks.kube.watch import RawChanges, Watcher

if TYPE_CHECKING:
    from ovnkit.sinks.host.facts import HostFactsWatcher
    from ovnkit.sinks.kube.client import Client

log = structlog.get_logger()

Observer = Callable[[Kind[View], Changes], None]
Tap = Callable[[Kind[ObjectView], RawChanges], None]


def kinds_of(declarations: Iterable[Declaration]) -> dict[str, Kind[View]]:
    """The kinds to observe by name: those every cluster has, and the declared ones. Host facts and tables are
    among them."""
    kinds: dict[str, Kind[View]] = {kind.name: kind for kind in COMMON_KINDS}
    for declaration in declarations:
        for kind in declaration.kinds:
            other = kinds.setdefault(kind.name, kind)
            if other is not kind:
                log.error("two kinds have one name; the second is not observed", kind=kind.name)
    return kinds


def tables_of(kinds: Iterable[Kind[View]], db: str) -> list[Kind[View]]:
    """The kinds among them whose source is a table of a database."""
    return [kind for kind in kinds if isinstance(kind.source, Table) and kind.source.db == db]


class Watches:
    """All watches of the process except those of databases. `observers` see changes after the reconciler."""

    def __init__(self, reconciler: Reconciler, scope: Scope, observers: Sequence[Observer] = ()) -> None:
        self._reconciler = reconciler
        self._scope = scope
        self._observers = observers
        self._watchers: dict[str, Watcher] = {}
        self._host: HostFactsWatcher | None = None
        self._client: Client | None = None

    def start(self, client: Client, kinds: Iterable[Kind[View]], taps: Sequence[Tap]) -> None:
        """Start watching. A process that has only the node role sees only its own node's pods."""
        only_node = self._scope.node if self._scope.roles == {Role.NODE} else ""
        self._client = client
        host_kinds = []
        for kind in kinds:
            if isinstance(kind.source, HostFacts):
                host_kinds.append(kind)
            elif is_object_kind(kind):
                field = kind.resource.node_field if only_node else None
                self._watchers[kind.name] = Watcher(
                    client,
                    kind,
                    post=self._reconciler.inbox.post,
                    on_event=self._observed,
                    on_listed=self._reconciler.listed,
                    on_error=self._view_failed,
                    tap=partial(_tap, taps),
                    field_selector=f"{field}={only_node}" if field else "",
                )
        for watcher in self._watchers.values():
            watcher.start()
        if host_kinds and Role.NODE in self._scope.roles:
            from ovnkit.sinks.host.facts import HostFactsWatcher  # the netlink library takes 0.13 s of a start

            post = self._reconciler.inbox.post
            self._host = HostFactsWatcher(
                host_kinds,
                lambda kind, changes: post(partial(self._observed, kind, changes)),
                lambda kind: post(partial(self._reconciler.listed, kind)),
            )
            self._host.start()

    def _observed(self, kind: Kind[View], changes: Changes) -> None:
        if kind is ADDRESSES and any(view is None and self._is_the_hosts(key) for key, view in changes):
            assert self._client is not None
            log.info("an address of the host is gone, connecting anew", addresses=[key for key, _ in changes])
            threading.Thread(target=self._client.renew, name="renew", daemon=True).start()
        self._reconciler.observe(kind, changes)
        for observer in self._observers:
            observer(kind, changes)

    def _is_the_hosts(self, key: str) -> bool:
        """Whether an address that was known may be one from which the API server is talked to."""
        view = self._reconciler.get(ADDRESSES, key)
        return (
            view is not None
            and view.protocol != ROUTE_PROTOCOL
            and not (view.deprecated or view.address.ip.is_link_local or view.address.ip.is_loopback)
        )

    def _view_failed(self, kind: Kind[View], key: str, error: Exception) -> None:
        reason = error.reason if isinstance(error, Reject) else "InvalidObject"
        log.warning(
            "object can't be read; its last good state stays", kind=kind.name, object=key, error=str(error)
        )
        self._reconciler.on_event(kind, key, reason, str(error), True)

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """State and counters of each watch by kind."""
        return {
            name: {**watcher.status(), **attrs.asdict(watcher.counters)}
            for name, watcher in self._watchers.items()
        }

    def stop(self) -> None:
        """End all watches."""
        for watcher in self._watchers.values():
            watcher.stop(timeout=1.0)
        if self._host is not None:
            self._host.stop()


def _tap(taps: Sequence[Tap], kind: Kind[ObjectView], changes: RawChanges) -> None:
    for tap in taps:
        tap(kind, changes)


def stand_in(key: str) -> ObjectView:
    """A view of an object whose own could never be made, good enough to address an Event."""
    namespace, _, name = key.rpartition("/")
    return ObjectView(namespace, name, "", {}, {}, False, (), "")
