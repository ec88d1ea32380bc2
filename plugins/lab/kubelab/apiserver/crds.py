"""CustomResourceDefinitions: their validation, their status and the resources they add."""

import copy
from typing import Any

import structlog

from kubelab.clock import now

from .errors import FieldProblem, Json
from .registry import Registry, Resource, version_rank
from .schema import Compiler, finish_list_keys
from .store import Record, Store

log = structlog.get_logger()

_TYPES = ("", "array", "boolean", "integer", "number", "object", "string")
CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def complete(crd: Json) -> None:
    """Fill in what a CRD leaves out: singular, list kind, conversion."""
    spec = crd.get("spec")
    if not spec:
        return
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})


def problems(crd: Json) -> list[FieldProblem]:
    """What kube-apiserver would reject in a CRD."""
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    found = []
    wanted = f"{names.get('plural', '')}.{spec.get('group', '')}"
    if crd["metadata"]["name"] != wanted:
        text = 'must be spec.names.plural+"."+spec.group'
        found.append(FieldProblem.invalid("metadata.name", crd["metadata"]["name"], text))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        found.append(FieldProblem.unsupported("spec.scope", spec.get("scope", ""), ["Cluster", "Namespaced"]))
    versions = spec.get("versions") or []
    if sum(bool(v.get("storage")) for v in versions) != 1:
        text = "must have exactly one version marked as storage version"
        found.append(FieldProblem.invalid("spec.versions", versions, text))
    for i, version in enumerate(versions):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        path = f"spec.versions[{i}].schema.openAPIV3Schema"
        if schema is None:
            found.append(FieldProblem.required(path, "schemas are required"))
        elif schema.get("type") != "object":
            text = 'must be "object" at the root'
            found.append(FieldProblem.invalid(f"{path}.type", schema.get("type", ""), text))
        else:
            found += _structural(schema, path)
    return found


def _structural(schema: object, path: str) -> list[FieldProblem]:
    """What makes a schema invalid: sub-schemas that aren't objects, references, unknown types."""
    if not isinstance(schema, dict):
        return [FieldProblem.wrong_type(path, schema, "object")]
    if "$ref" in schema:
        return [FieldProblem.forbidden(f"{path}.$ref", "$ref is not supported")]
    found = []
    kind = schema.get("type", "")
    if kind not in _TYPES:
        found.append(FieldProblem.unsupported(f"{path}.type", kind, _TYPES[1:]))
    for name, sub in (schema.get("properties") or {}).items():
        found += _structural(sub, f"{path}.properties[{name}]")
    if schema.get("items") is not None:
        found += _structural(schema["items"], f"{path}.items")
    elif kind == "array":
        found.append(FieldProblem.required(f"{path}.items", "must be specified"))
    additional = schema.get("additionalProperties")
    if additional is not None and not isinstance(additional, bool):
        found += _structural(additional, f"{path}.additionalProperties")
    for word in ("allOf", "anyOf", "oneOf"):
        for i, sub in enumerate(schema.get(word) or []):
            found += _structural(sub, f"{path}.{word}[{i}]")
    if schema.get("not") is not None:
        found += _structural(schema["not"], f"{path}.not")
    return found


def accept(crd: Json) -> None:
    """Set the status that says the CRD is served."""
    status = crd.setdefault("status", {})
    status["acceptedNames"] = copy.deepcopy(crd["spec"]["names"])
    stored = next(v["name"] for v in crd["spec"]["versions"] if v.get("storage"))
    versions = status.setdefault("storedVersions", [])
    if stored not in versions:
        versions.append(stored)
    held = {c["type"]: c for c in status.get("conditions") or []}
    for kind, reason, text in (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ):
        if held.get(kind, {}).get("status") != "True":
            held[kind] = {
                "type": kind,
                "status": "True",
                "lastTransitionTime": now(),
                "reason": reason,
                "message": text,
            }
    status["conditions"] = list(held.values())


def serve(registry: Registry, crd: Json) -> None:
    """Add (or renew) the resources that a CRD declares."""
    spec = crd["spec"]
    stored = next((v["name"] for v in spec["versions"] if v.get("storage")), "")
    ordered = sorted(spec["versions"], key=lambda v: version_rank(v["name"]))
    served = [_resource(registry, spec, v, stored) for v in ordered if v.get("served")]
    registry.replace_custom(spec["group"], spec["names"]["plural"], served)


def withdraw(registry: Registry, crd: Json) -> None:
    """Stop serving a deleted CRD's resources."""
    registry.replace_custom(crd["spec"]["group"], crd["spec"]["names"]["plural"], [])


def serve_stored(registry: Registry, store: Store) -> None:
    """Serve every CRD in the store, after a restart."""
    for record in store.collection(CRDS).objects.values():
        try:
            serve(registry, record.load())
        except Exception:
            log.exception("definition not served", kind="CustomResourceDefinition", name=record.name)


def on_change(registry: Registry, record: Record, deleted: bool) -> None:
    """Follow a CRD's creation, change or deletion."""
    if deleted:
        withdraw(registry, record.load())
    else:
        serve(registry, record.load())


def _resource(registry: Registry, spec: Json, version: Json, stored: str) -> Resource:
    names, group = spec["names"], spec["group"]
    given = (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"}
    openapi = _with_metadata(given)
    named = ((given.get("properties") or {}).get("metadata") or {}).get("properties") or {}
    compiler = Compiler(registry.components)
    schema = compiler.compile(openapi)
    finish_list_keys(schema)
    sub: dict[str, Any] = version.get("subresources") or {}
    collection = f"{names['plural']}.{group}"
    reverse = ".".join(reversed(group.split(".")))
    return Resource(
        group,
        version["name"],
        names["plural"],
        names.get("singular") or names["kind"].lower(),
        names["kind"],
        spec["scope"] == "Namespaced",
        schema,
        f"{reverse}.{version['name']}.{names['kind']}",
        collection,
        f"{group}/{stored}",
        names.get("listKind") or names["kind"] + "List",
        tuple(names.get("shortNames") or ()),
        tuple(names.get("categories") or ()),
        tuple(s for s in ("status", "scale") if s in sub),
        columns=tuple(version.get("additionalPrinterColumns") or ()),
        scale=sub.get("scale"),
        selectable=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields") or ()),
        custom=True,
        openapi=openapi,
        name_schema=compiler.compile(named["name"]) if "name" in named else None,
    )


def _with_metadata(schema: Json) -> Json:
    """The CRD's schema with the members every object has."""
    whole = dict(schema)
    properties = dict(whole.get("properties") or {})
    properties["apiVersion"] = {"type": "string", "description": "The version of this object's schema."}
    properties["kind"] = {"type": "string", "description": "The kind of this object."}
    reference = {"$ref": "#/components/schemas/io.k8s.api.meta.v1.ObjectMeta"}
    properties["metadata"] = {"allOf": [reference], "description": "Standard object's metadata."}
    whole["properties"] = properties
    whole.setdefault("type", "object")
    return whole
