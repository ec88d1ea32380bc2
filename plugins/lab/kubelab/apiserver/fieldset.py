"""Sets of field paths in the ``fieldsV1`` form, and what of an object or a change they cover.

A set is a tree of dicts: ``{"f:spec": {"f:replicas": {}}}``. A path is a member when its node is empty or holds
``"."``. The root itself is never a member.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from .schema import ANY, LIST, MAP, UNTYPED, Node

FieldSet = dict[str, Any]
_IGNORED_METADATA = frozenset(
    [
        "f:name",
        "f:namespace",
        "f:uid",
        "f:resourceVersion",
        "f:generation",
        "f:creationTimestamp",
        "f:managedFields",
        "f:selfLink",
        "f:deletionTimestamp",
        "f:deletionGracePeriodSeconds",
        "f:generateName",
    ]
)


def is_member(node: FieldSet) -> bool:
    """Whether the path that leads to this node belongs to the set."""
    return not node or "." in node


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of either."""
    return _union(left, right, root=True)


def _union(left: FieldSet, right: FieldSet, root: bool = False) -> FieldSet:
    if not left or not right:
        if root:
            return left or right
        rest = left or right
        return {".": {}, **rest} if rest else {}
    merged = dict(left)
    for step, sub in right.items():
        merged[step] = _union(left[step], sub) if step in left and step != "." else sub
    return merged


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of the left that aren't members of the right."""
    return _difference(left, right, root=True) or {}


def _difference(left: FieldSet, right: FieldSet, root: bool = False) -> FieldSet | None:
    """None when nothing is left of a node."""
    if root and (not left or not right):
        return left
    member = is_member(left) and not is_member(right)
    kept: FieldSet = {}
    for step, sub in left.items():
        if step == ".":
            continue
        if step in right:
            rest = _difference(sub, right[step])
            if rest is not None:
                kept[step] = rest
        else:
            kept[step] = sub
    if member and kept:
        kept["."] = {}
    return kept if kept or member else None


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """Members of both."""
    return _intersection(left, right, root=True) or {}


def _intersection(left: FieldSet, right: FieldSet, root: bool = False) -> FieldSet | None:
    member = not root and is_member(left) and is_member(right)
    kept: FieldSet = {}
    for step, sub in left.items():
        if step != "." and step in right:
            both = _intersection(sub, right[step])
            if both is not None:
                kept[step] = both
    if member and kept:
        kept["."] = {}
    return kept if kept or member else None


