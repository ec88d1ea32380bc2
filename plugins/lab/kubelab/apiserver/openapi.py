"""OpenAPI documents: v3 per group and version (explain, validation, apply), and v2 as far as kubectl reads it."""

import hashlib
import re
from collections.abc import Iterator

import orjson

from .discovery import VERSION
from .errors import Json
from .presentation import TYPES, presented
from .registry import Registry, Resource

_REF = re.compile(rb'"\$ref":"#/components/schemas/([^"]+)"')
_PREFIX = "#/components/schemas/"
_PATCHES = ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml")


class OpenApi:
    """Builds the documents and keeps them until the registry changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = -1
        self._documents: dict[str, bytes] = {}

    def index(self) -> bytes:
        """/openapi/v3: the documents there are, with a hash for the client's cache."""
        paths = {}
        for path in self._paths():
            digest = hashlib.sha256(self.document(path) or b"").hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return orjson.dumps({"paths": paths})

    def document(self, path: str) -> bytes | None:
        """/openapi/v3/PATH, such as ``apis/apps/v1``; None when there is none."""
        self._refresh()
        if path not in self._documents:
            parts = path.split("/")
            if parts[0] == "api" and len(parts) == 2:
                group, version = "", parts[1]
            elif parts[0] == "apis" and len(parts) == 3:
                group, version = parts[1], parts[2]
            else:
                return None
            served = self._registry.of(group, version)
            if not served:
                return None
            self._documents[path] = orjson.dumps(self._build(served))
        return self._documents[path]

    def version2(self) -> bytes:
        """/openapi/v2 as JSON."""
        self._refresh()
        if "v2" not in self._documents:
            resources = list(self._registry)
            whole = self._build(resources)
            text = orjson.dumps(whole["components"]["schemas"]).replace(_PREFIX.encode(), b"#/definitions/")
            document = {
                "swagger": "2.0",
                "info": _info(),
                "paths": {},
                "definitions": orjson.Fragment(text),
            }
            self._documents["v2"] = orjson.dumps(document)
        return self._documents["v2"]

    def version2_protobuf(self) -> bytes:
        """/openapi/v2 as protobuf: valid and empty, with which kubectl falls back to its built-in types."""
        from .messages import openapi_document  # protobuf is imported when it is needed, see .wire

        return openapi_document("Kubernetes", VERSION["gitVersion"])

    def _refresh(self) -> None:
        if self._generation != self._registry.generation:
            self._documents.clear()
            self._generation = self._registry.generation

    def _paths(self) -> Iterator[str]:
        for group, versions in self._registry.versions().items():
            for version in versions:
                yield f"apis/{group}/{version}" if group else f"api/{version}"

    def _build(self, served: list[Resource]) -> Json:
        schemas: Json = {}
        paths: Json = {}
        for resource in served:
            self._add_schema(schemas, resource)
            paths.update(_resource_paths(resource))
        for model in ("V1Scale", "V1DeleteOptions", "V1Status"):
            self._add_component(schemas, self._registry.extra[model])
        return {
            "openapi": "3.0.0",
            "info": _info(),
            "paths": paths,
            "components": {"schemas": schemas},
        }

    def _add_schema(self, schemas: Json, resource: Resource) -> None:
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        if resource.openapi is not None:
            schema = resource.openapi
            self._add_references(schemas, schema)
        else:
            self._add_component(schemas, resource.component)
            schema = schemas[resource.component]
        schemas[resource.component] = {**schema, "x-kubernetes-group-version-kind": [kind]}
        schemas[f"{resource.component}List"] = {
            "type": "object",
            "description": f"{resource.list_kind} is a list of {resource.kind}",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "items": {"type": "array", "items": {"$ref": _PREFIX + resource.component}},
            },
            "x-kubernetes-group-version-kind": [{**kind, "kind": resource.list_kind}],
        }

    def _add_component(self, schemas: Json, name: str) -> None:
        if name not in schemas:
            held = TYPES.get(name) or self._registry.components[name]
            schemas[name] = presented(name, held)
            self._add_references(schemas, schemas[name])

    def _add_references(self, schemas: Json, schema: Json) -> None:
        for name in _REF.findall(orjson.dumps(schema)):
            self._add_component(schemas, name.decode())


def _info() -> Json:
    return {"title": "Kubernetes", "version": VERSION["gitVersion"]}


def _resource_paths(resource: Resource) -> Json:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    within = (
        f"{root}/namespaces/{{namespace}}/{resource.plural}"
        if resource.namespaced
        else f"{root}/{resource.plural}"
    )
    if "get" not in resource.verbs:
        return {within: {"post": _operation(resource, "post")}}
    paths: Json = {
        within: {
            "get": _operation(resource, "list"),
            "post": _operation(resource, "post"),
            "delete": _operation(resource, "deletecollection"),
        },
        f"{within}/{{name}}": {verb: _operation(resource, verb) for verb in ("get", "put", "patch", "delete")},
    }
    if resource.namespaced:
        paths[f"{root}/{resource.plural}"] = {"get": _operation(resource, "list")}
    for name in resource.subresources:
        if name in ("status", "scale"):
            verbs = ("get", "put", "patch")
            paths[f"{within}/{{name}}/{name}"] = {verb: _operation(resource, verb) for verb in verbs}
    return paths


def _operation(resource: Resource, action: str) -> Json:
    reference = {"$ref": _PREFIX + resource.component}
    operation: Json = {
        "operationId": f"{action}{resource.version.capitalize()}{resource.kind}",
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": resource.group,
            "version": resource.version,
            "kind": resource.kind,
        },
    }
    if action in ("post", "put", "patch"):
        names = ["dryRun", "fieldManager", "fieldValidation", "pretty"] + (["force"] if action == "patch" else [])
        operation["parameters"] = [_parameter(n) for n in names]
        if action == "patch":
            types = [f"application/{t}" for t in _PATCHES if not (resource.custom and t.startswith("strategic"))]
        else:
            types = ["application/json"]
        body = {"type": "object"} if action == "patch" else reference
        operation["requestBody"] = {"content": {t: {"schema": body} for t in types}}
    elif action == "delete":
        names = ["dryRun", "gracePeriodSeconds", "propagationPolicy"]
        operation["parameters"] = [_parameter(n) for n in names]
    return operation


def _parameter(name: str) -> Json:
    kind = {"force": "boolean", "gracePeriodSeconds": "integer"}.get(name, "string")
    return {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}
