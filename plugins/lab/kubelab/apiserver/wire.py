"""Decodes protobuf request bodies: what kubectl 1.32 and newer send for built-in types.

Answers are JSON, which such clients accept, too. :mod:`.messages` is imported when the first such body comes:
protobuf takes 30 ms of processor time to import, and most servers never get one.
"""

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from . import errors
from .errors import Json
from .schema import LIST, MAP, OBJECT, SCALAR, Node

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from .messages import Field, WireType
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


class Decoder:
    """Decodes enveloped objects by their apiVersion and kind."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry
        self._types: dict[str, WireType] = {}

    def decode(self, body: bytes) -> Json:
        """The object of a request body; raises 400 when it isn't one."""
        from google.protobuf.message import DecodeError

        from .messages import envelope

        if not body.startswith(_MAGIC):
            raise errors.bad_request("the body is not a Kubernetes protobuf message")
        try:
            unknown: Any = envelope().FromString(body[len(_MAGIC) :])
            api_version, kind = unknown.typeMeta.apiVersion, unknown.typeMeta.kind
            schema = self._registry.schema_of(api_version, kind)
            if schema is None:
                raise errors.bad_request(f'no kind "{kind}" is registered for version "{api_version}"')
            obj: Json = {"apiVersion": api_version, "kind": kind}
            wire = self._type(schema)
            _members(wire, wire.message.FromString(unknown.raw), obj, schema)
        except (DecodeError, UnicodeDecodeError, ValueError) as error:
            raise errors.bad_request(f"the body is not a valid protobuf message: {error}") from error
        if obj.get("status") == {}:
            del obj["status"]
        return obj

    def _type(self, schema: Node) -> "WireType":
        from .messages import wire_type

        known = self._types.get(schema.name)
        if known is None:
            known = self._types[schema.name] = wire_type(schema)
        return known


def _members(wire: "WireType", message: "Message", obj: Json, node: Node) -> None:
    """Set the members of an object from its message; ``node`` is its schema."""
    fields = wire.fields[message.DESCRIPTOR.full_name]
    for descriptor, value in message.ListFields():
        field, child = fields[descriptor.number]
        if field.inline:
            _members(wire, value, obj, node)
        elif child.shape == LIST:
            obj[field.name] = [_value(wire, child.items, field, item) for item in value]
        elif child.shape == MAP and child.values is not None:
            obj[field.name] = {item.key: _value(wire, child.values, field, item.value) for item in value}
        else:
            found = _value(wire, child, field, value)
            says_something = field.name in _KEEP_ZERO or field.name in node.required
            if found not in (None, "", 0, False) or (says_something and found is not None):
                obj[field.name] = found


def _value(wire: "WireType", node: Node, field: "Field", value: Any) -> Any:
    """The JSON form of one value."""
    if field.quantity or node.quantity:
        return value.string if value.HasField("string") else "0"
    if node.int_or_string:
        return value.strVal if value.type else value.intVal
    if node.shape == LIST:
        return [_value(wire, node.items, field, item) for item in value.items]
    if node.shape == OBJECT:
        members: Json = {}
        _members(wire, value, members, node)
        return members
    if node.shape != SCALAR:
        return orjson.loads(value.raw or b"null")
    match node.checks.get("format"):
        case "date-time":
            return _time(value.seconds, value.nanos, field.name in _MICRO) if value.ListFields() else None
        case "byte":
            return base64.b64encode(value).decode()
    return value


def _time(seconds: int, nanos: int, micro: bool) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    if micro:
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos // 1000:06d}Z"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
