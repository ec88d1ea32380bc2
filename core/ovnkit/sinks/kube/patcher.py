"""Carries out plans against the API server, in the writers' threads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, evolve, field, frozen

from ovnkit.api.backoff import Backoff
from ovnkit.api.text import json_bytes, parse_json
from ovnkit.engine.refusals import Refused, find_refused
from ovnkit.sinks.kube.client import APPLY_PATCH, MERGE_PATCH, Client
from ovnkit.sinks.kube.errors import (
    Conflict,
    KubeError,
    NotFound,
    ServerUnavailable,
    TooManyRequests,
    Unprocessable,
)
from ovnkit.sinks.kube.fields import Field
from ovnkit.sinks.kube.plan import Plan, metadata_patch
from ovnkit.sinks.kube.statuses import KnownStatus, applications, status_patch
from ovnkit.sinks.kube.work import Pacer

_ATTEMPTS = 5
"""Fresh reads after a conflict before it is reported; each conflict means someone else got through."""


def timestamp() -> str:
    """Now, as metav1.Time is written."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@define
class PatchCounters:
    """Requests the writers made, for metrics."""

    patches: int = 0
    status_patches: int = 0
    reads: int = 0
    conflicts: int = 0
    throttled: int = 0
    unavailable: int = 0


@frozen
class Outcome:
    """How a plan went. `resource_version` is the last one written, empty when the metadata wasn't.

    `errors` names the fields that could not be written, and why; all others were.
    """

    resource_version: str = ""
    status: KnownStatus | None = None
    gone: bool = False
    errors: Mapping[Field, Exception] = field(factory=dict)


