"""A small Kubernetes client: requests, and informers (listings that a watch keeps up to date)."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import structlog
import urllib3

Json = dict[str, Any]
log = structlog.get_logger()

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Forms in which objects come without anything but their metadata."""
_WATCH_SECONDS = 300
_RETRY_DELAY = 0.3


class ApiError(Exception):
    """The API server answered with an error, or not at all; `status` is the HTTP status (0: no answer)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """Requests to one API server with one token. Safe from any thread."""

    def __init__(self, server: str, authority: Path, token: str) -> None:
        self._server = server
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._pool = urllib3.PoolManager(
            maxsize=64, ca_certs=str(authority), cert_reqs="CERT_REQUIRED", retries=False
        )

    def request(
        self, method: str, path: str, body: Json | None = None, *,
        content_type: str = "application/json", accept: str = "", **query: str,
    ) -> Json:  # fmt: skip
        """Send a request and decode the answer; raises ApiError."""
        headers = {**self._headers, "Content-Type": content_type, **_accepting(accept)}
        url = self._server + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._pool.request(
                method, url, body=orjson.dumps(body) if body is not None else None, headers=headers, timeout=30
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        if answer.status >= 400:
            raise ApiError(answer.status, f"{method} {path}: {_message(answer.data)}")
        return dict(orjson.loads(answer.data)) if answer.data[:1] == b"{" else {}

    def get(self, path: str, *, accept: str = "", **query: str) -> Json:
        """GET a decoded object or list, in the form that `accept` names."""
        return self.request("GET", path, None, accept=accept, **query)

    def create(self, path: str, body: Json) -> Json:
        """POST an object to a collection."""
        return self.request("POST", path, body)

    def ensure(self, path: str, body: Json) -> None:
        """Create an object, or merge it into the one that exists; its status is left alone."""
        try:
            self.create(path, body)
        except ApiError as error:
            if error.status != 409:
                raise
            name = body["metadata"]["name"]
            self.patch(f"{path}/{name}", {key: value for key, value in body.items() if key != "status"})

    def patch(self, path: str, body: Json, content_type: str = MERGE_PATCH) -> Json:
        """PATCH an object."""
        return self.request("PATCH", path, body, content_type=content_type)

    def delete(self, path: str, body: Json | None = None) -> Json:
        """DELETE an object; does nothing when it doesn't exist."""
        try:
            return self.request("DELETE", path, body)
        except ApiError as error:
            if error.status != 404:
                raise
            return {}

    def watch(self, path: str, version: str, accept: str = "") -> Iterator[Json]:
        """The events of a collection after a resourceVersion, until the server ends the watch."""
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true",
                 "timeoutSeconds": str(_WATCH_SECONDS)}  # fmt: skip
        try:
            answer = self._pool.request(
                "GET", f"{self._server}{path}?{urlencode(query)}",
                headers={**self._headers, **_accepting(accept)},
                preload_content=False, timeout=urllib3.Timeout(connect=5, read=_WATCH_SECONDS + 15),
            )  # fmt: skip
            try:
                if answer.status >= 400:
                    raise ApiError(answer.status, f"watch {path}: {_message(answer.data)}")
                rest = b""
                for part in answer.stream(amt=None):
                    *lines, rest = (rest + part).split(b"\n")
                    yield from (orjson.loads(line) for line in lines if line)
            finally:
                answer.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, f"watch {path}: {error}") from error


def _accepting(form: str) -> dict[str, str]:
    return {"Accept": form} if form else {}


def _message(data: bytes) -> str:
    try:
        return str(orjson.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace")


def key_of(item: Json) -> str:
    """`namespace/name`, or `name` of a cluster-wide object."""
    meta = item["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


class Informer:
    """A list that a thread of its own keeps up to date; `changed(key)` is called in that thread.

    With `metadata_only` the objects have only their metadata.
    """

    def __init__(
        self, client: Client, path: str, changed: Callable[[str], None], *, metadata_only: bool = False
    ) -> None:
        self._client, self._path, self._changed = client, path, changed
        self._forms = (METADATA_LIST, METADATA) if metadata_only else ("", "")
        self._stopped = threading.Event()
        self._objects: dict[str, Json] = {}
        self._deleted: deque[str] = deque(maxlen=1000)
        self._lock = threading.Lock()
        self.synced = threading.Event()
        threading.Thread(target=self._run, name=f"watch {path}", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread, at the latest when its current watch ends."""
        self._stopped.set()

    def get(self, key: str) -> Json | None:
        """The object as last observed."""
        return self._objects.get(key)

    def all(self) -> list[Json]:
        """Every object as last observed."""
        return list(self._objects.values())

    def put(self, item: Json) -> None:
        """Store an object that the caller has just written, ahead of the watch."""
        with self._lock:
            known = self._objects.get(key_of(item))
            newer = known is None or int(known["metadata"]["resourceVersion"]) < int(
                item["metadata"]["resourceVersion"]
            )
            if newer and item["metadata"]["uid"] not in self._deleted:
                self._objects[key_of(item)] = item

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                version = self._list()
                while version and not self._stopped.is_set():
                    version = self._follow(version)
            except Exception as error:  # a watch must outlive whatever the server says
                log.info("watch interrupted", path=self._path, error=str(error)[:200])
            time.sleep(_RETRY_DELAY * (1 + random.random()))

    def _list(self) -> str:
        answer = self._client.get(self._path, accept=self._forms[0])
        found = {key_of(item): item for item in answer.get("items") or ()}
        touched = found.keys() | self._objects.keys()
        with self._lock:
            self._objects = found
        self.synced.set()
        for key in touched:
            self._changed(key)
        return str(answer["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> str:
        """Apply the events of a watch; returns the resourceVersion to continue from, empty to list again."""
        for event in self._client.watch(self._path, version, self._forms[1]):
            item = event["object"]
            if event["type"] == "ERROR":
                return ""
            version = item["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            key = key_of(item)
            with self._lock:
                if event["type"] == "DELETED":
                    self._objects.pop(key, None)
                    self._deleted.append(item["metadata"]["uid"])
                else:
                    self._objects[key] = item
            self._changed(key)
        return version
