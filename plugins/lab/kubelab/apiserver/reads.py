"""Get and list: consistent pages, selectors, resourceVersion rules."""

import base64
from collections.abc import Sequence

import orjson
from attrs import frozen

from . import convert, errors
from .errors import ApiError, Json
from .registry import Resource
from .request import Request
from .selectors import FIELD_LABELS, Selection, check_fields, parse_fields, parse_labels, read_path
from .store import Collection, Key, Record


@frozen
class Page:
    """One answer to a list: the records, the revision they are of, where the next page starts."""

    records: Sequence[Record]
    revision: int
    token: str = ""
    remaining: int | None = None


def selection(request: Request, resource: Resource) -> Selection:
    """What a list or watch asks for; raises 400 for selectors that cannot be served."""
    fields = parse_fields(request.query.get("fieldSelector", ""))
    if request.name:
        fields += parse_fields(f"metadata.name={request.name}")
    known = tuple(FIELD_LABELS.get(resource.collection, ())) + resource.selectable
    if resource.api_version == "events.k8s.io/v1":
        known += tuple(k.replace("involvedObject", "regarding") for k in known)
    check_fields(fields, known)

    def read(record: Record, key: str) -> str:
        return read_path(convert.to_served(resource, record.load()), key)

    needs_reader = bool(resource.selectable) or resource.api_version != resource.storage_version
    labels = parse_labels(request.query.get("labelSelector", ""))
    return Selection(request.namespace, labels, fields, read if needs_reader else None)


def page(request: Request, collection: Collection, wanted: Selection, revision: int) -> Page:
    """The records a list asks for.

    Raises :class:`~.errors.ApiError`: 410 when a continue token or an exact revision is older than the history,
    400 for a malformed one.
    """
    start: Key | None = None
    objects = collection.objects
    token = request.query.get("continue", "")
    exact = request.query.get("resourceVersionMatch") == "Exact"
    given = request.query.get("resourceVersion", "")
    if token:
        revision, start = _decode_token(token)
        objects = _as_of(collection, revision, token=True)
    elif given and given != "0":
        asked = parse_revision(given)
        if asked > revision:
            raise _too_large(asked, revision)
        if exact:
            revision, objects = asked, _as_of(collection, asked, token=False)
    keys = sorted(objects)
    if start is not None:
        keys = [k for k in keys if k > start]
    records = (
        [r for k in keys if wanted.matches(r := objects[k])]
        if not wanted.everything
        else [objects[k] for k in keys]
    )
    limit = int(request.query.get("limit") or 0)
    if not limit or len(records) <= limit:
        return Page(records, revision)
    kept = records[:limit]
    remaining = len(records) - limit if not (wanted.labels or wanted.fields) else None
    return Page(kept, revision, _encode_token(revision, kept[-1].key), remaining)


def encode(resource: Resource, found: Page) -> bytes:
    """The list as JSON, made of the records' own bytes."""
    items = b",".join([convert.encoded(resource, r) for r in found.records])
    head = orjson.dumps(
        {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": list_metadata(found)}
    )
    return head[:-1] + b',"items":[' + items + b"]}"


def list_metadata(found: Page) -> Json:
    """The ``ListMeta`` of a page."""
    metadata: Json = {"resourceVersion": str(found.revision)}
    if found.token:
        metadata["continue"] = found.token
        if found.remaining is not None:
            metadata["remainingItemCount"] = found.remaining
    return metadata


def parse_revision(text: str) -> int:
    """A resourceVersion parameter as a number; raises 400."""
    if not text.isdigit():
        raise errors.bad_request(f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}"')
    return int(text)


def _too_large(asked: int, revision: int) -> ApiError:
    message = f"Too large resource version: {asked}, current: {revision}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return ApiError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1}, {"Retry-After": "1"})


def _as_of(collection: Collection, revision: int, token: bool) -> dict[Key, Record]:
    try:
        return collection.at(revision)
    except ApiError as error:
        if not token:
            raise
        text = (
            "The provided continue parameter is too old to display a consistent list result. You can start a new "
            "list without the continue parameter."
        )
        raise errors.expired(text) from error


def _encode_token(revision: int, key: Key) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([revision, *key])).decode()


def _decode_token(token: str) -> tuple[int, Key]:
    try:
        revision, namespace, name = orjson.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise errors.bad_request(f"continue key is not valid: {error}") from error
    return revision, (namespace, name)
