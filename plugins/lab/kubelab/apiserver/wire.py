"""Decodes protobuf request bodies: what kubectl 1.32 and newer send for built-in types.

Answers stay JSON, which such clients take too. The types come from the JSON schemas, the field numbers from
``wire_fields.txt``.
"""

import base64
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

import orjson
from attrs import frozen

from . import errors
from .errors import Json
from .schema import ANY, LIST, MAP, OBJECT, UNTYPED, Node

if TYPE_CHECKING:
    from .registry import Registry

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
# The wire has zeros of every plain field; only of these does a zero say something (they are pointers in Go).
_KEEP_ZERO = frozenset(
    [
        "activeDeadlineSeconds",
        "allocateLoadBalancerNodePorts",
        "allowPrivilegeEscalation",
        "automountServiceAccountToken",
        "backoffLimit",
        "blockOwnerDeletion",
        "completions",
        "controller",
        "defaultMode",
        "enableServiceLinks",
        "expirationSeconds",
        "gracePeriodSeconds",
        "hostUsers",
        "immutable",
        "leaseDurationSeconds",
        "leaseTransitions",
        "minReplicas",
        "mode",
        "optional",
        "orphanDependents",
        "parallelism",
        "partition",
        "privileged",
        "progressDeadlineSeconds",
        "readOnlyRootFilesystem",
        "ready",
        "replicas",
        "revisionHistoryLimit",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
        "serving",
        "setHostnameAsFQDN",
        "shareProcessNamespace",
        "suspend",
        "terminating",
        "terminationGracePeriodSeconds",
        "tolerationSeconds",
        "ttlSecondsAfterFinished",
        "value",
        "weight",
    ]
)
_MICRO = frozenset({"eventTime", "acquireTime", "renewTime", "lastObservedTime"})


@frozen
class _Field:
    name: str
    quantity: bool = False
    inline: bool = False


class Decoder:
    """Decodes enveloped objects by their apiVersion and kind."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry
        self._rows: dict[str, dict[int, _Field]] = {}

    def decode(self, body: bytes) -> Json:
        """The object of a request body; raises 400 when it isn't one."""
        if not body.startswith(_MAGIC):
            raise errors.bad_request("the body is not a Kubernetes protobuf message")
        try:
            envelope = dict(_read(body[len(_MAGIC) :]))
            types = {number: value.decode() for number, value in _read(envelope.get(1, b""))}
            api_version, kind = types.get(1, ""), types.get(2, "")
            schema = self._registry.schema_of(api_version, kind)
            if schema is None:
                raise errors.bad_request(f'no kind "{kind}" is registered for version "{api_version}"')
            obj: Json = {"apiVersion": api_version, "kind": kind}
            self._message(schema, envelope.get(2, b""), schema.name, obj)
        except (IndexError, UnicodeDecodeError, AttributeError, struct.error, ValueError) as error:
            raise errors.bad_request(f"the body is not a valid protobuf message: {error}") from error
        if obj.get("status") == {}:
            del obj["status"]
        return obj

    def _fields(self, row: str) -> dict[int, _Field]:
        if not self._rows:
            text = resources.files(__package__).joinpath("wire_fields.txt").read_text()
            for line in text.splitlines():
                if not line.startswith("#"):
                    name, _, listed = line.partition(":")
                    self._rows[name] = _parse_row(listed)
        return self._rows.get(row) or self._rows.get(_short(row)) or {}

    def _message(self, node: Node, data: bytes, row: str, obj: Json) -> None:
        fields = self._fields(row)
        for number, raw in _read(data):
            field = fields.get(number)
            if field is None:
                continue
            if field.inline:
                self._message(node, raw, field.name, obj)
                continue
            self._member(node.child(field.name), field, raw, obj, field.name in node.required)

    def _member(self, node: Node, field: _Field, raw: Any, obj: Json, required: bool) -> None:
        if node.shape == LIST:
            obj.setdefault(field.name, []).append(self._value(node.items, field, raw))
        elif node.shape == MAP and node.values is not None:
            entry = dict(_read(raw))
            key = entry.get(1, b"").decode()
            obj.setdefault(field.name, {})[key] = self._value(node.values, field, entry.get(2, b""))
        else:
            value = self._value(node, field, raw)
            zero = value is None or value in ("", 0, False)
            if not zero or (field.name in _KEEP_ZERO and value is not None) or (required and value is not None):
                obj[field.name] = value

    def _value(self, node: Node, field: _Field, raw: Any) -> Any:
        if field.quantity or node.quantity:
            return dict(_read(raw)).get(1, b"0").decode()
        if node.int_or_string:
            parts = dict(_read(raw))
            return parts.get(3, b"").decode() if parts.get(1) else _signed(parts.get(2, 0))
        if node.shape == LIST:
            return [self._value(node.items, field, item) for _, item in _read(raw)]
        if node.shape == OBJECT:
            value: Json = {}
            self._message(node, raw, node.name, value)
            return value
        if node.shape == ANY or node is UNTYPED:
            return orjson.loads(dict(_read(raw)).get(1, b"null")) if raw else None
        return _scalar(node, field.name, raw)


def _scalar(node: Node, name: str, raw: Any) -> Any:
    form = node.checks.get("format")
    if form == "date-time":
        parts = dict(_read(raw))
        return _time(_signed(parts.get(1, 0)), parts.get(2, 0), name in _MICRO) if parts else None
    if form == "byte":
        return base64.b64encode(raw).decode()
    match node.json:
        case "boolean":
            return bool(raw)
        case "integer":
            return _signed(raw)
        case "number":
            return struct.unpack("<d", raw)[0] if isinstance(raw, bytes) else raw
    return raw.decode()


def _time(seconds: int, nanos: int, micro: bool) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    if micro:
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos // 1000:06d}Z"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _read(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: numbers with integers (varint) or bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        match tag & 7:
            case 0:
                value, position = _varint(data, position)
                yield tag >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, position = _varint(data, position)
            case 5:
                size = 4
            case wire_type:
                raise ValueError(f"wire type {wire_type}")
        if position + size > len(data):
            raise ValueError("cut short")
        yield tag >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _parse_row(listed: str) -> dict[int, _Field]:
    fields = {}
    number = 1
    for word in listed.split():
        head, separator, name = word.rpartition("=")
        if separator:
            number = int(head)
        fields[number] = _Field(name.strip("+~"), name.endswith("~"), name.startswith("+"))
        number += 1
    return fields


def _short(name: str) -> str:
    """``Pod`` for ``io.k8s.api.meta.v1.Pod``, ``core.v1.Event`` for ``io.k8s.api.core.v1.Event``."""
    return name.removeprefix("io.k8s.api.").removeprefix("meta.v1.")
