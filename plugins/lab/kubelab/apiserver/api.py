"""The API itself: takes a parsed request, returns an answer; does no I/O."""

import asyncio
import time

import orjson
import structlog
from attrs import field, frozen

from . import convert, discovery, errors, metrics, reads, reviews, tables, wire
from .auth import User
from .deletes import Deletes, options_of
from .errors import ApiError, Json
from .metrics import Metrics
from .openapi import OpenApi
from .rbac import Access
from .registry import Resource
from .request import Request
from .state import Cluster
from .store import Record
from .subresources import Subresources
from .watch import Watch
from .writes import Writes

log = structlog.get_logger()

_PROTO_V2 = "application/com.github.proto-openapi.spec.v2"
_OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")

_DEPRECATED = {"endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
"""What clients are told about resources of the core group, as kube-apiserver says it."""
_OF_KUBELET = frozenset({"log", "exec", "attach", "portforward"})


@frozen
class Answer:
    """A complete response."""

    code: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(factory=dict)


class Api:
    """Authenticates, authorizes and serves requests."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._openapi = OpenApi(cluster.registry)
        self._wire = wire.Decoder(cluster.registry)
        self._writes = Writes(cluster)
        self.deletes = Deletes(cluster)
        self._subresources = Subresources(cluster, self._writes, self.deletes)
        self._metrics = Metrics()
        self._second = 0
        self._served = 0
        self._refuse = 0
        self._retry_after = 1

    def handle(self, request: Request) -> Answer | Watch:
        """Serve a request; failures, too, are answers."""
        answer = self._answer(request)
        known = self.cluster.registry.find(request.group, request.version, request.plural) is not None
        self._metrics.count(request, answer.code if isinstance(answer, Answer) else 200, known)
        return answer

    def _answer(self, request: Request) -> Answer | Watch:
        try:
            return self._handle(request)
        except ApiError as error:
            return Answer(error.code, orjson.dumps(error.status()), headers=dict(error.headers))
        except Exception as error:
            log.exception("request failed", method=request.method, path=request.path)
            failure = ApiError(500, "InternalError", f"Internal error occurred: {error!r}")
            return Answer(500, orjson.dumps(failure.status()))

    def _handle(self, request: Request) -> Answer | Watch:
        self._pace(request)
        request.user = self._user(request)
        request.wire = self._wire
        if request.path.startswith("/debug/"):
            return self._debug(request)
        if not request.plural:
            return self._non_resource(request)
        resource = self.cluster.registry.find(request.group, request.version, request.plural)
        self._authorize(request)
        if resource is None:
            raise errors.no_such_path()
        if "get" not in resource.verbs:
            if request.method != "POST":
                raise errors.method_not_allowed()
            return Answer(201, orjson.dumps(reviews.answer(self.cluster, request)))
        if resource.namespaced and not request.namespace and (request.name or request.method == "POST"):
            raise errors.no_such_path()
        if not resource.namespaced:
            request.namespace = ""
        if resource.plural in _DEPRECATED and not resource.group:
            request.warnings.append(_DEPRECATED[resource.plural])
        answer = self._collection(request, resource) if not request.name else self._named(request, resource)
        if isinstance(answer, Answer) and request.warnings:
            answer.headers["Warning"] = request.warning_header
        return answer

    def _collection(self, request: Request, resource: Resource) -> Answer | Watch:
        if request.method == "POST":
            return Answer(201, self._writes.create(request, resource, request.decode()))
        if request.method == "DELETE":
            return self._delete_collection(request, resource)
        if request.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed()
        if request.watching:
            return self._watch(request, resource)
        collection = self.cluster.store.collection(resource.collection)
        wanted = reads.selection(request, resource)
        found = reads.page(request, collection, wanted, self.cluster.store.revision)
        form = tables.wanted_form(request.headers.get("accept", ""))
        if form == "Table":
            return Answer(200, tables.table(resource, found, request.query.get("includeObject", "Metadata")))
        if form == "PartialObjectMetadataList":
            return Answer(200, tables.partial_list(found))
        return Answer(200, reads.encode(resource, found))

    def _named(self, request: Request, resource: Resource) -> Answer | Watch:
        if request.watching and request.method == "GET":
            return self._watch(request, resource)
        collection = self.cluster.store.collection(resource.collection)
        record = collection.objects.get((request.namespace, request.name))
        sub = request.subresource
        if resource.plural == "pods" and sub in _OF_KUBELET:
            instead = self.cluster.settings.instead.get(sub, "")
            raise errors.needs_kubelet(sub, request.namespace, request.name, instead)
        if sub and sub not in resource.subresources:
            raise errors.no_such_path()
        if record is None and not (request.method == "PATCH" and not sub):
            raise errors.not_found(resource.plural, resource.group, request.name)
        if sub and sub != "status" and record is not None:
            return Answer(*self._subresources.serve(request, resource, record))
        match request.method:
            case "GET" | "HEAD" if record is not None:
                return self._get(request, resource, record)
            case "PUT" if record is not None:
                return Answer(200, self._writes.update(request, resource, record, request.decode()))
            case "PATCH":
                return Answer(200 if record else 201, self._writes.patch(request, resource, record))
            case "DELETE" if record is not None and not sub:
                return Answer(200, self.deletes.delete(request, resource, record, options_of(request)))
        raise errors.method_not_allowed()

    def _get(self, request: Request, resource: Resource, record: Record) -> Answer:
        form = tables.wanted_form(request.headers.get("accept", ""))
        if form == "Table":
            found = reads.Page([record], record.revision)
            return Answer(200, tables.table(resource, found, request.query.get("includeObject", "Metadata")))
        if form == "PartialObjectMetadata":
            return Answer(200, orjson.dumps(tables.partial(record.load())))
        return Answer(200, convert.encoded(resource, record))

    def _watch(self, request: Request, resource: Resource) -> Watch:
        form = tables.wanted_form(request.headers.get("accept", ""))
        include = request.query.get("includeObject", "Metadata")
        encoder = tables.watch_encoder(resource, form, include)
        collection = self.cluster.store.collection(resource.collection)
        wanted = reads.selection(request, resource)
        return Watch(self.cluster, resource, collection, wanted, request, encoder)

    def _delete_collection(self, request: Request, resource: Resource) -> Answer:
        collection = self.cluster.store.collection(resource.collection)
        wanted = reads.selection(request, resource)
        options = options_of(request)
        found = [r for _, r in sorted(collection.objects.items()) if wanted.matches(r)]
        for record in found:
            if record.key in collection.objects:
                self.deletes.delete(request, resource, record, options)
        return Answer(200, reads.encode(resource, reads.Page(found, self.cluster.store.revision)))

    def _non_resource(self, request: Request) -> Answer:
        path = request.path.rstrip("/") or "/"
        if path not in _OPEN_PATHS and not path.startswith(tuple(f"{p}/" for p in _OPEN_PATHS)):
            self._authorize(request)
        if path.startswith(("/healthz", "/livez", "/readyz")):
            return Answer(200, b"ok", "text/plain; charset=utf-8")
        if path == "/metrics":
            return Answer(200, self._metrics.text(self.cluster.store), metrics.CONTENT_TYPE)
        if path == "/version":
            return _json(discovery.VERSION)
        if path.startswith("/openapi/"):
            return self._openapi_document(request, path)
        return self._discovery(request, path)

    def _discovery(self, request: Request, path: str) -> Answer:
        registry = self.cluster.registry
        if path in ("/api", "/apis"):
            version = discovery.wanted_version(request.headers.get("accept", ""))
            if version:
                body = discovery.aggregated(registry, version, core=path == "/api")
                return Answer(200, orjson.dumps(body), discovery.aggregated_type(version))
            return _json(discovery.core_versions() if path == "/api" else discovery.groups(registry))
        parts = path.strip("/").split("/")
        body_or_none: Json | None = None
        if parts[0] == "api" and len(parts) == 2:
            body_or_none = discovery.resources(registry, "", parts[1])
        elif parts[0] == "apis" and len(parts) == 2:
            body_or_none = discovery.group(registry, parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            body_or_none = discovery.resources(registry, parts[1], parts[2])
        elif path == "/":
            body_or_none = {
                "paths": [
                    "/api",
                    "/apis",
                    "/healthz",
                    "/livez",
                    "/metrics",
                    "/openapi/v2",
                    "/openapi/v3",
                    "/readyz",
                    "/version",
                ]
            }
        if body_or_none is None:
            raise errors.no_such_path()
        return _json(body_or_none)

    def _openapi_document(self, request: Request, path: str) -> Answer:
        if path == "/openapi/v2":
            if _PROTO_V2 in request.headers.get("accept", ""):
                return Answer(200, self._openapi.version2_protobuf(), f"{_PROTO_V2}.v1.0+protobuf")
            return Answer(200, self._openapi.version2())
        if path == "/openapi/v3":
            return Answer(200, self._openapi.index())
        document = self._openapi.document(path.removeprefix("/openapi/v3/"))
        if document is None:
            raise errors.no_such_path()
        return Answer(200, document)

    def _user(self, request: Request) -> User:
        user = self.cluster.authenticator.user(request.headers.get("authorization", ""))
        name = request.headers.get("impersonate-user", "")
        if not name:
            return user
        access = Access("impersonate", "", "users", name=name)
        if not self.cluster.authorizer.check(user, access).allowed:
            raise errors.forbidden("users", "", name, access.describe(user))
        groups = tuple(g for g in request.headers.get("impersonate-group", "").split("\0") if g)
        if name.startswith("system:serviceaccount:") and not groups:
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}")
        return User(name, (*groups, "system:authenticated"))

    def _authorize(self, request: Request) -> None:
        if request.plural:
            access = Access(
                request.verb, request.group, request.plural, request.subresource, request.namespace, request.name
            )
        else:
            access = Access(request.method.lower(), path=request.path)
        if self.cluster.authorizer.check(request.user, access).allowed:
            return
        reason = access.describe(request.user)
        if access.path:
            raise ApiError(403, "Forbidden", f"forbidden: {reason}", {})
        raise errors.forbidden(request.plural, request.group, request.name, reason)

    def _pace(self, request: Request) -> None:
        """Raise 429 when a test asked for it, or the configured rate is exceeded."""
        if request.path.startswith(("/debug/", *_OPEN_PATHS)):
            return
        if self._refuse > 0:
            self._refuse -= 1
            raise errors.too_many_requests(self._retry_after)
        rate = self.cluster.settings.requests_per_second
        if rate <= 0:
            return
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._served = second, 0
        self._served += 1
        if self._served > rate:
            raise errors.too_many_requests(1)

    def _debug(self, request: Request) -> Answer:
        """For tests of clients: refuse requests, drop the history, end the watches."""
        self._authorize(request)
        if request.method != "POST":
            raise errors.method_not_allowed()
        options = orjson.loads(request.body) if request.body else {}
        store = self.cluster.store
        match request.path:
            case "/debug/throttle":
                self._refuse = int(options.get("requests", 1))
                self._retry_after = int(options.get("retryAfter", 1))
            case "/debug/forget-history":
                for collection in store.collections():
                    collection.forget(0)
                    collection.floor = max(collection.floor, store.revision if options.get("all") else 0)
            case "/debug/end-watches":
                self.cluster.closing = True
                store.wake_all()
                asyncio.get_running_loop().call_later(0.05, self._reopen)
            case _:
                raise errors.no_such_path()
        return _json({})

    def _reopen(self) -> None:
        self.cluster.closing = False


def _json(body: Json) -> Answer:
    return Answer(200, orjson.dumps(body))