def paths(fields: FieldSet, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member path, children before the item that holds them."""
    for step, sub in fields.items():
        if step == ".":
            continue
        here = (*prefix, step)
        yield from paths(sub, here)
        if is_member(sub):
            yield here


def readable(path: tuple[str, ...]) -> str:
    """``.spec.containers[name="x"].image``: how conflicts name a path."""
    text = ""
    for step in path:
        kind, _, value = step.partition(":")
        if kind == "f":
            text += f".{value}"
        elif kind == "k":
            keys = orjson.loads(value)
            text += "[" + ",".join(f"{k}={orjson.dumps(v).decode()}" for k, v in sorted(keys.items())) + "]"
        else:
            text += f"[={value}]" if kind == "v" else f"[{value}]"
    return text


def item_step(node: Node, item: object) -> str:
    """The path element of a list item: by its keys, or by its value in a set."""
    if node.is_set or not isinstance(item, dict):
        return "v:" + orjson.dumps(item).decode()
    keys = {k: item.get(k, node.key_defaults.get(k)) for k in node.list_keys}
    present = {k: v for k, v in keys.items() if v is not None}
    return "k:" + orjson.dumps(present, option=orjson.OPT_SORT_KEYS).decode()


def granular_list(node: Node) -> bool:
    """Whether a list's items are owned one by one."""
    return bool(node.list_keys) or node.is_set


def of_object(node: Node, obj: dict[str, Any]) -> FieldSet:
    """All fields an object sets, without its identity."""
    return _strip(_members(node, obj))


def _strip(fields: FieldSet) -> FieldSet:
    fields.pop("f:apiVersion", None)
    fields.pop("f:kind", None)
    metadata = fields.get("f:metadata")
    if metadata is not None:
        kept = {k: v for k, v in metadata.items() if k not in _IGNORED_METADATA and k != "."}
        if kept:
            fields["f:metadata"] = kept
        else:
            del fields["f:metadata"]
    return fields


def _members(node: Node, value: dict[str, Any]) -> FieldSet:
    fields: FieldSet = {}
    open_ended = node.shape in (MAP, ANY)
    for name, member in value.items():
        sub = node.child(name)
        below = _below(sub, member)
        if below and (open_ended or name not in node.properties) and not _is_leaf(sub, member):
            below["."] = {}
        fields["f:" + name] = below
    return fields


def _is_leaf(node: Node, value: object) -> bool:
    return node.atomic or not isinstance(value, dict | list)


def _below(node: Node, value: object) -> FieldSet:
    """The subtree under a value; empty for a leaf."""
    if isinstance(value, dict):
        return {} if node.atomic else _members(node, value)
    if isinstance(value, list) and node.shape == LIST and granular_list(node):
        fields: FieldSet = {}
        for item in value:
            below = _below(node.items, item) if node.list_keys else {}
            if below:
                below["."] = {}
            fields[item_step(node, item)] = below
        return fields
    return {}


def changes(node: Node, old: dict[str, Any], new: dict[str, Any]) -> tuple[FieldSet, FieldSet]:
    """What ``new`` adds or alters against ``old``, and what it no longer has."""
    written, removed = _changes(node, old, new)
    return _strip(written), _strip(removed)


def _changes(node: Node, old: dict[str, Any], new: dict[str, Any]) -> tuple[FieldSet, FieldSet]:
    written: FieldSet = {}
    removed: FieldSet = {}
    open_ended = node.shape in (MAP, ANY)
    for name, member in new.items():
        before = old.get(name)
        if before == member and name in old:
            continue
        sub = node.child(name)
        step = "f:" + name
        if name in old:
            _compare(sub, before, member, step, written, removed)
        else:
            below = _below(sub, member)
            if below and isinstance(member, dict) and (open_ended or sub.shape in (MAP, ANY)):
                below["."] = {}
            written[step] = below
    for name, before in old.items():
        if name not in new:
            below = _below(node.child(name), before)
            if below:
                below["."] = {}
            removed["f:" + name] = below
    return written, removed


def _compare(node: Node, old: object, new: object, step: str, written: FieldSet, removed: FieldSet) -> None:
    if isinstance(old, dict) and isinstance(new, dict) and not node.atomic:
        below, gone = _changes(node, old, new)
    elif isinstance(old, list) and isinstance(new, list) and node.shape == LIST and granular_list(node):
        below, gone = _list_changes(node, old, new)
    else:
        written[step] = _below(node, new)
        return
    if below:
        written[step] = below
    if gone:
        removed[step] = gone


def _list_changes(node: Node, old: list[Any], new: list[Any]) -> tuple[FieldSet, FieldSet]:
    before = {item_step(node, item): item for item in old}
    after = {item_step(node, item): item for item in new}
    written: FieldSet = {}
    removed: FieldSet = {}
    for step, item in after.items():
        if step not in before:
            below = _below(node.items, item) if node.list_keys else {}
            if below:
                below["."] = {}
            written[step] = below
        elif before[step] != item:
            _compare(node.items, before[step], item, step, written, removed)
    for step, item in before.items():
        if step not in after:
            below = _below(node.items, item) if node.list_keys else {}
            if below:
                below["."] = {}
            removed[step] = below
    return written, removed


def remove(node: Node, obj: dict[str, Any], fields: FieldSet, owned: FieldSet) -> None:
    """Take from an object the members of ``fields`` that ``owned`` has nothing under; in place."""
    for step, sub in fields.items():
        if not step.startswith("f:"):
            continue
        name = step[2:]
        if name not in obj:
            continue
        held = owned.get(step)
        member = obj[name]
        if held is None and is_member(sub):
            del obj[name]
            continue
        child = node.child(name) if node is not UNTYPED else UNTYPED
        if isinstance(member, dict):
            remove(child, member, sub, held or {})
        elif isinstance(member, list) and granular_list(child):
            _remove_items(child, member, sub, held or {})
        else:
            continue
        if not member and held is None:
            del obj[name]


def _remove_items(node: Node, items: list[Any], fields: FieldSet, owned: FieldSet) -> None:
    kept = []
    for item in items:
        step = item_step(node, item)
        sub = fields.get(step)
        if sub is not None and step not in owned and is_member(sub):
            continue
        if sub and isinstance(item, dict):
            remove(node.items, item, sub, owned.get(step, {}))
        kept.append(item)
    items[:] = kept
