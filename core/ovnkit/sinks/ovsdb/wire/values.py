"""Values of columns: from the wire to Python, from what a plugin wants to the same form, and back to the wire.

The form: a scalar is str, int, float or bool (a UUID is a str), None when it is empty; a set is a set; a map is
a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ovnkit.api.items import Ref
from ovnkit.sinks.ovsdb.wire.errors import BadValue
from ovnkit.sinks.ovsdb.wire.schema import Base, Column, Shape

NO_UUID = "00000000-0000-0000-0000-000000000000"
DEFAULTS: Mapping[str, Any] = {"integer": 0, "real": 0.0, "boolean": False, "string": "", "uuid": NO_UUID}
_TEXT = frozenset({str})
Decoder = Callable[[Any], Any]


def default(column: Column) -> Any:
    """A fresh default value: what a column holds when an insert doesn't name it."""
    if column.shape is Shape.SET:
        return set()
    if column.shape is Shape.MAP:
        return {}
    return None if column.min == 0 else DEFAULTS[column.key.type]


def decoder(column: Column, one: Callable[[str], str]) -> Decoder:
    """A function that turns the column's JSON value into Python; `one` gives one object for equal texts."""
    atom = _atom_decoder(column.key, one)
    if column.shape is Shape.MAP:
        assert column.value is not None
        value = _atom_decoder(column.value, one)
        return lambda raw: {atom(k): value(v) for k, v in raw[1]}
    if column.shape is Shape.SET:
        if column.key.type == "uuid":
            return lambda raw: {one(v[1]) for v in raw[1]} if raw[0] == "set" else {one(raw[1])}
        return lambda raw: {atom(v) for v in raw[1]} if type(raw) is list and raw[0] == "set" else {atom(raw)}
    if column.min == 1:
        return atom

    def optional(raw: Any) -> Any:
        if type(raw) is list and raw[0] == "set":
            return atom(raw[1][0]) if raw[1] else None
        return atom(raw)

    return optional


def _atom_decoder(base: Base, one: Callable[[str], str]) -> Decoder:
    if base.type == "uuid":
        return lambda raw: one(raw[1])
    if base.type == "string":
        return one
    return float if base.type == "real" else lambda raw: raw


def element_of(value: Any) -> Any:
    """An element as sets hold it: a reference becomes its UUID."""
    return value.uuid if isinstance(value, Ref) else value


def atom(column: Column, base: Base, value: Any) -> Any:
    """Check a wanted atom against its type; raises BadValue."""
    if base.type == "uuid":
        if isinstance(value, Ref):
            return value.uuid
    elif base.type == "string":
        if isinstance(value, str):
            if base.max_length is not None and len(value) > base.max_length:
                raise BadValue(f"{column}: longer than {base.max_length} characters")
            return _checked(column, base, value)
    elif base.type == "boolean":
        if isinstance(value, bool):
            return value
    elif isinstance(value, int) and not isinstance(value, bool):
        return _checked(column, base, float(value) if base.type == "real" else value)
    elif base.type == "real" and isinstance(value, float):
        return _checked(column, base, value)
    raise BadValue(f"{column}: {value!r} is not a {base.type}")


def _checked(column: Column, base: Base, value: Any) -> Any:
    if base.enum is not None and value not in base.enum:
        raise BadValue(f"{column}: {value!r} is not one of {', '.join(sorted(map(str, base.enum)))}")
    low, high = base.minimum, base.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise BadValue(f"{column}: {value!r} is out of range")
    return value


def map_value(column: Column, value: Any) -> Any:
    """Check a wanted value of a map. In maps of strings numbers and booleans are written as OVN reads them."""
    assert column.value is not None
    if column.value.type == "string" and isinstance(value, int):
        return str(value).lower()
    return atom(column, column.value, value)


def normal(column: Column, value: Any) -> Any:
    """What a plugin wants, in the form of the replica; raises BadValue when the column can't hold it.

    It is the same object where that has the form already: most are, and there are several for each pod.
    """
    if column.any_text and _is_normal_text(column, value):
        return value
    if column.shape is Shape.MAP:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise BadValue(f"{column}: {value!r} is not a mapping")
        wanted: Any = {atom(column, column.key, k): map_value(column, v) for k, v in value.items()}
        return _counted(column, wanted)
    if isinstance(value, (tuple, frozenset, list, set)):
        elements = frozenset(atom(column, column.key, element) for element in value)
    elif value is None:
        elements = frozenset()
    else:
        elements = frozenset((atom(column, column.key, value),))
    _counted(column, elements)
    if column.shape is Shape.SET:
        return elements
    return next(iter(elements), None)


def _is_normal_text(column: Column, value: Any) -> bool:
    kind = type(value)
    if column.shape is Shape.SCALAR:
        return kind is str
    if column.shape is Shape.SET:
        return kind is frozenset and _TEXT.issuperset(map(type, value))
    return kind is dict and _TEXT.issuperset(map(type, value)) and _TEXT.issuperset(map(type, value.values()))


def _counted(column: Column, content: Collection[Any]) -> Any:
    if len(content) < column.min:
        raise BadValue(f"{column}: needs at least {column.min} value")
    if len(content) > column.max:
        raise BadValue(f"{column}: holds at most {column.max} values")
    return content


def live_elements(column: Column, values: Collection[Any]) -> list[Any]:
    """Of the values of a live set those that the column can hold: references or addresses and other text."""
    if column.key.type == "uuid":
        return [value.uuid for value in values if isinstance(value, Ref)]
    if column.key.type == "string":
        if {str}.issuperset(map(type, values)):
            return list(values)
        text = (str(v) if isinstance(v, (IPv4Address, IPv6Address)) else v for v in values)
        return [value for value in text if isinstance(value, str)]
    kind = {"integer": int, "real": float, "boolean": bool}[column.key.type]
    return [value for value in values if type(value) is kind]


def encode(column: Column, value: Any) -> Any:
    """The JSON of a whole column."""
    if column.shape is Shape.MAP:
        return encode_map(column, value)
    if column.shape is Shape.SET:
        return encode_set(column, value)
    if value is None:
        return ["set", []]
    return ["uuid", value] if column.key.type == "uuid" else value


def encode_set(column: Column, elements: Iterable[Any]) -> Any:
    """The JSON of a set (or of the keys of a map), in a fixed order."""
    if column.key.type == "uuid":
        return ["set", [["uuid", element] for element in sorted(elements)]]
    return ["set", sorted(elements)]


def encode_map(column: Column, content: Mapping[Any, Any]) -> Any:
    """The JSON of a map."""
    assert column.value is not None
    pairs: list[list[Any]] = [[key, value] for key, value in sorted(content.items())]
    for pair in pairs:
        if column.key.type == "uuid":
            pair[0] = ["uuid", pair[0]]
        if column.value.type == "uuid":
            pair[1] = ["uuid", pair[1]]
    return ["map", pairs]
