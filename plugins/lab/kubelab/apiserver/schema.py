"""Compiled schemas: one tree of nodes per type, used by decoding, validation, merging and field ownership.

A node is made from an OpenAPI v3 schema: of the built-in types (with ``$ref``) or of a CRD (structural).
"""

import re
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from .errors import Json

OBJECT, MAP, LIST, SCALAR, ANY = "object", "map", "list", "scalar", "any"

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
_CHECKS = frozenset(
    [
        "enum",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "format",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ]
)


@define(slots=True, eq=False)
class Node:
    """One type: ``shape`` is how values nest, ``json`` their type (empty: any), ``name`` its component."""

    shape: str = ANY
    name: str = ""
    json: str = ""
    types: tuple[type, ...] = ()
    properties: dict[str, "Node"] = field(factory=dict)
    values: "Node | None" = None
    required: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(factory=dict)
    preserve: bool = False
    nullable: bool = False
    embedded: bool = False
    int_or_string: bool = False
    quantity: bool = False
    atomic: bool = False
    list_keys: tuple[str, ...] = ()
    key_defaults: dict[str, Any] = field(factory=dict)
    is_set: bool = False
    merge_key: str = ""
    merge: bool = False
    checks: Json = field(factory=dict)
    pattern: re.Pattern[str] | None = None

    def child(self, name: str) -> "Node":
        """The node of a member (property or map value); an untyped one when unknown."""
        return self.properties.get(name) or self.values or UNTYPED

    @property
    def items(self) -> "Node":
        """The node of a list's elements."""
        return self.values or UNTYPED


UNTYPED = Node(preserve=True)


class Compiler:
    """Turns OpenAPI schemas into nodes; a ``$ref`` is compiled once, so recursive types work."""

    def __init__(self, components: Mapping[str, Json] | None = None) -> None:
        self._components = components or {}
        self._done: dict[str, Node] = {}

    def ref(self, name: str) -> Node:
        """The node of a named component."""
        node = self._done.get(name)
        if node is None:
            node = self._done[name] = Node(name=name)
            self._fill(node, self._components[name])
        return node

    def compile(self, schema: Json) -> Node:
        """The node of a schema."""
        target = schema.get("$ref")
        if target is None and len(schema.get("allOf", ())) == 1 and "type" not in schema:
            target = schema["allOf"][0].get("$ref")
        if target is not None:
            name = target.rsplit("/", 1)[-1]
            decorated = {k: v for k, v in schema.items() if k.startswith("x-kubernetes-") or k == "nullable"}
            if not decorated:
                return self.ref(name)
            return self._fill(Node(name=name), {**self._components[name], **decorated})
        return self._fill(Node(), schema)

    def _fill(self, node: Node, schema: Json) -> Node:
        node.json = schema.get("type", "")
        node.types = _TYPES.get(node.json, ())
        node.nullable = bool(schema.get("nullable"))
        node.preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        node.embedded = bool(schema.get("x-kubernetes-embedded-resource"))
        node.int_or_string = bool(schema.get("x-kubernetes-int-or-string"))
        node.quantity = bool(schema.get("x-kubelab-quantity"))
        self._merging(node, schema)
        if node.int_or_string:
            node.shape, node.json, node.types = SCALAR, "", ()
        elif node.json == "object" or (not node.json and "properties" in schema):
            self._object(node, schema)
        elif node.json == "array":
            node.shape = LIST
            node.values = self.compile(schema.get("items") or {})
        elif node.json:
            node.shape = SCALAR
        else:
            node.preserve = True
        node.checks = {k: v for k, v in schema.items() if k in _CHECKS}
        if "pattern" in node.checks:
            node.pattern = _pattern(node.checks["pattern"])
        return node

    def _merging(self, node: Node, schema: Json) -> None:
        kind = schema.get("x-kubernetes-list-type", "")
        node.is_set = kind == "set"
        if kind == "map":
            node.list_keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        node.atomic = kind == "atomic" or schema.get("x-kubernetes-map-type") == "atomic"
        strategy = schema.get("x-kubernetes-patch-strategy", "")
        node.merge = "merge" in strategy
        node.merge_key = schema.get("x-kubernetes-patch-merge-key", "")

    def _object(self, node: Node, schema: Json) -> None:
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            node.values = self.compile(additional)
        elif additional is True:
            node.values = UNTYPED
        node.shape = MAP if node.values is not None and "properties" not in schema else OBJECT
        node.required = tuple(schema.get("required", ()))
        for name, sub in (schema.get("properties") or {}).items():
            node.properties[name] = self.compile(sub)
            if "default" in sub:
                node.defaults[name] = sub["default"]


def finish_list_keys(node: Node, seen: set[int] | None = None) -> None:
    """Note the defaults of list keys (a port's ``protocol``), so that items name themselves without them."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    if node.list_keys:
        node.key_defaults = {k: v for k, v in node.items.defaults.items() if k in node.list_keys}
    for sub in node.properties.values():
        finish_list_keys(sub, seen)
    if node.values is not None:
        finish_list_keys(node.values, seen)


def _pattern(text: str) -> re.Pattern[str] | None:
    """The pattern compiled; None when it uses RE2 syntax that Python's engine doesn't know."""
    try:
        return re.compile(text.replace(r"\z", r"\Z"))
    except re.error:
        return None
