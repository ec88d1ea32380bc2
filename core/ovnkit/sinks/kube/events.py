"""Events of Kubernetes objects, aggregated and kept from flooding as client-go does."""

from __future__ import annotations

import hashlib
import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from attrs import define, frozen

from ovnkit.api.backoff import Backoff
from ovnkit.api.kinds import Kind
from ovnkit.api.models import ObjectView
from ovnkit.sinks.kube.client import MERGE_PATCH, Client
from ovnkit.sinks.kube.errors import Conflict, NotFound, ServerUnavailable, TooManyRequests
from ovnkit.sinks.kube.patcher import timestamp

log = structlog.get_logger()

COMPONENT = "ovnkit"
_MESSAGE_LIMIT = 1024
"""Bytes of an Event's message; more is refused (k8s.io/kubernetes, validation of events)."""

_WINDOW = 600.0
"""Seconds within which the same event counts as one that happened again (client-go's aggregation interval)."""

_BURST, _REFILL = 25, 300.0
"""Events per object at once, and seconds until one more is allowed (client-go's spam filter)."""

_REMEMBERED = 4096
"""Objects and events remembered for the two above (client-go's cache size)."""

_ATTEMPTS = 3


@define
class EventCounters:
    """What became of events: written, thrown away for being too many, thrown away for errors."""

    written: int = 0
    suppressed: int = 0
    dropped: int = 0


@frozen
class _Occurrence:
    kind: str
    api_version: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    reason: str
    message: str
    type: str
    again: bool

    @property
    def event_name(self) -> str:
        """The same event has the same name, so that a restarted process finds what it posted before."""
        text = "\0".join((self.api_version, self.kind, self.uid, self.type, self.reason, self.message))
        return f"{self.name[:230]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def path(self) -> str:
        """Collection the event goes to; events of cluster-wide objects live in namespace default."""
        return f"/api/v1/namespaces/{self.namespace or 'default'}/events"


@define
class _Posted:
    count: int
    at: float


@define
class _Bucket:
    """Tokens an object has left, as of a time."""

    tokens: float
    at: float

    def take(self, now: float) -> bool:
        self.tokens = min(float(_BURST), self.tokens + (now - self.at) / _REFILL)
        self.at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class EventRecorder:
    """Posts Events in a thread of its own; `record` never blocks and never fails.

    An event that happens again within ten minutes raises the count of the first one; after that the same Event
    starts over. One that an earlier process posted, and the API server still has, is not posted again when it
    is recorded for the first time, unless it has happened `again`: a restart with nothing changed writes nothing.
    """

    def __init__(
        self, client: Client, *, clock: Callable[[], float] = time.monotonic, capacity: int = 1000
    ) -> None:
        self.counters = EventCounters()
        self._client = client
        self._clock = clock
        self._instance = socket.gethostname()
        self._queue: queue.Queue[_Occurrence | None] = queue.Queue(capacity)
        self._recent: OrderedDict[str, _Posted] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="kube-events", daemon=True)

    def record(
        self,
        kind: Kind[ObjectView],
        view: ObjectView,
        reason: str,
        message: str,
        *,
        warning: bool = True,
        again: bool = False,
    ) -> None:
        """Something worth telling happened to an object. Safe from any thread. See `Event` for `again`."""
        resource = kind.resource
        occurrence = _Occurrence(
            resource.kind,
            resource.api_version,
            view.namespace,
            view.name,
            view.uid,
            view.resource_version,
            reason,
            message.encode()[:_MESSAGE_LIMIT].decode(errors="ignore"),
            "Warning" if warning else "Normal",
            again,
        )
        try:
            self._queue.put_nowait(occurrence)
        except queue.Full:
            self.counters.dropped += 1
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Post what is queued, for up to `timeout` seconds, and end the thread."""
        if self._thread.ident is None:
            return
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            log.warning("events left unposted", number=self._queue.qsize())
        self._thread.join(timeout)
        self._stop.set()

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set() and (occurrence := self._queue.get()) is not None:
            backoff = Backoff(0.2, 5.0)
            for _ in range(_ATTEMPTS):
                try:
                    self._handle(occurrence)
                    break
                except (TooManyRequests, ServerUnavailable) as error:
                    last: Exception = error
                    self._stop.wait(backoff.next(error.retry_after))
                except Exception as error:  # an Event is never worth more than a line in the log
                    last = error
                    self._lost(occurrence, last)
                    break
            else:
                self._lost(occurrence, last)

    def _lost(self, occurrence: _Occurrence, error: Exception) -> None:
        self.counters.dropped += 1
        log.warning(
            "event dropped",
            kind=occurrence.kind,
            object=f"{occurrence.namespace}/{occurrence.name}".lstrip("/"),
            reason=occurrence.reason,
            error=str(error),
        )

    def _handle(self, occurrence: _Occurrence) -> None:
        now = self._clock()
        name = f"{occurrence.path}/{occurrence.event_name}"
        posted = self._recent.get(name)
        if posted is None and (found := self._find(name)) is not None:
            posted = self._remember(name, int(found.get("count") or 1), now)
            if not occurrence.again:
                return
        if not self._allowed(occurrence, now):
            self.counters.suppressed += 1
            return
        count = posted.count + 1 if posted and now - posted.at < _WINDOW else 1
        if posted is None or not self._again(name, count):
            count = 1
            self._create(occurrence)
        self.counters.written += 1
        self._remember(name, count, now)

    def _find(self, path: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._client.get(path)
        except NotFound:
            return None
        return found

    def _again(self, path: str, count: int) -> bool:
        """Count the event once more (1: start over); False when the server has forgotten it."""
        now = timestamp()
        patch: dict[str, Any] = {"count": count, "lastTimestamp": now}
        if count == 1:
            patch["firstTimestamp"] = now
        try:
            self._client.request("PATCH", path, patch, content_type=MERGE_PATCH)
        except NotFound:
            return False
        return True

    def _create(self, occurrence: _Occurrence) -> None:
        now = timestamp()
        involved = {
            "apiVersion": occurrence.api_version,
            "kind": occurrence.kind,
            "name": occurrence.name,
            "namespace": occurrence.namespace,
            "uid": occurrence.uid,
            "resourceVersion": occurrence.resource_version,
        }
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": occurrence.event_name, "namespace": occurrence.namespace or "default"},
            "involvedObject": {name: value for name, value in involved.items() if value},
            "reason": occurrence.reason,
            "message": occurrence.message,
            "type": occurrence.type,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }
        try:
            self._client.request("POST", occurrence.path, event)
        except Conflict:
            log.debug("event exists already", name=occurrence.event_name)

    def _allowed(self, occurrence: _Occurrence, now: float) -> bool:
        key = f"{occurrence.kind}/{occurrence.namespace}/{occurrence.name}/{occurrence.uid}"
        bucket = self._buckets.setdefault(key, _Bucket(float(_BURST), now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket.take(now)

    def _remember(self, name: str, count: int, now: float) -> _Posted:
        posted = self._recent[name] = _Posted(count, now)
        self._recent.move_to_end(name)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        return posted
