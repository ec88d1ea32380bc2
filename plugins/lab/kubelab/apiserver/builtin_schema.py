"""OpenAPI schemas of the built-in types, made from the model classes of the official Kubernetes client.

Every model has ``openapi_types`` (its fields' types), ``attribute_map`` (their JSON names), texts and required
markers. What the models don't have comes from :mod:`.builtin_hints`.
"""

import re
from typing import Any

import kubernetes.client as models

from . import builtin_hints as hints
from .errors import Json

_MODEL = re.compile(r"^(?P<prefix>[A-Za-z]*?)V(?P<version>\d(?:(?:alpha|beta)\d)?)(?P<name>[A-Z]\w*)$")
_CONTAINER = re.compile(r"^(?P<outer>[Ll]ist|[Dd]ict)[\[(](?P<inner>.*)[\])]$")
_SCALARS: dict[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "bytes": {"type": "string", "format": "byte"},
    "bytearray": {"type": "string", "format": "byte"},
    "object": {"x-kubernetes-preserve-unknown-fields": True},
}


def component_name(model: str) -> str:
    """``io.k8s.api.core.v1.Event`` for ``CoreV1Event``: the name a schema has in the OpenAPI document."""
    found = _MODEL.match(model)
    if found is None:
        return f"io.k8s.api.meta.v1.{model}"
    return f"io.k8s.api.{found['prefix'].lower() or 'meta'}.v{found['version']}.{found['name']}"


def short_name(model: str) -> str:
    """``PodSpec`` for ``V1PodSpec``: how the hints name a type."""
    found = _MODEL.match(model)
    return found["name"] if found else model


class BuiltinSchemas:
    """Collects the components that the given root models need."""

    def __init__(self) -> None:
        self.components: dict[str, Json] = {}

    def add(self, model: str) -> str:
        """Make the component of a model and all it refers to; returns its name."""
        name = component_name(model)
        if name not in self.components:
            self.components[name] = {}
            self.components[name].update(self._schema(model, getattr(models, model)))
        return name

    @staticmethod
    def name_of(model: str) -> str:
        """The component name of a model."""
        return component_name(model)

    def _schema(self, model: str, cls: Any) -> Json:
        owner = short_name(model)
        properties: Json = {}
        required = []
        for attribute, json_name in cls.attribute_map.items():
            kind = cls.openapi_types[attribute]
            properties[json_name] = self._field(owner, json_name, kind, _text(cls, attribute))
            if _required(cls, attribute) and f"{owner}.{json_name}" not in hints.NOT_ENFORCED:
                required.append(json_name)
        schema: Json = {"type": "object", "description": _class_text(cls), "properties": properties}
        if required:
            schema["required"] = required
        if owner in hints.ATOMIC_MAPS:
            schema["x-kubernetes-map-type"] = "atomic"
        return schema

    def _field(self, owner: str, name: str, kind: str, text: str) -> Json:
        schema = self._type(kind)
        path = f"{owner}.{name}"
        if kind == "object" and name in hints.INT_OR_STRING:
            schema = {"type": "string", "format": "int-or-string", "x-kubernetes-int-or-string": True}
        if name in hints.QUANTITY_MAPS and schema.get("type") == "object" and "additionalProperties" in schema:
            schema["additionalProperties"] = {"type": "string", "x-kubelab-quantity": True}
        elif name in hints.QUANTITIES:
            schema = {"type": "string", "x-kubelab-quantity": True}
        if "$ref" in schema:
            schema = {"allOf": [schema]}
        if text:
            schema["description"] = text
        if path in hints.DEFAULTS:
            schema["default"] = hints.DEFAULTS[path]
        schema.update(_merge_hints(path, schema))
        return schema

    def _type(self, kind: str) -> Json:
        if found := _CONTAINER.match(kind):
            if found["outer"].lower() == "list":
                return {"type": "array", "items": self._type(found["inner"])}
            return {"type": "object", "additionalProperties": self._type(found["inner"].split(",", 1)[1].strip())}
        if kind in _SCALARS:
            return dict(_SCALARS[kind])
        return {"$ref": f"#/components/schemas/{self.add(kind)}"}


def _merge_hints(path: str, schema: Json) -> Json:
    found: Json = {}
    if schema.get("type") == "array":
        if path in hints.LIST_MAPS:
            found = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(hints.LIST_MAPS[path])}
        elif path in hints.LIST_SETS:
            found = {"x-kubernetes-list-type": "set"}
        else:
            found = {"x-kubernetes-list-type": "atomic"}
    elif path in hints.ATOMIC_MAPS:
        found = {"x-kubernetes-map-type": "atomic"}
    strategy = []
    if path in hints.PATCH_MERGE:
        strategy.append("merge")
        if hints.PATCH_MERGE[path]:
            found["x-kubernetes-patch-merge-key"] = hints.PATCH_MERGE[path]
    if path in hints.RETAIN_KEYS:
        strategy.append("retainKeys")
    if strategy:
        found["x-kubernetes-patch-strategy"] = ",".join(strategy)
    return found


def _required(cls: object, attribute: str) -> bool:
    fields = getattr(cls, "model_fields", None)
    if fields is not None:
        return bool(attribute in fields and fields[attribute].is_required())
    setter = getattr(cls, attribute).fset
    return any(isinstance(c, str) and "must not be `None`" in c for c in setter.__code__.co_consts)


def _text(cls: object, attribute: str) -> str:
    fields = getattr(cls, "model_fields", None)
    if fields is not None:
        return (fields[attribute].description or "") if attribute in fields else ""
    lines = (getattr(cls, attribute).__doc__ or "").replace("  # noqa: E501", "").split("\n\n")
    return lines[1].strip() if len(lines) > 2 else ""


def _class_text(cls: object) -> str:
    text = (cls.__doc__ or "").split("Attributes:")[0].strip()
    return "" if text.startswith("NOTE: This class is auto generated") else text
