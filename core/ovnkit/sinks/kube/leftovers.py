"""What an earlier process wrote to Kubernetes objects and nobody wants any more: found, and taken away.

Annotations carry no mark of ours, but the API server remembers who wrote each field (`managedFields`). So a
plugin that has been disabled, or an item that was given up while no process ran, leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Never

import structlog

from ovnkit.api.hooks import AppliedStatus
from ovnkit.api.kinds import Kind, Raw
from ovnkit.api.models import ObjectView
from ovnkit.api.renderers import Role
from ovnkit.engine.sink import Owner, Sink
from ovnkit.sinks.kube.client import Client
from ovnkit.sinks.kube.errors import KubeError, NotFound, ServerUnavailable
from ovnkit.sinks.kube.fields import Field
from ovnkit.sinks.kube.managers import FieldManagers, applied_fields, written_fields
from ovnkit.sinks.kube.plan import removal
from ovnkit.sinks.kube.watch import Post
from ovnkit.sinks.kube.writer import KubeSink, ObjectKey

log = structlog.get_logger()

MASS_DELETE_MINIMUM = 20
"""Fewer fields than this are never held back, as with rows."""

_AGAIN = 5.0
"""Seconds until something is tried again that met an outage, or waits for a listing."""

_PAGE = 500

Found = dict[ObjectKey, dict[Field, str]]


class KubeLeftovers(Sink[Never]):
    """The leftovers of one role. A sink without items, for the sake of `settle` (`ovnkit.engine.sink.Sink`).

    `tap` collects from the watches what was written under our names until everything has been rendered once.
    `unwatched` are kinds of disabled plugins: they are listed once, and `applied` is status that these plugins, by
    name, applied under managers they named. `listed` says whether all watched ones are.
    More than half of what is owned is only taken away with `allow_mass_delete`.
    """

    item_types: tuple[type, ...] = ()
    ready = True

    def __init__(
        self,
        role: Role,
        client: Client,
        managers: FieldManagers,
        sink: KubeSink,
        *,
        post: Post,
        post_later: Callable[[float, Callable[[], None]], Any],
        listed: Callable[[], bool],
        unwatched: Collection[Kind[ObjectView]] = (),
        applied: Iterable[tuple[str, AppliedStatus]] = (),
        allow_mass_delete: bool = False,
    ) -> None:
        self.name = f"kube leftovers of role {role.value}"
        self.removed = self.held = 0
        self._client = client
        self._plugin = partial(managers.plugin, role)
        self._place = managers.place(role)
        self._applied: dict[str, list[tuple[str, AppliedStatus]]] = {}
        for plugin, status in applied:
            self._applied.setdefault(status.kind.name, []).append((plugin, status))
        self._sink = sink
        self._post = post
        self._post_later = post_later
        self._listed = listed
        self._unwatched = tuple(unwatched)
        self._allow_mass_delete = allow_mass_delete
        self._found: Found = {}
        self._kept: frozenset[str] = frozenset()
        self._settled = False
        self._busy = 0

    def tap(self, kind: Kind[ObjectView], changes: Iterable[tuple[str, Raw | None]]) -> None:
        """Look at raw objects; called in the watch threads, before their kind counts as listed."""
        if self._settled:
            return
        for key, raw in changes:
            fields = self._written(kind, raw) if raw is not None else {}
            if fields:
                self._found[kind, key] = fields
            else:
                self._found.pop((kind, key), None)

    def _written(self, kind: Kind[ObjectView], raw: Raw) -> dict[Field, str]:
        """What of an object was written under our names, and by which plugin."""
        fields = written_fields(raw, self._plugin)
        for plugin, status in self._applied.get(kind.name, ()):
            try:
                fields |= dict.fromkeys(applied_fields(raw, self._place, status.ours), plugin)
            except Exception as error:  # of the plugin's; it concerns one object
                words = {"kind": kind.name, "object": raw["metadata"].get("name", ""), "plugin": plugin}
                log.warning("status is not recognised", **words, error=str(error))
        return fields

    # -- the interface of sinks -----------------------------------------------------------------------------

    def want(self, owner: Owner, items: Sequence[Never]) -> None:
        """Nobody wants leftovers."""

    def flush(self) -> None:
        """Nothing waits for this."""

    def settle(self) -> None:
        """Everything has been rendered once: what nobody wants goes, as soon as all objects have been seen."""
        if not self._listed():
            self._post_later(_AGAIN, self.settle)
            return
        self._settled = True
        for kind in self._unwatched:
            self._start(partial(self._list, kind))
        self._sweep()

    def keep(self, paths: Collection[str]) -> None:
        """Of the plugins of these owners nothing goes: they failed, and nobody knows what they want."""
        self._kept = frozenset(path.partition("/")[0] for path in paths)
        if self._settled:
            self._sweep()

    @property
    def idle(self) -> bool:
        """Whether nothing is being taken away."""
        return not self._busy

    def status(self) -> dict[str, Any]:
        """State for `ovnkit status`."""
        return {
            "connected": True,
            "owned": sum(map(len, self._found.values())),
            "pending": self._busy,
            "held_back": self.held,
            "removed": self.removed,
            "last_error": "",
        }

    def release_mass_delete(self) -> None:
        """Let what is held back go."""
        self._allow_mass_delete = True
        self._sweep()

    # -- what goes (reconciler's thread) --------------------------------------------------------------------

    def _sweep(self) -> None:
        going: Found = {}
        for name, fields in list(self._found.items()):
            unwanted = {path: plugin for path, plugin in fields.items() if not self._sink.wants(name, path)}
            if free := {path: plugin for path, plugin in unwanted.items() if plugin not in self._kept}:
                going[name] = free
            if not unwanted:
                del self._found[name]
        number = sum(map(len, going.values()))
        owned = number + self._sink.owned
        if number >= MASS_DELETE_MINIMUM and 2 * number > owned and not self._allow_mass_delete:
            if not self.held:
                log.error("mass deletion held back", sink=self.name, fields=number, owned=owned)
            self.held = number
            return
        self.held = 0
        for name, fields in going.items():
            self._found.pop(name)
            self._start(partial(self._remove, name, fields))

    def _start(self, task: Callable[[], None]) -> None:
        self._busy += 1
        self._sink.run(task)

    def _again(self, task: Callable[[], None]) -> None:
        """In a writer's thread: an outage stands in the way."""
        self._post(lambda: self._post_later(_AGAIN, lambda: self._start(task)))

    # -- in the writers' threads ----------------------------------------------------------------------------

    def _list(self, kind: Kind[ObjectView]) -> None:
        """Find leftovers among objects of a kind that nobody watches."""
        found: Found = {}
        try:
            for key, raw in _objects(self._client, kind):
                if fields := self._written(kind, raw):
                    found[kind, key] = fields
        except ServerUnavailable:
            self._again(partial(self._list, kind))
        except KubeError as error:  # no such kind (any more), or no right to see it
            log.debug("no look for leftovers", kind=kind.name, error=str(error))
        self._post(partial(self._looked, found))

    def _looked(self, found: Found) -> None:
        self._busy -= 1
        self._found |= found
        self._sweep()

    def _remove(self, name: ObjectKey, fields: Mapping[Field, str]) -> None:
        """Take fields away, those that are still ours: the object is read anew."""
        kind, key = name
        words = {"kind": kind.name, "object": key, "plugin": ",".join(sorted(set(fields.values())))}
        removed = 0
        try:
            raw = self._client.get(kind.resource.object_path(key))
            ours = self._written(kind, raw)
            plan = removal(kind.resource, key, raw, [path for path in fields if path in ours])
            outcome = self._sink.carry_out(plan)
            for error in outcome.errors.values():
                raise error
            removed = len(fields)
            log.info("leftover removed", **words, fields=["/".join(path) for path in fields])
        except NotFound:
            pass
        except ServerUnavailable:
            self._again(partial(self._remove, name, fields))
        except Exception as error:  # whatever it is, it concerns one object
            log.warning("leftover could not be removed", **words, error=str(error))
        self._post(partial(self._done, removed))

    def _done(self, removed: int) -> None:
        self._busy -= 1
        self.removed += removed


def _objects(client: Client, kind: Kind[ObjectView]) -> Iterable[tuple[str, Raw]]:
    query: dict[str, str | int] = {"limit": _PAGE}
    while True:
        page = client.get(kind.resource.path, query)
        for raw in page.get("items") or ():
            meta = raw["metadata"]
            yield (f"{meta['namespace']}/{meta['name']}" if kind.resource.namespaced else meta["name"]), raw
        token = page["metadata"].get("continue")
        if not token:
            return
        query["continue"] = token
