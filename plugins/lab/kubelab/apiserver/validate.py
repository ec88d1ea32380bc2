"""Decoding objects against a schema (pruning, nulls, defaults) and validating what is left."""

import copy
import ipaddress
import re
from typing import Any

import orjson
from attrs import define, field

from .errors import FieldProblem, Json
from .schema import ANY, LIST, MAP, OBJECT, Compiler, Node

_METADATA = ("apiVersion", "kind", "metadata")
_DATE_TIME = re.compile(r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$")
_DURATION = re.compile(r"^-?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+$|^0$")
_MAC = re.compile(r"^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$")


@define
class Findings:
    """What was wrong: unknown fields (dropped) and problems; ``defaults`` off leaves absent fields absent."""

    unknown: list[str] = field(factory=list)
    problems: list[FieldProblem] = field(factory=list)
    defaults: bool = True


def clean(node: Node, value: object, path: str, found: Findings, metadata: bool = False) -> Any:
    """Drop unknown fields and nulls, fill in defaults; in place where possible, returns the value."""
    if node.shape == OBJECT:
        if isinstance(value, dict):
            _clean_object(node, value, path, found, metadata or node.embedded)
    elif node.shape == MAP:
        if isinstance(value, dict) and node.values is not None and node.values.shape != ANY:
            _clean_map(node.values, value, path, found)
    elif node.shape == LIST:
        items = node.items
        if isinstance(value, list) and (items.shape in (OBJECT, MAP, LIST)):
            for i, item in enumerate(value):
                value[i] = clean(items, item, f"{path}[{i}]", found)
    elif node.quantity and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def _clean_object(node: Node, value: Json, path: str, found: Findings, metadata: bool) -> None:
    properties = node.properties
    dropped: list[str] = []
    for name, member in value.items():
        sub = properties.get(name)
        if sub is None:
            if metadata and name in _METADATA:
                continue
            if node.values is not None:
                sub = node.values
            elif node.preserve:
                continue
            else:
                found.unknown.append(f"{path}.{name}" if path else name)
                dropped.append(name)
                continue
        if member is None:
            if not sub.nullable and sub.shape != ANY:
                dropped.append(name)
        elif sub.shape != "scalar" or sub.quantity:
            value[name] = clean(sub, member, f"{path}.{name}" if path else name, found)
    for name in dropped:
        del value[name]
    for name, default in node.defaults.items() if found.defaults else ():
        if name not in value:
            value[name] = clean(properties[name], copy.deepcopy(default), f"{path}.{name}", found)


def _clean_map(sub: Node, value: Json, path: str, found: Findings) -> None:
    for name, member in list(value.items()):
        if member is None and not sub.nullable:
            del value[name]
        elif sub.shape != "scalar" or sub.quantity:
            value[name] = clean(sub, member, f"{path}.{name}", found)


def validate(node: Node, value: object, path: str, found: Findings, skip: frozenset[str] = frozenset()) -> None:
    """Check types, required fields and constraints; ``skip`` names members of the root that are left alone."""
    if value is None and (node.nullable or node.shape == ANY):
        return
    if node.int_or_string:
        if not isinstance(value, int | str) or isinstance(value, bool):
            found.problems.append(FieldProblem.wrong_type(path, value, "integer,string"))
            return
    elif node.types and not _typed(node, value):
        found.problems.append(FieldProblem.wrong_type(path, value, node.json))
        return
    if node.checks:
        check(node, value, path, found)
    if node.shape == OBJECT and isinstance(value, dict):
        _validate_object(node, value, path, found, skip)
    elif node.shape == MAP and node.values is not None and isinstance(value, dict):
        for name, member in value.items():
            validate(node.values, member, f"{path}.{name}", found)
    elif node.shape == LIST and isinstance(value, list):
        items = node.items
        for i, item in enumerate(value):
            validate(items, item, f"{path}[{i}]", found)
        if node.list_keys or node.is_set:
            _unique(node, value, path, found)


def _typed(node: Node, value: object) -> bool:
    if isinstance(value, bool):
        return node.json == "boolean"
    if node.json == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, node.types)


def _validate_object(node: Node, value: Json, path: str, found: Findings, skip: frozenset[str]) -> None:
    for name in node.required:
        if name not in value and name not in skip:
            found.problems.append(FieldProblem.required(f"{path}.{name}" if path else name))
    for name, member in value.items():
        if name in skip:
            continue
        sub = node.properties.get(name) or node.values
        if sub is not None:
            validate(sub, member, f"{path}.{name}" if path else name, found)


def _unique(node: Node, value: list[Any], path: str, found: Findings) -> None:
    seen: set[bytes] = set()
    for i, item in enumerate(value):
        if node.is_set:
            key = orjson.dumps(item)
        elif isinstance(item, dict):
            key = orjson.dumps([item.get(k, node.key_defaults.get(k)) for k in node.list_keys])
        else:
            continue
        if key in seen:
            shown = item if node.is_set else {k: item.get(k) for k in node.list_keys}
            found.problems.append(FieldProblem.duplicate(f"{path}[{i}]", shown))
        seen.add(key)


