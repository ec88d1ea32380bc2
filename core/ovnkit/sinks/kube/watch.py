"""List and watch of one kind: a thread that turns the API server's JSON into views and posts them in batches."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from attrs import define

from ovnkit.api.backoff import Backoff
from ovnkit.api.errors import Reject
from ovnkit.api.kinds import Changes, Kind, Raw, View
from ovnkit.api.models import ObjectView
from ovnkit.api.text import parse_json
from ovnkit.engine.garbage import collector_paused
from ovnkit.sinks.kube.errors import Gone, KubeError, NotFound, ServerUnavailable, error_from_status

if TYPE_CHECKING:
    from ovnkit.sinks.kube.client import Client, Stream

log = structlog.get_logger()

Post = Callable[[Callable[[], None]], None]
"""Hands a function to the reconciler's thread."""

"""(key, view), or (key, None) for an object that is gone; in the server's order."""

RawChanges = Sequence[tuple[str, Raw | None]]

_WATCH_SECONDS = (300, 600)
"""A watch is ended by the server after a random time between these, as client-go asks for."""

_PAGE = 1000
"""Objects per page of a list: bounds the memory of a decoded page, and costs 10,000 pods ten requests."""

_SERVED_WELL = 5.0
"""Seconds after which a watch that ends counts as working, so that the next one starts at once."""


_LONGEST_OUTAGE_WAIT = 5.0
"""Seconds between two attempts to reach a server that doesn't answer at all, at most; refusals may wait longer."""


@define
class WatchCounters:
    """What a watch has done so far, for metrics. `decode_seconds` is CPU time of decoding and views in lists."""

    lists: int = 0
    watches: int = 0
    events: int = 0
    bookmarks: int = 0
    expired: int = 0
    errors: int = 0
    view_errors: int = 0
    decode_seconds: float = 0.0


