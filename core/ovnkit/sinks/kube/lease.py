"""Leader election with a Lease (coordination.k8s.io/v1), with client-go's rules."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from attrs import define, frozen

from ovnkit.api.config import ClusterHaOptions
from ovnkit.api.errors import ConfigError
from ovnkit.api.text import parse_json
from ovnkit.sinks.kube.errors import Conflict, KubeError, NotFound

if TYPE_CHECKING:
    from ovnkit.sinks.kube.client import Client, Stream

log = structlog.get_logger()

LEASE_NAME = "ovn-kubernetes-master"
"""Name of the Lease that OVN-Kubernetes' cluster managers share."""


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@frozen
class _Record:
    """The Lease as last read. Times in it are another machine's clock and only carried along."""

    spec: Mapping[str, Any]
    resource_version: str

    @property
    def holder(self) -> str:
        return self.spec.get("holderIdentity") or ""


@define
class LeaseCounters:
    """Elections won and lost, and requests that failed."""

    acquired: int = 0
    lost: int = 0
    errors: int = 0


class LeaderElector:
    """Keeps asking for the Lease in a thread of its own; calls `acquired` and `lost` there.

    Another holder's lease counts as expired when it hasn't changed for its duration as measured here, from
    when we saw it change; clocks are never compared. A leader that couldn't renew for the renew deadline calls
    `lost` and competes again. `identity` must be unique among the candidates.
    """

    def __init__(
        self,
        client: Client,
        *,
        identity: str,
        namespace: str,
        acquired: Callable[[], None],
        lost: Callable[[], None],
        name: str = LEASE_NAME,
        lease_duration: float = 137.0,
        renew_deadline: float = 107.0,
        retry_period: float = 26.0,
    ) -> None:
        """Durations are in seconds, and must be lease > renew > retry (ConfigError)."""
        if not lease_duration > renew_deadline > retry_period > 0:
            raise ConfigError(
                "[clustermgrha]: election-lease-duration must be longer than election-renew-deadline, "
                "and that longer than election-retry-period"
            )
        self.counters = LeaseCounters()
        self.holder = ""
        self._client = client
        self._identity = identity
        self._namespace = namespace
        self._name = name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._acquired = acquired
        self._lost = lost
        self._lease_duration = lease_duration
        self._renew_deadline = renew_deadline
        self._retry_period = retry_period
        self._record: _Record | None = None
        self._changed_at = 0.0
        self._leading = False
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @classmethod
    def configured(cls, client: Client, options: ClusterHaOptions, **arguments: Any) -> LeaderElector:
        """An elector with the durations of the configuration."""
        return cls(
            client,
            lease_duration=options.election_lease_duration,
            renew_deadline=options.election_renew_deadline,
            retry_period=options.election_retry_period,
            **arguments,
        )

    @property
    def leading(self) -> bool:
        """Whether this process holds the lease."""
        return self._leading

    def start(self) -> None:
        """Start competing."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop competing; a leader calls `lost`, then gives the lease back."""
        self._stop.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def status(self) -> dict[str, Any]:
        """State for `ovnkit status`: whether leading, and who is."""
        return {"leading": self._leading, "holder": self.holder, "identity": self._identity}

    # -- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._try(self._retry_period):
                self._lead()
            elif not self._stop.is_set():
                # up to a fifth more, so that candidates don't come in step (client-go's jitter factor 1.2)
                self._wait_for_change(self._retry_period * random.uniform(1.0, 1.2))

    def _lead(self) -> None:
        """From winning to losing or stopping."""
        renewed = time.monotonic()
        self._leading = True
        self.counters.acquired += 1
        log.info("leadership acquired", lease=self._name, identity=self._identity)
        self._call(self._acquired)
        while not self._stop.is_set():
            left = renewed + self._renew_deadline - time.monotonic()
            if left <= 0:
                break
            self._stop.wait(min(self._retry_period, left))
            if self._stop.is_set():
                break
            began = time.monotonic()
            left = renewed + self._renew_deadline - began
            if self._try(max(0.1, min(self._retry_period, left) / 2)):  # two requests
                renewed = began
            elif self.holder not in ("", self._identity):
                break  # someone else has it: no point in waiting for the deadline
        self._leading = False
        self.counters.lost += 1
        log.info("leadership ended", lease=self._name, identity=self._identity, holder=self.holder)
        self._call(self._lost)
        if self._stop.is_set():
            self._release()

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            log.exception("leader callback failed", lease=self._name)

    def _try(self, timeout: float) -> bool:
        """Take or renew the lease if it is ours, free or expired; never raises."""
        try:
            return self._take(timeout)
        except Conflict:
            log.debug("another candidate was quicker", lease=self._name)
        except KubeError as error:
            self.counters.errors += 1
            log.warning("lease not reachable", lease=self._name, error=str(error))
        except Exception:  # a broken answer must not end the election
            self.counters.errors += 1
            log.exception("lease failed", lease=self._name)
        return False

    def _take(self, timeout: float) -> bool:
        now = _micro_time()
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._lease_duration),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        try:
            self._observe(self._client.get(self._path, timeout=timeout))
        except NotFound:
            self._write("POST", self._collection, spec, None, timeout)
            return True
        record = self._record
        assert record is not None
        if record.holder == self._identity:
            spec["acquireTime"] = record.spec.get("acquireTime") or now
            spec["leaseTransitions"] = record.spec.get("leaseTransitions") or 0
        else:
            duration = float(record.spec.get("leaseDurationSeconds") or self._lease_duration)
            if record.holder and time.monotonic() < self._changed_at + duration:
                return False
            spec["leaseTransitions"] = (record.spec.get("leaseTransitions") or 0) + 1
        self._write("PUT", self._path, spec, record.resource_version, timeout)
        return True

    def _observe(self, raw: Mapping[str, Any]) -> None:
        record = _Record(raw.get("spec") or {}, raw["metadata"].get("resourceVersion", ""))
        if self._record is None or self._record.spec != record.spec:
            self._changed_at = time.monotonic()
        self._record = record
        self.holder = record.holder

    def _write(
        self, method: str, path: str, spec: Mapping[str, Any], resource_version: str | None, timeout: float
    ) -> None:
        metadata = {"name": self._name, "namespace": self._namespace}
        if resource_version:
            metadata["resourceVersion"] = resource_version
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }
        answer = self._client.request(method, path, lease, timeout=timeout)
        self._observe(parse_json(answer.body))

    def _release(self) -> None:
        """Give the lease back, so that the next leader needn't wait for it to expire."""
        record = self._record
        if record is None or record.holder != self._identity:
            return
        now = _micro_time()
        spec = {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": record.spec.get("leaseTransitions") or 0,
        }
        try:
            self._write("PUT", self._path, spec, record.resource_version, timeout=2.0)
        except KubeError as error:
            log.warning("lease could not be given back", lease=self._name, error=str(error))

    def _wait_for_change(self, seconds: float) -> None:
        """Wait for the next attempt, less if the holder gives the lease back meanwhile."""
        deadline = time.monotonic() + seconds
        record = self._record
        if record is not None and record.holder:
            try:
                if self._given_back(record, seconds):
                    return
            except Exception as error:  # only a short cut: the next attempt tells what is wrong
                log.debug("lease not watched", lease=self._name, error=str(error))
        self._stop.wait(max(0.0, deadline - time.monotonic()))

    def _given_back(self, record: _Record, seconds: float) -> bool:
        query: dict[str, str | int] = {
            "watch": 1,
            "fieldSelector": f"metadata.name={self._name}",
            "resourceVersion": record.resource_version,
            "timeoutSeconds": max(1, int(seconds)),
        }
        with self._lock:
            if self._stop.is_set():
                return False
            self._stream = stream = self._client.stream(self._collection, query, timeout=seconds + 1.0)
        for lines in stream:
            for line in filter(None, lines):
                event = parse_json(line)
                if event["type"] not in ("ADDED", "MODIFIED"):
                    return True
                self._observe(event["object"])
                if not self.holder:
                    return True
        return False