def check(node: Node, value: object, path: str, found: Findings) -> None:
    """The value constraints of JSON Schema as CRDs use them."""
    checks = node.checks
    report = found.problems.append
    if "enum" in checks and value not in checks["enum"]:
        report(FieldProblem.unsupported(path, value, checks["enum"]))
    if isinstance(value, str):
        _check_string(node, value, path, found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(checks, value, path, found)
    elif isinstance(value, list):
        _check_size(checks, "Items", len(value), path, found)
        if checks.get("uniqueItems") and len({orjson.dumps(v) for v in value}) != len(value):
            report(FieldProblem.invalid(path, value, f"{path} in body shouldn't contain duplicates"))
    elif isinstance(value, dict):
        _check_size(checks, "Properties", len(value), path, found)
    _check_logic(checks, value, path, found)


def _check_string(node: Node, value: str, path: str, found: Findings) -> None:
    checks = node.checks
    report = found.problems.append
    if len(value) < checks.get("minLength", 0):
        text = f"{path} in body should be at least {checks['minLength']} chars long"
        report(FieldProblem.invalid(path, value, text))
    if "maxLength" in checks and len(value) > checks["maxLength"]:
        report(FieldProblem("FieldValueTooLong", path, f"Too long: may not be longer than {checks['maxLength']}"))
    if node.pattern is not None and not node.pattern.search(value):
        report(FieldProblem.invalid(path, value, f"{path} in body should match '{checks['pattern']}'"))
    form = checks.get("format", "")
    if form and not _formatted(form, value):
        report(FieldProblem.invalid(path, value, f'{path} in body must be of type {form}: "{value}"'))


def _formatted(form: str, value: str) -> bool:
    try:
        match form:
            case "ipv4":
                ipaddress.IPv4Address(value)
            case "ipv6":
                ipaddress.IPv6Address(value)
            case "cidr":
                return "/" in value and bool(ipaddress.ip_network(value, strict=False))
            case "date-time":
                return bool(_DATE_TIME.match(value))
            case "duration":
                return bool(_DURATION.match(value))
            case "mac":
                return bool(_MAC.match(value))
    except ValueError:
        return False
    return True


def _check_number(checks: Json, value: float, path: str, found: Findings) -> None:
    low, high = checks.get("minimum"), checks.get("maximum")
    if low is not None and (value < low or (checks.get("exclusiveMinimum") and value == low)):
        text = "greater than" if checks.get("exclusiveMinimum") else "greater than or equal to"
        found.problems.append(FieldProblem.invalid(path, value, f"{path} in body should be {text} {low}"))
    if high is not None and (value > high or (checks.get("exclusiveMaximum") and value == high)):
        text = "less than" if checks.get("exclusiveMaximum") else "less than or equal to"
        found.problems.append(FieldProblem.invalid(path, value, f"{path} in body should be {text} {high}"))
    step = checks.get("multipleOf")
    if step and value % step:
        found.problems.append(FieldProblem.invalid(path, value, f"{path} in body should be a multiple of {step}"))


def _check_size(checks: Json, what: str, size: int, path: str, found: Findings) -> None:
    noun = what.lower()
    low, high = checks.get(f"min{what}"), checks.get(f"max{what}")
    if low is not None and size < low:
        text = f"{path} in body should have at least {low} {noun}"
        found.problems.append(FieldProblem.invalid(path, size, text))
    if high is not None and size > high:
        detail = f"Too many: {size}: must have at most {high} {noun}"
        found.problems.append(FieldProblem("FieldValueTooMany", path, detail))


def _check_logic(checks: Json, value: object, path: str, found: Findings) -> None:
    for sub in checks.get("allOf", ()):
        validate(_logic(sub), value, path, found)
    if "anyOf" in checks and not any(_holds(s, value) for s in checks["anyOf"]):
        text = f'"{path}" must validate at least one schema (anyOf)'
        found.problems.append(FieldProblem.invalid(path, value, text))
    if "oneOf" in checks and sum(_holds(s, value) for s in checks["oneOf"]) != 1:
        text = f'"{path}" must validate one and only one schema (oneOf)'
        found.problems.append(FieldProblem.invalid(path, value, text))
    if "not" in checks and _holds(checks["not"], value):
        text = f'"{path}" must not validate the schema (not)'
        found.problems.append(FieldProblem.invalid(path, value, text))


_LOGIC: dict[int, tuple[Json, Node]] = {}


def _logic(sub: Json) -> Node:
    """The compiled node of a logical sub-schema; kept with the schema itself so that its id stays its own."""
    known = _LOGIC.get(id(sub))
    if known is None:
        known = _LOGIC[id(sub)] = (sub, Compiler().compile(sub))
    return known[1]


def _holds(sub: Json, value: object) -> bool:
    found = Findings()
    node = _logic(sub)
    validate(node, value, "", found)
    if not found.problems and node.required and isinstance(value, dict):
        return all(name in value for name in node.required)
    return not found.problems
