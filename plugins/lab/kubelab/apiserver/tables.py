"""Server-side printing: ``meta.k8s.io/v1`` Tables for kubectl, and PartialObjectMetadata."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from kubelab import clock

from . import convert
from .columns import COLUMNS, Column
from .errors import Json
from .reads import Page, list_metadata
from .registry import Resource
from .store import Record, watch_line

_AS = re.compile(r"as=(?P<kind>\w+)")
_STEP = re.compile(
    r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\['(?P<quoted>[^']+)'\]|\[\?\((?P<filter>[^)]*)\)\]|(?P<all>\[\*\])"
)
_FILTER = re.compile(r"@\.(?P<path>[\w.]+)\s*==\s*[\"'](?P<value>[^\"']*)[\"']")


def wanted_form(accept: str) -> str:
    """What the client takes first: ``Table``, ``PartialObjectMetadata[List]`` or empty for plain objects."""
    for offer in accept.split(","):
        if found := _AS.search(offer):
            if "g=meta.k8s.io" in offer.replace(" ", "") and "v=v1beta1" not in offer:
                return found["kind"]
        elif offer.split(";")[0].strip() in ("application/json", "*/*"):
            return ""
    return ""


def columns_of(resource: Resource) -> Sequence[Column]:
    """The printed columns of a resource."""
    if resource.columns is None:
        return COLUMNS.get(resource.collection, COLUMNS[""])
    if not resource.columns:
        return COLUMNS[""]
    name = COLUMNS[""][0]
    return (name, *(_custom(c) for c in resource.columns))


def _custom(spec: Mapping[str, Any]) -> Column:
    path, kind = spec["jsonPath"], spec.get("type", "string")

    def read(obj: Json) -> Any:
        values = json_path(obj, path)
        if not values:
            return None
        if kind == "date":
            return clock.age(str(values[0]))
        if kind == "string":
            texts = [v if isinstance(v, str) else orjson.dumps(v).decode() for v in values]
            return ",".join(texts)
        return values[0]

    priority = int(spec.get("priority", 0))
    return Column(spec["name"], read, kind, priority, spec.get("format", ""), spec.get("description", ""))


def json_path(obj: object, path: str) -> list[Any]:
    """The values at a kubectl JSONPath (names, indexes, ``[*]`` and equality filters)."""
    text = path.strip("{}").replace("\\.", "\x00")
    values = [obj]
    for step in re.finditer(_STEP, text if text.startswith((".", "[")) else "." + text):
        values = [v for value in values for v in _step(value, step)]
    return [v for v in values if v is not None]


def _step(value: object, step: re.Match[str]) -> list[Any]:
    if step["name"] or step["quoted"]:
        name = (step["name"] or step["quoted"]).replace("\x00", ".")
        return [value.get(name)] if isinstance(value, dict) else []
    if not isinstance(value, list):
        return []
    if step["all"]:
        return list(value)
    if step["index"]:
        index = int(step["index"])
        return [value[index]] if index < len(value) else []
    found = _FILTER.match(step["filter"] or "")
    return [v for v in value if found and json_path(v, found["path"]) == [found["value"]]]


def definitions(columns: Sequence[Column]) -> list[Json]:
    """The ``columnDefinitions`` of a table."""
    return [
        {"name": c.name, "type": c.type, "format": c.format, "description": c.description, "priority": c.priority}
        for c in columns
    ]


def _row(resource: Resource, columns: Sequence[Column], record: Record, include: str) -> Json:
    # Columns of built-in kinds read the stored form, those of a CRD version the form of that version.
    obj = convert.to_served(resource, record.load()) if resource.custom else record.load()
    row: Json = {"cells": [_cell(c, obj) for c in columns]}
    if include == "Object":
        row["object"] = convert.to_served(resource, obj)
    elif include != "None":
        row["object"] = partial(obj)
    return row


def _cell(column: Column, obj: Json) -> Any:
    try:
        return column.read(obj)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        return "<unknown>"


def partial(obj: Json) -> Json:
    """The PartialObjectMetadata of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def table(resource: Resource, found: Page, include: str) -> bytes:
    """A page of objects as a Table."""
    columns = columns_of(resource)
    body = {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata(found),
        "columnDefinitions": definitions(columns),
        "rows": [_row(resource, columns, r, include) for r in found.records],
    }
    return orjson.dumps(body)


def partial_list(found: Page) -> bytes:
    """A page of objects as PartialObjectMetadataList."""
    body = {
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata(found),
        "items": [partial(r.load()) for r in found.records],
    }
    return orjson.dumps(body)


def watch_encoder(resource: Resource, form: str, include: str) -> Any:
    """Encodes watch events as Tables or PartialObjectMetadata; None for plain objects."""
    if form == "Table":
        return lambda kind, record: watch_line(kind, table(resource, Page([record], record.revision), include))
    if form.startswith("PartialObjectMetadata"):
        return lambda kind, record: watch_line(kind, orjson.dumps(partial(record.load())))
    return None
