"""A scripted Kubernetes API over real HTTP, for what a well-behaved server can't be made to do on demand."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from attrs import define, evolve, field, frozen

from ovnkit.api.config import KubernetesOptions
from ovnkit.engine.inbox import Inbox
from ovnkit.engine.store import Store
from ovnkit.sinks.kube.client import Client

DEADLINE = 10.0


@frozen
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    at: float


@define
class Fault:
    """The next `times` requests that match get this answer instead; code 0 cuts the connection."""

    code: int
    method: str = ""
    path: str = ""
    times: int = 1
    headers: dict[str, str] = field(factory=dict)
    message: str = "scripted"
    before: Callable[[], None] | None = None
    """Called before the request is answered as usual (code -1)."""
    when: Callable[[Request], bool] = lambda request: True

    def takes(self, request: Request) -> bool:
        matches = self.method in ("", request.method) and self.path in request.path
        return self.times > 0 and matches and self.when(request)


REASONS = {
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
}


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


class ScriptedApi:
    """Collections of objects with list, watch, merge patch, status subresource, create, replace and delete."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        self.history: list[tuple[int, str, str, dict[str, Any]]] = []
        self.compacted = 0
        self.gone_as_event = False
        self.without_status: set[str] = set()
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.token = ""
        self.changed = threading.Condition()
        self._numbers = itertools.count(1)
        self.version = 0
        self._server: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()
        self.port = 0
        self.start()

    # -- what tests do ------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        api = self

        class Handler(_Handler):
            pass

        Handler.api = api
        ThreadingHTTPServer.allow_reuse_address = True
        ThreadingHTTPServer.request_queue_size = 128
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self.cut()

    def cut(self) -> None:
        """Cut every open connection."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def fail(self, code: int, **script: Any) -> Fault:
        fault = Fault(code, **script)
        self.faults.append(fault)
        return fault

    def collection(self, path: str) -> dict[str, dict[str, Any]]:
        return self.objects.setdefault(path, {})

    def put(self, path: str, namespace: str, name: str, **content: Any) -> dict[str, Any]:
        """Create or replace an object, as somebody else."""
        with self.changed:
            key = f"{namespace}/{name}" if namespace else name
            old = self.collection(path).get(key)
            meta = {"name": name, **({"namespace": namespace} if namespace else {})}
            raw = {**content, "metadata": {**meta, **content.get("metadata", {})}}
            raw["metadata"]["uid"] = old["metadata"]["uid"] if old else f"uid-{next(self._numbers)}"
            self._store(path, key, raw, "MODIFIED" if old else "ADDED")
            return raw

    def edit(self, path: str, key: str, patch: dict[str, Any]) -> None:
        with self.changed:
            self._store(path, key, merge(self.collection(path)[key], patch), "MODIFIED")

    def delete(self, path: str, key: str) -> None:
        with self.changed:
            raw = self.collection(path).pop(key)
            self._happened("DELETED", path, raw)

    def bookmark(self, path: str) -> None:
        with self.changed:
            self._happened("BOOKMARK", path, {"metadata": {}})

    def compact(self) -> None:
        """Forget history: watches from an older version get 410."""
        with self.changed:
            self.compacted = self.version
            self.history.clear()

    def written(self, method: str = "PATCH", path: str = "") -> list[Request]:
        return [request for request in self.requests if request.method == method and path in request.path]

    # -- store --------------------------------------------------------------------------------------------

    def _store(self, path: str, key: str, raw: dict[str, Any], what: str) -> None:
        self.collection(path)[key] = raw
        self._happened(what, path, raw)

    def _happened(self, what: str, path: str, raw: dict[str, Any]) -> None:
        self.version += 1
        raw = {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self.version)}}
        if what in ("ADDED", "MODIFIED"):
            meta = raw["metadata"]
            key = f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else meta["name"]
            self.collection(path)[key] = raw
        self.history.append((self.version, path, what, raw))
        self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    api: ScriptedApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.api._open.add(self.connection)

    def finish(self) -> None:
        self.api._open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        api, request = self.api, self._request()
        if request is None:
            return
        before, _, after = request.path.partition("/namespaces/")
        namespace, _, plural = after.partition("/")
        if plural and f"{before}/{plural}" in api.objects:
            query = {**request.query, "namespace": namespace}
            request = evolve(request, path=f"{before}/{plural}", query=query)
        if request.path in api.objects:
            if request.query.get("watch"):
                self._watch(request)
            else:
                self._list(request)
            return
        found, key, _ = self._locate(request.path)
        raw = api.objects.get(found, {}).get(key)
        if raw is None:
            self._refuse(404, details={"name": key} if found in api.objects else {})
        else:
            self._answer(200, raw)

    def do_PATCH(self) -> None:
        def changed(old: dict[str, Any], body: dict[str, Any], status: bool) -> dict[str, Any]:
            """Through the status subresource all but the spec, as with Pods and Nodes."""
            merged: dict[str, Any] = merge(
                old, {name: body[name] for name in ("metadata", "status") if name in body} if status else body
            )
            return merged

        self._write(changed)

    def do_PUT(self) -> None:
        self._write(lambda old, body, status: {**body, "metadata": {**old["metadata"], **body["metadata"]}})

    def do_POST(self) -> None:
        api, request = self.api, self._request()
        if request is None:
            return
        namespace = request.path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in request.path else ""
        path = request.path.replace(f"/namespaces/{namespace}", "") if namespace else request.path
        name = request.body["metadata"]["name"]
        if path not in api.objects:
            self._refuse(404)
        elif f"{namespace}/{name}" in api.objects[path]:
            self._refuse(409, reason="AlreadyExists")
        else:
            self._answer(201, api.put(path, namespace, name, **request.body))

    def _write(self, change: Callable[[dict[str, Any], Any, bool], dict[str, Any]]) -> None:
        api, request = self.api, self._request()
        if request is None:
            return
        path, key, status = self._locate(request.path)
        if status and path in api.without_status:
            self._refuse(404)
            return
        with api.changed:
            old = api.objects.get(path, {}).get(key)
            if old is None:
                code, answer = 404, {"name": key}
            else:
                body = request.body
                current = old["metadata"]["resourceVersion"]
                uid = old["metadata"]["uid"]
                if body.get("metadata", {}).get("resourceVersion", current) != current:
                    code, answer = 409, {}
                elif body.get("metadata", {}).get("uid", uid) != uid:
                    code, answer = 422, {}
                else:
                    if not status and path not in api.without_status and request.method == "PATCH":
                        body = {name: value for name, value in body.items() if name != "status"}
                    new = change(old, body, status)
                    if new != old:
                        api._store(path, key, new, "MODIFIED")
                    code, answer = 200, api.objects[path][key]
        if code == 200:
            self._answer(200, answer)
        else:
            self._refuse(code, details=answer)

    # -- reads --------------------------------------------------------------------------------------------

    def _list(self, request: Request) -> None:
        api = self.api
        with api.changed:
            items = [raw for raw in api.objects[request.path].values() if _selected(raw, request.query)]
            first = int(request.query.get("continue", 0))
            size = int(request.query.get("limit", 0)) or len(items)
            meta = {"resourceVersion": str(api.version)}
            if first + size < len(items):
                meta["continue"] = str(first + size)
        self._answer(200, {"metadata": meta, "items": items[first : first + size]})

    def _watch(self, request: Request) -> None:
        api, version = self.api, int(request.query["resourceVersion"])
        if version < api.compacted and not api.gone_as_event:
            self._refuse(410)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if version < api.compacted:
            self._event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
            self._chunk(b"")
            return
        ends = time.monotonic() + int(request.query["timeoutSeconds"])
        while time.monotonic() < ends and self.connection in api._open:
            with api.changed:
                news = [entry for entry in api.history if entry[0] > version and entry[1] == request.path]
                if not news:
                    api.changed.wait(0.1)
                    continue
            for number, _, what, raw in news:
                version = number
                if _selected(raw, request.query):
                    self._event(what, raw)
        self._chunk(b"")

    def _event(self, what: str, raw: dict[str, Any]) -> None:
        self._chunk(json.dumps({"type": what, "object": raw}).encode() + b"\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    # -- wire ---------------------------------------------------------------------------------------------

    def _request(self) -> Request | None:
        """The request, noted; None when the script answered it."""
        parts = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(data) if data else None
        request = Request(
            self.command, parts.path, dict(parse_qsl(parts.query)), body, dict(self.headers), time.monotonic()
        )
        self.api.requests.append(request)
        if self.api.token and self.headers.get("Authorization") != f"Bearer {self.api.token}":
            self._refuse(401)
            return None
        for fault in self.api.faults:
            if not fault.takes(request):
                continue
            fault.times -= 1
            if fault.before is not None:
                fault.before()
            if fault.code < 0:
                break
            if fault.code == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._refuse(fault.code, headers=fault.headers, message=fault.message)
            return None
        return request

    def _locate(self, path: str) -> tuple[str, str, bool]:
        """Collection, key, and whether it is the status subresource."""
        status = path.endswith("/status")
        parts = path.removesuffix("/status").split("/")
        if "namespaces" in parts[:-2]:
            at = parts.index("namespaces")
            return "/".join(parts[:at] + parts[at + 2 : -1]), f"{parts[at + 1]}/{parts[-1]}", status
        return "/".join(parts[:-1]), parts[-1], status

    def _refuse(
        self, code: int, *, headers: Any = None, reason: str = "", message: str = "no", details: Any = None
    ) -> None:
        reason = reason or REASONS.get(code, "")
        status = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details or {}}
        self._answer(code, status, headers)

    def _answer(self, code: int, content: Any, headers: Any = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _selected(raw: dict[str, Any], query: dict[str, str]) -> bool:
    if query.get("namespace", raw["metadata"].get("namespace")) != raw["metadata"].get("namespace"):
        return False
    selector = query.get("fieldSelector")
    if not selector:
        return True
    path, _, value = selector.partition("=")
    found: Any = raw
    for name in path.split("."):
        found = found.get(name, {})
    return bool(found == value)


def wait_until(condition: Callable[[], Any], timeout: float = DEADLINE) -> Any:
    """Poll until the condition holds; fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition didn't come true"
        time.sleep(0.005)
    return value


@pytest.fixture
def until() -> Callable[..., Any]:
    return wait_until


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    server = ScriptedApi()
    yield server
    server.stop()


@pytest.fixture
def client(api: ScriptedApi) -> Iterator[Client]:
    client = Client.connect(KubernetesOptions(apiserver=api.url))
    yield client
    client.close()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def store() -> Store:
    return Store()