class Watcher:
    """Keeps the reconciler up to date about one kind.

    `on_event(kind, changes)` brings changes, `on_listed(kind)` comes after the changes of each complete list
    (the first one and every relist; a relist brings only what differs, and what is gone as None).
    `on_error(kind, key, error)` tells of an object whose view could not be made; its last good view stays.
    All of them are called through `post`. `tap(kind, raw_changes)`, if given, gets the raw objects in this
    thread, after their views have been posted.

    With `missing_is_empty`, a resource the server doesn't have (its CRD is not installed) counts as listed
    and empty until it appears. `field_selector` and `label_selector` narrow the watch.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind[ObjectView],
        *,
        post: Post,
        on_event: Callable[[Kind[ObjectView], Changes], None],
        on_listed: Callable[[Kind[ObjectView]], None],
        on_error: Callable[[Kind[ObjectView], str, Exception], None] | None = None,
        tap: Callable[[Kind[ObjectView], RawChanges], None] | None = None,
        field_selector: str = "",
        label_selector: str = "",
        missing_is_empty: bool = True,
        retry_seconds: tuple[float, float] = (0.1, 15.0),
        page: int = _PAGE,
    ) -> None:
        self.kind = kind
        self.counters = WatchCounters()
        self.state = "starting"
        self.last_error = ""
        self.listed = False
        self._client = client
        self._path = kind.resource.path
        self._namespaced = kind.resource.namespaced
        self._post = post
        self._on_event = on_event
        self._on_listed = on_listed
        self._on_error = on_error
        self._tap = tap
        self._selectors = {
            name: value
            for name, value in (("fieldSelector", field_selector), ("labelSelector", label_selector))
            if value
        }
        self._missing_is_empty = missing_is_empty
        self._page = page
        self._known: dict[str, str] = {}
        self._version = ""
        self._backoff = Backoff(*retry_seconds)
        self._outage = Backoff(retry_seconds[0], min(retry_seconds[1], _LONGEST_OUTAGE_WAIT))
        self._stop = threading.Event()
        self._stream: Stream | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind.name}", daemon=True)

    @classmethod
    def on_node(cls, client: Client, kind: Kind[ObjectView], node: str, **arguments: Any) -> Watcher:
        """A watch that is narrowed to the objects of one node where the kind allows it."""
        path = kind.resource.node_field
        return cls(client, kind, field_selector=f"{path}={node}" if path else "", **arguments)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and wait for it, up to `timeout` seconds."""
        self._stop.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def status(self) -> dict[str, Any]:
        """State for `ovnkit status`: state, whether listed, number of objects, last error."""
        return {
            "state": self.state,
            "listed": self.listed,
            "objects": len(self._known),
            "last_error": self.last_error,
        }

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
            except Gone as error:
                self.counters.expired += 1
                self._version = ""
                self._pause(error, "expired")
            except NotFound as error:
                self._missing(error)
            except KubeError as error:
                self.counters.errors += 1
                self._pause(error, "retrying")
            except Exception as error:  # whatever a broken answer does to us, the watch must go on
                log.exception("watch failed", kind=self.kind.name)
                self.counters.errors += 1
                self._version = ""
                self._pause(error, "retrying")
        self.state = "stopped"

    def _pause(self, error: Exception, state: str) -> None:
        if self._stop.is_set():
            return
        seconds = self._wait(error)
        if str(error) != self.last_error:
            # Clusters without an optional resource are as they should be.
            expected = state == "missing" and self.kind.resource.optional and not self._known
            write = log.debug if expected else log.warning
            write("watch interrupted", kind=self.kind.name, error=str(error), retry_in=round(seconds, 2))
        self.state, self.last_error = state, str(error)
        self._stop.wait(seconds)

    def _wait(self, error: Exception) -> float:
        """Seconds until the next attempt.

        What a server refuses in its first moments (403 while it still reads its roles) it grants soon: its first
        answer after an outage is waited for as if nothing had failed before.
        """
        if isinstance(error, ServerUnavailable) and not error.code:
            self._backoff.reset()
            return self._outage.next()
        self._outage.reset()
        return self._backoff.next(getattr(error, "retry_after", None))

    def _missing(self, error: NotFound) -> None:
        """The resource isn't there: what we knew of it is gone; look again later."""
        self._version = ""
        self.state = "missing"
        if self._missing_is_empty:
            self._deliver([(key, None) for key in self._known])
            self._known.clear()
            self._post_listed()
        self._pause(error, "missing")

    def _post_listed(self) -> None:
        self.listed = True
        self._post(partial(self._on_listed, self.kind))

    # -- list ---------------------------------------------------------------------------------------------

    def _list(self) -> None:
        """Read all objects, and deliver what differs from what is known.

        resourceVersion is unset, so the list is never older than what we wrote before a restart: the API
        server's cache (resourceVersion=0) may be, and an allocator would hand out an address twice.
        """
        self.counters.lists += 1
        query: dict[str, str | int] = {**self._selectors, "limit": self._page}
        listed: dict[str, str] = {}
        while True:
            try:
                page = self._client.request("GET", self._path, query=query).body
            except Gone:
                if "continue" not in query:
                    raise
                # the pages took longer than the server keeps history: all in one go then
                query = dict(self._selectors)
                listed.clear()
                continue
            began = time.thread_time()
            with collector_paused():
                content = parse_json(page)
                del page
                self._deliver(self._page_changes(content.pop("items", None) or (), listed))
            self.counters.decode_seconds += time.thread_time() - began
            token = content["metadata"].get("continue")
            if not token or self._stop.is_set():
                break
            query["continue"] = token
        if self._stop.is_set():
            return
        self._deliver([(key, None) for key in self._known if key not in listed])
        self._known = listed
        self._version = content["metadata"].get("resourceVersion", "")
        self._post_listed()
        self.last_error = ""

    def _page_changes(self, items: Iterable[Raw], listed: dict[str, str]) -> list[tuple[str, Raw | None]]:
        changes: list[tuple[str, Raw | None]] = []
        for raw in items:
            key, version = self._identify(raw)
            listed[key] = version
            if self._known.get(key) != version:
                self._known[key] = version  # at once: a list that breaks off has been delivered in part
                changes.append((key, raw))
        return changes

    def _identify(self, raw: Raw) -> tuple[str, str]:
        meta = raw["metadata"]
        key = f"{meta['namespace']}/{meta['name']}" if self._namespaced else meta["name"]
        return key, meta.get("resourceVersion", "")

    # -- watch --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        self.counters.watches += 1
        seconds = random.randint(*_WATCH_SECONDS)
        query: dict[str, str | int] = {
            **self._selectors,
            "watch": 1,
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": seconds,
        }
        stream = self._client.stream(self._path, query, timeout=seconds + 30.0)
        with self._lock:
            self._stream = stream
        if self._stop.is_set():
            stream.close()
        self.state = "watching"
        self.last_error = ""
        started = time.monotonic()
        received = self.counters.events + self.counters.bookmarks
        try:
            for lines in stream:
                self._receive(lines)
        finally:
            with self._lock:
                self._stream = None
            if (
                time.monotonic() - started > _SERVED_WELL
                or received != self.counters.events + self.counters.bookmarks
            ):
                self._backoff.reset()
                self._outage.reset()
        if time.monotonic() - started < _SERVED_WELL:
            self._stop.wait(self._backoff.next())

    def _receive(self, lines: Iterable[bytes]) -> None:
        """Take in the complete lines of one piece; raises the error of an ERROR event after what came before."""
        changes: list[tuple[str, Raw | None]] = []
        failed: KubeError | None = None
        for line in lines:
            if not line:
                continue
            event = parse_json(line)
            what, raw = event["type"], event["object"]
            if what == "ERROR":
                failed = error_from_status(raw)
                break
            if what == "BOOKMARK":
                self.counters.bookmarks += 1
                self._version = raw["metadata"]["resourceVersion"]
                continue
            self.counters.events += 1
            key, self._version = self._identify(raw)
            if what == "DELETED":
                self._known.pop(key, None)
                changes.append((key, None))
            else:
                self._known[key] = self._version
                changes.append((key, raw))
        self._deliver(changes)
        if failed is not None:
            raise failed

    # -- out ----------------------------------------------------------------------------------------------

    def _deliver(self, changes: Sequence[tuple[str, Raw | None]]) -> None:
        """Make the views and post them; an object without a good view keeps the last one."""
        if not changes:
            return
        view = self.kind.view
        views: list[tuple[str, View | None]] = []
        for key, raw in changes:
            if raw is None:
                views.append((key, None))
                continue
            try:
                views.append((key, view(raw)))
            except Exception as error:  # a view is a plugin's code
                self._view_failed(key, error)
        if views:
            self._post(partial(self._on_event, self.kind, views))
        if self._tap is not None:
            self._tap(self.kind, changes)

    def _view_failed(self, key: str, error: Exception) -> None:
        self.counters.view_errors += 1
        if not isinstance(error, Reject):
            log.error("view failed", kind=self.kind.name, object=key, exc_info=error)
        if self._on_error is not None:
            self._post(partial(self._on_error, self.kind, key, error))
