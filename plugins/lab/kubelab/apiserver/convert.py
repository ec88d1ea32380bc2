"""Between stored and served versions: CRD versions differ in name only, Events in their field names."""

import orjson

from .errors import Json
from .registry import Resource
from .store import Record

_EVENT_FIELDS = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)


def to_served(resource: Resource, obj: Json) -> Json:
    """A stored object in the version the client asked for; in place."""
    if resource.api_version == resource.storage_version:
        return obj
    if resource.kind == "Event" and not resource.custom:
        obj = _renamed(obj, dict(_EVENT_FIELDS))
    obj["apiVersion"] = resource.api_version
    return obj


def to_stored(resource: Resource, obj: Json) -> Json:
    """A client's object in the version that is stored; in place."""
    if resource.api_version == resource.storage_version:
        return obj
    if resource.kind == "Event" and not resource.custom:
        obj = _renamed(obj, {new: core for core, new in _EVENT_FIELDS})
    obj["apiVersion"] = resource.storage_version
    return obj


def _renamed(obj: Json, names: dict[str, str]) -> Json:
    return {names.get(name, name): value for name, value in obj.items()}


def encoded(resource: Resource, record: Record) -> bytes:
    """A record's JSON in the served version; the stored bytes themselves whenever they fit."""
    if resource.api_version == resource.storage_version:
        return record.data
    return orjson.dumps(to_served(resource, record.load()))
