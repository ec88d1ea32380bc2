"""JSON patch, JSON merge patch and strategic merge patch."""

import copy
from typing import Any

import jsonpatch
import jsonpointer

from . import errors
from .errors import ApiError, Json
from .schema import LIST, Node

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def json_patch(obj: Json, operations: object) -> Json:
    """RFC 6902; a failed ``test`` or a missing path is 422, as with kube-apiserver."""
    if not isinstance(operations, list):
        raise errors.bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
        )
    try:
        patched: Json = jsonpatch.apply_patch(obj, operations)
    except jsonpatch.InvalidJsonPatch as error:
        raise errors.bad_request(f"error decoding patch: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        text = "the server rejected our request due to an error in our request"
        raise ApiError(422, "Invalid", f"{text}: {error}", {"causes": [{"message": str(error)}]}) from error
    return patched


def merge_patch(target: object, patch: object) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def strategic_merge(node: Node, target: Json, patch: Json) -> Json:
    """Kubernetes' own merge: lists merge by key, ``$patch`` and its kin direct."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {k: v for k, v in patch.items() if k != "$patch"}
    if directive == "delete":
        return {}
    merged = dict(target)
    retain = patch.get("$retainKeys")
    if retain is not None:
        merged = {k: v for k, v in merged.items() if k in retain}
    for name, value in patch.items():
        if name.startswith(_DELETE):
            field = name[len(_DELETE) :]
            merged[field] = [v for v in merged.get(field) or [] if v not in value]
    for name, value in patch.items():
        if not name.startswith("$"):
            order = patch.get(_ORDER + name)
            _member(node.child(name), merged, name, value, order)
    for name, order in patch.items():
        if name.startswith(_ORDER) and name[len(_ORDER) :] not in patch:
            field = name[len(_ORDER) :]
            held = merged.get(field)
            if held:
                merged[field] = _ordered(node.child(field), held, order)
    return merged


def _member(node: Node, merged: Json, name: str, value: object, order: list[Any] | None) -> None:
    if value is None:
        merged.pop(name, None)
    elif isinstance(value, dict):
        held = merged.get(name)
        if value.get("$patch") == "delete":
            merged.pop(name, None)
        else:
            merged[name] = strategic_merge(node, held if isinstance(held, dict) else {}, value)
    elif isinstance(value, list) and node.shape == LIST and node.merge:
        held = merged.get(name)
        merged[name] = _merge_list(node, held if isinstance(held, list) else [], value, order)
    else:
        merged[name] = value


def _merge_list(node: Node, held: list[Any], patch: list[Any], order: list[Any] | None) -> list[Any]:
    if not node.merge_key:
        merged = held + [v for v in patch if v not in held]
        return _ordered(node, merged, order) if order is not None else merged
    key = node.merge_key
    if any(isinstance(p, dict) and p.get("$patch") == "replace" and key not in p for p in patch):
        return [copy.deepcopy(p) for p in patch if p.get("$patch") != "replace"]
    merged = list(held)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise errors.bad_request(f"map: {item} does not contain declared merge key: {key}")
        index = next((i for i, h in enumerate(merged) if h.get(key) == item[key]), None)
        directive = item.get("$patch")
        if directive == "delete":
            merged = [h for h in merged if h.get(key) != item[key]]
        elif index is None:
            merged.append(strategic_merge(node.items, {}, item))
        else:
            merged[index] = strategic_merge(node.items, merged[index], item)
    return _ordered(node, merged, order) if order is not None else merged


def _ordered(node: Node, items: list[Any], order: list[Any]) -> list[Any]:
    """The items in the order that the patch names; items it doesn't name stay near where they were."""
    key = node.merge_key

    def identity(item: object) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    ranks = {identity(o): i for i, o in enumerate(order)}
    named = sorted((i for i in items if identity(i) in ranks), key=lambda i: ranks[identity(i)])
    result: list[Any] = []
    following = iter(named)
    for item in items:
        result.append(next(following) if identity(item) in ranks else item)
    return result