class Patcher:
    """Carries out plans; safe to use from any number of threads. All hold when the server wants a pause."""

    def __init__(self, client: Client, pacer: Pacer) -> None:
        self.counters = PatchCounters()
        self._client = client
        self._pacer = pacer
        self._unavailable = Backoff(0.1, 5.0)
        self._without_subresource: set[str] = set()

    def run(self, plan: Plan) -> Outcome:
        """Carry out a plan. Never raises."""
        raw: Mapping[str, Any] | None = None
        status = None
        errors: dict[Field, Exception] = {}
        try:
            parts = plan.by_manager()
            for part in parts:
                if part.touches_metadata:
                    raw = self._metadata_in_parts(part.after(raw), errors) or raw
            written = raw
            for part in parts:
                if not part.touches_status or _unreachable(errors):
                    continue
                status = self._status_in_parts(part, status, written, errors)
                written = None
        except NotFound:
            return Outcome(gone=True)
        version = raw["metadata"].get("resourceVersion", "") if raw else ""
        return Outcome(version, status, errors=errors)

    def _metadata_in_parts(self, plan: Plan, errors: dict[Field, Exception]) -> Mapping[str, Any] | None:
        """Patch the metadata; the object as last written, None if nothing was."""
        written: Mapping[str, Any] | None = None

        def write(paths: Collection[Field]) -> None:
            nonlocal written
            written = self._metadata(plan.only(paths).after(written))

        _in_parts([path for path, _ in plan.metadata_fields], write, errors)
        return written

    def _status_in_parts(
        self,
        plan: Plan,
        status: KnownStatus | None,
        written: Mapping[str, Any] | None,
        errors: dict[Field, Exception],
    ) -> KnownStatus | None:
        """Write the status; what it is then. `status` is what another part of the plan has left it as."""

        def write(paths: Collection[Field]) -> None:
            nonlocal status, written
            raw, written = written, None
            status = self._status(evolve(plan.only(paths), status=status or plan.status), raw)

        _in_parts([*plan.wanted, *plan.leaving], write, errors)
        return status

    # -- parts --------------------------------------------------------------------------------------------

    def _metadata(self, plan: Plan) -> Mapping[str, Any]:
        """Patch annotations, labels and finalizers; the object then."""
        path = plan.resource.object_path(plan.key)
        if plan.resource.annotated_by_status and not plan.touches_finalizers:
            path += "/status"
        finalizers, current = plan.finalizers, plan.resource_version
        for last in (False,) * (_ATTEMPTS - 1) + (True,):
            try:
                self.counters.patches += 1
                return self._patch(plan, path, metadata_patch(plan, finalizers, current))
            except Conflict:
                self.counters.conflicts += 1
                if last:
                    raise
                raw = self._read(plan)
                finalizers = tuple(raw["metadata"].get("finalizers") or ())
                current = raw["metadata"].get("resourceVersion", "")
            except Unprocessable:
                self._read(plan)  # an object of the same name took its place? Then this wasn't meant for it
                raise
        raise AssertionError("unreachable")

    def _status(self, plan: Plan, written: Mapping[str, Any] | None) -> KnownStatus:
        """Merge, patch and apply the status, read anew unless `written` or the plan has it; what it is then."""
        known = plan.status
        if written is not None:
            known = KnownStatus.of(written)
        elif known is None:
            known = KnownStatus.of(self._read(plan))
        known = self._merged_status(plan, known)
        for manager, content in applications(plan.wanted, plan.leaving, known):
            self.counters.status_patches += 1
            known = KnownStatus.of(self._apply_status(plan, manager, content))
        return known

    def _apply_status(self, plan: Plan, manager: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Server-side apply. Forced: what a manager says it owns is its own, whoever wrote it before."""
        namespace, _, name = plan.key.rpartition("/")
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        if plan.uid:
            metadata["uid"] = plan.uid
        body = {"apiVersion": plan.resource.api_version, "kind": plan.resource.kind, "metadata": metadata}
        path = f"{plan.resource.object_path(plan.key)}/status"
        query = {"fieldManager": manager, "force": "true"}
        whole = json_bytes({**body, "status": content} if content else body)
        return self._request("PATCH", path, whole, APPLY_PATCH, query)

    def _merged_status(self, plan: Plan, known: KnownStatus) -> KnownStatus:
        """Merge-patch the status; what it is then."""
        for last in (False,) * (_ATTEMPTS - 1) + (True,):
            patch = status_patch(plan.wanted, plan.leaving, known.content, timestamp())
            if not patch:
                return known
            metadata = {"uid": plan.uid} if plan.uid else {}
            if "conditions" in patch:
                # a merge patch replaces the whole list, so it must be the list that was read
                metadata["resourceVersion"] = known.resource_version
            body = {"metadata": metadata, "status": patch}
            try:
                self.counters.status_patches += 1
                return KnownStatus.of(self._patch_status(plan, body))
            except Conflict:
                self.counters.conflicts += 1
                if last:
                    raise
                known = KnownStatus.of(self._read(plan))
        raise AssertionError("unreachable")

    def _patch_status(self, plan: Plan, body: Mapping[str, Any]) -> Mapping[str, Any]:
        path = plan.resource.object_path(plan.key)
        if plan.resource.path not in self._without_subresource:
            try:
                return self._patch(plan, f"{path}/status", body)
            except NotFound as error:
                if error.of_object:
                    raise
            # a CRD without the status subresource keeps its status in the object proper
            raw = self._patch(plan, path, body)
            self._without_subresource.add(plan.resource.path)
            return raw
        return self._patch(plan, path, body)

    # -- requests -----------------------------------------------------------------------------------------

    def _read(self, plan: Plan) -> Mapping[str, Any]:
        """The object now; raises NotFound when it is another one of the same name."""
        self.counters.reads += 1
        raw = self._request("GET", plan.resource.object_path(plan.key), None)
        if plan.uid and raw["metadata"].get("uid") != plan.uid:
            raise NotFound(f"{plan.key} is another object now", code=404)
        return raw

    def _patch(self, plan: Plan, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._request("PATCH", path, json_bytes(body), query={"fieldManager": plan.manager})

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        content_type: str = MERGE_PATCH,
        query: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """Do a request when the pacer allows it; 429 holds all writers and tries again."""
        while True:
            if not self._pacer.wait():
                raise ServerUnavailable("stopping")
            try:
                answer = self._client.request(method, path, body, content_type=content_type, query=query)
            except TooManyRequests as error:
                self.counters.throttled += 1
                self._pacer.hold(1.0 if error.retry_after is None else error.retry_after)
                continue
            except ServerUnavailable as error:
                self.counters.unavailable += 1
                self._pacer.hold(self._unavailable.next(error.retry_after))
                raise
            except KubeError:
                self._unavailable.reset()
                raise
            self._unavailable.reset()
            found: Mapping[str, Any] = parse_json(answer.body)
            return found


def _in_parts(
    fields: Sequence[Field], write: Callable[[Collection[Field]], None], errors: dict[Field, Exception]
) -> None:
    """Write fields at once, and in halves where the server finds something wrong with one of them.

    `errors` gets those that could not be written. Raises NotFound.
    """
    done: set[Field] = set()

    def attempt(paths: Sequence[Field]) -> None:
        try:
            write(paths)
        except Unprocessable as error:
            if len(paths) == 1:
                errors[paths[0]] = error
            raise Refused(str(error)) from error
        done.update(paths)

    try:
        find_refused(fields, attempt)
    except NotFound:
        raise
    except Exception as error:  # to be reported on the object, whatever it is
        errors |= dict.fromkeys((path for path in fields if path not in done and path not in errors), error)


def _unreachable(errors: Mapping[Field, Exception]) -> bool:
    return any(isinstance(error, ServerUnavailable) for error in errors.values())
