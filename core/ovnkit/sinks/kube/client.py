"""The connection to the Kubernetes API: raw JSON bytes in and out, errors by meaning.

Configuration, authentication and TLS are the official client's; so is the urllib3 pool it makes. Its models
are not used: a `V1Pod` costs a hundred times what a trimmed view does.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import structlog
import urllib3
from urllib3.exceptions import HTTPError

from ovnkit.api.config import KubernetesOptions
from ovnkit.api.errors import ConfigError
from ovnkit.api.text import json_bytes, parse_json
from ovnkit.sinks.kube.errors import KubeError, ServerUnavailable, Unauthorized, error_from
from ovnkit.sinks.kube.whole_requests import send_whole_requests

log = structlog.get_logger()

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_RELOAD_PERIOD = 10.0
"""Seconds between two reloads of the credentials after 401: a wrong token must not restart us in a loop."""

Query = Mapping[str, str | int]


class Response(NamedTuple):
    """An answer with status below 400."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stream:
    """An open watch: iterate over its lines. `close` may be called from any thread and ends the iteration."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._closed = False

    def __iter__(self) -> Iterator[list[bytes]]:
        """The complete lines of each piece the server sent; raises ServerUnavailable when it breaks off."""
        rest = b""
        try:
            for chunk in self._response.stream(1 << 18, decode_content=True):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                if lines:
                    yield lines
        except (HTTPError, OSError, ValueError, AttributeError) as error:
            # urllib3 has no name for "closed by another thread": it surfaces as any of these
            if not self._closed:
                raise ServerUnavailable(f"stream broke off: {error}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the stream, waking the thread that reads it."""
        self._closed = True
        self.break_off()

    def break_off(self) -> None:
        """Have the reader find that the connection is lost; from any thread."""
        with contextlib.suppress(Exception):
            self._response.shutdown()


class Client:
    """A thread-safe connection pool to one API server. `max_connections` are kept open; more are made at need.

    There is no rate limit on our side; callers heed `TooManyRequests.retry_after`.
    `host` is the server's URL; `requests` and `errors` count what was sent and what failed.
    """

    def __init__(self, load: Callable[[], Any], *, max_connections: int = 64) -> None:
        """`load` gives the official client's Configuration; it is called again when credentials expired."""
        self._load = load
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._loaded = 0.0
        self.requests = 0
        self.errors = 0
        self._setup()

    @classmethod
    def connect(cls, options: KubernetesOptions, *, max_connections: int = 64) -> Client:
        """A client from the options; raises ConfigError. Nothing is sent yet."""
        from ovnkit.sinks.kube import connection  # the official client takes 0.4 s of processor time to import

        return cls(lambda: connection.load(options), max_connections=max_connections)

    def _setup(self) -> None:
        from kubernetes.client.rest import RESTClientObject

        configuration = self._load()
        configuration.connection_pool_maxsize = self._max_connections
        self._configuration = configuration
        # kept apart, because hooks that refresh credentials also put the kubeconfig's server back
        self.host = str(configuration.host).rstrip("/")
        self._prefix = (urllib3.util.parse_url(self.host).path or "").rstrip("/")
        self._manager: urllib3.PoolManager = RESTClientObject(configuration).pool_manager
        self._find_pool()
        self._loaded = time.monotonic()

    def _find_pool(self) -> None:
        self._pool: urllib3.HTTPConnectionPool | None = None
        if not isinstance(self._manager, urllib3.ProxyManager):
            # the one pool that is used, without looking it up by the URL for each request
            self._pool = self._manager.connection_from_url(self.host)
            send_whole_requests(self._pool)

    def renew(self) -> None:
        """Go on with new connections: the host has lost an address, and those from there won't tell for minutes.

        Watches break off, and are resumed by those who read them.
        """
        self._manager.clear()
        self._find_pool()
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.break_off()

    def close(self) -> None:
        """Close idle connections."""
        self._manager.clear()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        query: Query | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """Do a request; `body` is bytes or anything orjson can write. Raises a KubeError for 400 and above.

        `timeout` is in seconds, for connecting and for each wait for data.
        """
        response = self._send(method, path, body, content_type, query, timeout, preload=True)
        return Response(response.status, response.headers, response.data)

    def get(self, path: str, query: Query | None = None, *, timeout: float = 30.0) -> Any:
        """The decoded JSON answer to a GET."""
        return parse_json(self.request("GET", path, query=query, timeout=timeout).body)

    def stream(self, path: str, query: Query | None = None, *, timeout: float = 30.0) -> Stream:
        """Open a watch; `timeout` is the longest silence in seconds."""
        stream = Stream(self._send("GET", path, None, "", query, timeout, preload=False))
        with self._lock:
            self._streams.add(stream)
        return stream

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        content_type: str,
        query: Query | None,
        timeout: float,
        *,
        preload: bool,
    ) -> urllib3.BaseHTTPResponse:
        data = body if body is None or isinstance(body, bytes) else json_bytes(body)
        target = f"{path}?{urlencode(query)}" if query else path
        response = self._once(method, target, data, content_type, timeout, preload)
        if response.status == 401 and self._reload():
            response.drain_conn()
            response = self._once(method, target, data, content_type, timeout, preload)
        if response.status >= 400:
            self.errors += 1
            try:
                content = response.data
            except (HTTPError, OSError):
                content = b""
            raise error_from(response.status, response.headers, content)
        return response

    def _once(
        self, method: str, target: str, data: bytes | None, content_type: str, timeout: float, preload: bool
    ) -> urllib3.BaseHTTPResponse:
        headers = self._headers()
        if data is not None:
            headers["Content-Type"] = content_type
        self.requests += 1
        limits = urllib3.Timeout(connect=min(timeout, 10.0), read=timeout)
        try:
            if self._pool is None:
                return self._manager.urlopen(
                    method,
                    self.host + target,
                    redirect=False,
                    body=data,
                    headers=headers,
                    timeout=limits,
                    retries=False,
                    preload_content=preload,
                )
            return self._pool.urlopen(
                method,
                self._prefix + target,
                redirect=False,
                body=data,
                headers=headers,
                timeout=limits,
                retries=False,
                preload_content=preload,
            )
        except (HTTPError, OSError) as error:
            self.errors += 1
            where = f"{method} {self.host}{target.partition('?')[0]}"
            raise ServerUnavailable(f"{where}: {error}") from error

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "ovnkit", "Accept": "application/json"}
        configuration = self._configuration
        try:
            if configuration.refresh_api_key_hook is None:
                token = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            else:
                with self._lock:  # the hook may run a program, and writes to the configuration
                    token = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        except Exception as error:  # hooks are the official client's and plugins': anything may come
            raise Unauthorized(f"no credentials: {error}", code=401) from error
        if token:
            headers["Authorization"] = token
        return headers

    def _reload(self) -> bool:
        """Read the configuration anew after a 401; whether that was done and the request is worth repeating."""
        with self._lock:
            if time.monotonic() - self._loaded < _RELOAD_PERIOD:
                return False
            try:
                self._setup()
            except ConfigError as error:
                log.warning("credentials could not be read again", error=str(error))
                self._loaded = time.monotonic()
                return False
            log.info("credentials read again after 401", server=self.host)
            return True


__all__ = ["MERGE_PATCH", "Client", "KubeError", "Query", "Response", "Stream"]
