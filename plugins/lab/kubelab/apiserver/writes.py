"""Create, update and patch: decoding, defaults, admission, validation, ownership, storing."""

import base64
import secrets
import uuid

import orjson

from kubelab.clock import now

from . import admission, convert, crds, errors, managed, patch, rules
from .defaults import apply_defaults
from .errors import ApiError, FieldProblem, Json
from .managed import Writer
from .registry import Resource
from .request import Request
from .state import Cluster
from .store import Record
from .validate import Findings, clean, validate

_FIXED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "generateName",
)
_NO_GENERATION = frozenset(
    {"namespaces", "nodes", "services", "persistentvolumeclaims", "persistentvolumes", "pods"}
)
_STATUS_ON_CREATE = frozenset({"nodes", "namespaces"})
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_UNCHECKED = frozenset({"apiVersion", "kind", "metadata", "status"})


class Writes:
    """The write verbs on whole objects and their status."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.store

    def create(self, request: Request, resource: Resource, obj: Json) -> bytes:
        """Store a new object; returns it encoded."""
        self._identify(request, resource, obj)
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(secrets.choice(_ALPHABET) for _ in range(5))
            metadata["name"] = metadata["generateName"][:58] + suffix
        if metadata.pop("resourceVersion", None):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        metadata.pop("managedFields", None)
        self._decode(request, resource, obj)
        record = self._insert(request, resource, obj, None)
        return record if isinstance(record, bytes) else convert.encoded(resource, record)

    def _insert(self, request: Request, resource: Resource, obj: Json, owners: object) -> Record | bytes:
        metadata = obj["metadata"]
        collection = self._store.collection(resource.collection)
        if resource.has_status and resource.collection not in _STATUS_ON_CREATE:
            obj.pop("status", None)
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        if ("spec" in obj or resource.custom) and resource.collection not in _NO_GENERATION:
            metadata["generation"] = 1
        else:
            metadata.pop("generation", None)
        obj = convert.to_stored(resource, obj)
        problems = rules.name_problems(resource, metadata.get("name", ""))
        if problems:
            raise errors.invalid(resource.kind, resource.group, metadata.get("name", ""), problems)
        admission.admit_create(self._store, resource, obj)
        if (metadata.get("namespace", ""), metadata["name"]) in collection.objects:
            raise errors.already_exists(resource.plural, resource.group, metadata["name"])
        self._complete(request, resource, obj, None)
        if owners is None:
            managed.track_update(resource.schema, None, obj, self._writer(request, resource))
        if request.dry_run:
            return orjson.dumps(convert.to_served(resource, obj))
        return self._store.put(collection, obj, None)

    def update(self, request: Request, resource: Resource, old: Record, obj: Json) -> bytes:
        """Replace an object or its status; returns it encoded."""
        self._identify(request, resource, obj)
        version = obj["metadata"].get("resourceVersion")
        if not version and resource.custom:
            problem = FieldProblem.invalid("metadata.resourceVersion", 0, "must be specified for an update")
            raise errors.invalid(resource.kind, resource.group, old.name, [problem])
        self._decode(request, resource, obj)
        return self.replace(request, resource, old, obj)

    def patch(self, request: Request, resource: Resource, old: Record | None) -> bytes:
        """Patch an object by the body's media type; apply also creates."""
        kind = request.content_type
        if kind == "application/apply-patch+yaml":
            return self._apply(request, resource, old)
        if old is None:
            raise errors.not_found(resource.plural, resource.group, request.name)
        body = request.decode_any()
        current = convert.to_served(resource, old.load())
        new = apply_patch(resource, kind, current, body)
        self._identify(request, resource, new)
        self._decode(request, resource, new)
        return self.replace(request, resource, old, new)

    def _apply(self, request: Request, resource: Resource, old: Record | None) -> bytes:
        if not request.query.get("fieldManager"):
            text = "fieldManager: Required value: is required for apply patch"
            raise ApiError(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: {text}', {})
        config = request.decode()
        self._identify(request, resource, config)
        metadata = config["metadata"]
        if metadata.get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        metadata.pop("managedFields", None)
        version, uid = metadata.pop("resourceVersion", None), metadata.pop("uid", None)
        for name in ("creationTimestamp", "generation"):
            metadata.pop(name, None)
        self._decode(request, resource, config, defaults=False)
        if request.subresource != "status" and resource.has_status:
            config.pop("status", None)
        if old is None and version not in (None, "", "0"):
            raise errors.conflict(resource.plural, resource.group, request.name)
        live: Json = convert.to_served(resource, old.load()) if old else {"metadata": {}}
        naming = (resource.plural, resource.group, request.name)
        writer = self._writer(request, resource)
        new = managed.apply(resource.schema, live, config, writer, request.flag("force"), naming)
        self._decode(request, resource, new)
        if old is None:
            if request.subresource:
                raise errors.not_found(resource.plural, resource.group, request.name)
            record = self._insert(request, resource, new, owners=True)
            return record if isinstance(record, bytes) else convert.encoded(resource, record)
        if uid:
            new["metadata"]["uid"] = uid
        if version:
            new["metadata"]["resourceVersion"] = version
        return self.replace(request, resource, old, new, tracked=True)

    def replace(
        self, request: Request, resource: Resource, old: Record, obj: Json, tracked: bool = False
    ) -> bytes:
        """Store the next version of an object, after all checks; a write that changes nothing isn't one."""
        before = old.load()
        new = self._prepare(request, resource, old, before, convert.to_stored(resource, obj))
        self._complete(request, resource, new, before)
        if not tracked:
            managed.track_update(resource.schema, before, new, self._writer(request, resource))
        new["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        _count_generation(resource, before, new)
        if request.dry_run:
            return orjson.dumps(convert.to_served(resource, new))
        if new == before:
            return convert.encoded(resource, old)
        collection = self._store.collection(resource.collection)
        record = self._store.put(collection, new, old)
        if record.deleting and not new["metadata"].get("finalizers") and _finished(resource, new):
            record = self._store.remove(collection, record, new)
        return convert.encoded(resource, record)

    def _prepare(self, request: Request, resource: Resource, old: Record, before: Json, new: Json) -> Json:
        """Keep what this write may not touch, check its preconditions."""
        metadata, held = new["metadata"], before["metadata"]
        naming = (resource.plural, resource.group, old.name)
        if metadata.get("resourceVersion") not in (None, "", "0", held["resourceVersion"]):
            raise errors.conflict(*naming)
        if metadata.get("uid") not in (None, "", old.uid):
            text = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {old.uid}"
            raise errors.conflict(*naming, text)
        if request.subresource == "status":
            if resource.custom:
                entries = metadata.get("managedFields")
                new = {**before, "status": new.get("status"), "metadata": dict(held)}
                if entries is not None:
                    new["metadata"]["managedFields"] = entries
            else:
                new = {**before, "metadata": metadata, "status": new.get("status")}
            if new["status"] is None:
                del new["status"]
        elif resource.has_status:
            new.pop("status", None)
            if "status" in before:
                new["status"] = before["status"]
        metadata = new["metadata"]
        for name in (*_FIXED, "generation"):
            metadata.pop(name, None)
            if name in held:
                metadata[name] = held[name]
        if old.deleting and set(metadata.get("finalizers") or ()) - set(held.get("finalizers") or ()):
            text = "no new finalizers can be added if the object is being deleted"
            problem = FieldProblem.forbidden("metadata.finalizers", text)
            raise errors.invalid(resource.kind, resource.group, old.name, [problem])
        return new

    def _identify(self, request: Request, resource: Resource, obj: Json) -> None:
        """Fit an object's identity to the request's path."""
        for name, wanted in (("apiVersion", resource.api_version), ("kind", resource.kind)):
            if obj.get(name, wanted) != wanted:
                text = f"the {name} in the data ({obj[name]}) does not match the expected {name} ({wanted})"
                raise errors.bad_request(text)
            obj[name] = wanted
        metadata = obj.get("metadata")
        if metadata is None:
            metadata = obj["metadata"] = {}
        if not isinstance(metadata, dict):
            raise errors.bad_request("metadata must be an object")
        if resource.namespaced:
            if metadata.get("namespace") not in (None, "", request.namespace):
                text = "the namespace of the provided object does not match the namespace sent on the request"
                raise errors.bad_request(text)
            metadata["namespace"] = request.namespace
        else:
            metadata.pop("namespace", None)
        if request.name and request.method != "POST":
            if metadata.get("name", request.name) != request.name:
                raise errors.bad_request(_name_mismatch(metadata["name"], request.name))
            metadata["name"] = request.name

    def _decode(self, request: Request, resource: Resource, obj: Json, defaults: bool = True) -> None:
        """Prune to the schema, report unknown fields as asked, refuse wrong types of built-ins (400)."""
        found = Findings(defaults=defaults)
        clean(resource.schema, obj, "", found, metadata=True)
        unknown = [f'unknown field "{name}"' for name in found.unknown]
        mode = request.query.get("fieldValidation", "Warn")
        if unknown and mode == "Strict":
            text = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            raise errors.bad_request(text + f"strict decoding error: {', '.join(unknown)}")
        if unknown and mode == "Warn":
            request.warnings += unknown
        typed = Findings()
        if resource.custom:
            validate(resource.schema.properties["metadata"], obj["metadata"], "metadata", typed)
        else:
            validate(resource.schema, obj, "", typed)
        request.sound = not typed.problems
        wrong = [p for p in typed.problems if p.reason == "FieldValueTypeInvalid"]
        if wrong:
            text = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            raise errors.bad_request(text + f"json: cannot unmarshal: {wrong[0]}")

    def _complete(self, request: Request, resource: Resource, obj: Json, old: Json | None) -> None:
        """Defaults, service addresses and validation (422)."""
        metadata = obj["metadata"]
        problems = rules.metadata_problems(metadata)
        if resource.custom:
            found = Findings()
            validate(resource.schema, obj, "", found, frozenset({"metadata"}))
            if resource.name_schema is not None:
                validate(resource.name_schema, metadata["name"], "metadata.name", found)
            problems += found.problems
        else:
            problems += self._complete_builtin(request, resource, obj, old)
        if problems:
            raise errors.invalid(resource.kind, resource.group, metadata["name"], problems)

    def _complete_builtin(
        self, request: Request, resource: Resource, obj: Json, old: Json | None
    ) -> list[FieldProblem]:
        if resource.collection == crds.CRDS:
            crds.complete(obj)
        elif resource.collection == "secrets":
            _merge_string_data(obj)
        apply_defaults(resource.collection, obj)
        found = Findings()
        if not request.sound:
            validate(resource.schema, obj, "", found, _UNCHECKED)
        problems = [p for p in found.problems if not p.path.endswith("metadata")]
        problems = problems or rules.object_problems(resource, obj, old)
        if not problems and resource.collection == "services":
            self._cluster.addresses.complete(obj, old)
        if not problems and resource.collection == crds.CRDS:
            crds.accept(obj)
        return problems

    def _writer(self, request: Request, resource: Resource) -> Writer:
        return Writer(request.manager, resource.api_version, request.subresource)


def apply_patch(resource: Resource, kind: str, current: Json, body: object) -> Json:
    """``current`` after a patch of media type ``kind``; raises 400, 415 or 422."""
    if kind == "application/json-patch+json":
        return patch.json_patch(current, body)
    if not isinstance(body, dict):
        raise errors.bad_request("error decoding patch: the patch must be an object")
    if kind == "application/merge-patch+json":
        merged: Json = patch.merge_patch(current, body)
        return merged
    if kind == "application/strategic-merge-patch+json" and not resource.custom:
        return patch.strategic_merge(resource.schema, current, body)
    accepted = [t for t in PATCH_TYPES if not (resource.custom and "strategic" in t)]
    raise errors.unsupported_media_type(kind, accepted)


def _count_generation(resource: Resource, before: Json, new: Json) -> None:
    if "generation" not in before["metadata"] or resource.collection in _NO_GENERATION:
        return
    ignored = {"metadata", "status"} if resource.has_status else {"metadata"}
    names = {*before, *new} - ignored
    if any(before.get(n) != new.get(n) for n in names):
        new["metadata"]["generation"] = before["metadata"]["generation"] + 1


def _finished(resource: Resource, obj: Json) -> bool:
    """Whether nothing but finalizers keeps a deleted object: pods stay for their grace period."""
    if resource.collection == "namespaces":
        return not (obj.get("spec") or {}).get("finalizers")
    return not obj["metadata"].get("deletionGracePeriodSeconds")


def _merge_string_data(secret: Json) -> None:
    for name, text in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _name_mismatch(given: str, wanted: str) -> str:
    return f"the name of the object ({given}) does not match the name on the URL ({wanted})"
