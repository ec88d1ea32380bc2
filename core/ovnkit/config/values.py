"""How a value of the configuration becomes what its option wants: cattrs converters for TOML and for text."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from ovnkit.api.config import ClusterSubnet
from ovnkit.api.text import Network, parse_json, parse_network

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_TOML_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "a table",
}


def key_of(attribute: str) -> str:
    """The key of an option in the file, from the name of its attribute."""
    return attribute.replace("_", "-")


def structure(value: Any, wanted: Any, *, textual: bool) -> Any:
    """`value` as an instance of the type `wanted`; raises ValueError with one line on what is wrong.

    `textual` values come from the environment and the command line, where everything is a string.
    """
    try:
        return (_TEXT if textual else _TOML).structure(value, wanted)
    except ForbiddenExtraKeysError as error:
        raise ValueError(f"unknown key {sorted(error.extra_fields)[0]!r}") from None
    except KeyError as error:
        raise ValueError(f"key {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(str(error.args[0]) if error.args else str(error)) from None


def _described(value: object) -> str:
    return f"{_TOML_NAMES.get(type(value), type(value).__name__)} ({value!r})"


def _exact(kind: type) -> Callable[[Any, Any], Any]:
    def check(value: object, _wanted: object) -> Any:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"expected {_TOML_NAMES[kind]}, got {_described(value)}")
        return value

    return check


def _text_bool(value: object, _wanted: object) -> bool:
    lowered = str(value).lower()
    if lowered not in _TRUE | _FALSE:
        raise ValueError(f"expected true or false, got {value!r}")
    return lowered in _TRUE


def _text_number(kind: type) -> Callable[[Any, Any], Any]:
    def parse(value: object, _wanted: object) -> Any:
        try:
            # As JSON writes numbers: int() and float() alone would take "1_0", " 7", nan and other digits.
            return _exact(kind)(parse_json(str(value)), kind)
        except ValueError:
            raise ValueError(f"expected {_TOML_NAMES[kind]}, got {value!r}") from None

    return parse


def _network(value: object, wanted: object) -> Any:
    if isinstance(value, IPv4Network | IPv6Network):
        found: Network = value
    elif isinstance(value, str):
        found = parse_network(value.strip(), strict=True)
    else:
        raise ValueError(f"expected a CIDR as a string, got {_described(value)}")
    if wanted in (IPv4Network, IPv6Network) and not isinstance(found, wanted):
        raise ValueError(f"expected an IPv{4 if wanted is IPv4Network else 6} network, got {value!r}")
    return found


def _cluster_subnet(value: object, _wanted: object) -> ClusterSubnet:
    if isinstance(value, ClusterSubnet):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected cidr/hostlength as a string, got {_described(value)}")
    return ClusterSubnet.parse(value.strip())


def _tuple_hook(converter: Converter) -> Callable[[Any, Any], Any]:
    def parse(value: object, wanted: object) -> tuple[Any, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise ValueError(f"expected an array or a comma list, got {_described(value)}")
        return tuple(converter.structure(item, get_args(wanted)[0]) for item in value)

    return parse


def _table_hook(converter: Converter, textual: bool) -> Callable[[Any], Callable[[Any, Any], Any]]:
    def make(cls: Any) -> Callable[[Any, Any], Any]:
        attrs.resolve_types(cls)
        names: dict[str, Any] = {item.name: override(rename=key_of(item.name)) for item in attrs.fields(cls)}
        from_table = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **names)

        def parse(value: object, wanted: object) -> Any:
            if textual and isinstance(value, str):
                value = tomllib.loads(f"value = {value}")["value"]
            if not isinstance(value, Mapping):
                raise ValueError(f"expected a table, got {_described(value)}")
            return from_table(value, wanted)

        return parse

    return make


def _is_open_tuple(wanted: object) -> bool:
    return get_origin(wanted) is tuple and get_args(wanted)[-1:] == (Ellipsis,)


def _converter(*, textual: bool) -> Converter:
    converter = Converter(detailed_validation=False, forbid_extra_keys=True)
    converter.register_structure_hook(str, _exact(str))
    for number in (int, float):
        converter.register_structure_hook(number, _text_number(number) if textual else _exact(number))
    converter.register_structure_hook(bool, _text_bool if textual else _exact(bool))
    for network in (IPv4Network, IPv6Network):
        converter.register_structure_hook(network, _network)
    converter.register_structure_hook_func(lambda wanted: wanted == Network, _network)
    converter.register_structure_hook_func(_is_open_tuple, _tuple_hook(converter))
    converter.register_structure_hook_factory(attrs.has, _table_hook(converter, textual))
    converter.register_structure_hook(ClusterSubnet, _cluster_subnet)
    return converter


_TOML = _converter(textual=False)
_TEXT = _converter(textual=True)


def plain(value: Any) -> Any:
    """A value of an option as TOML and JSON can hold it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if attrs.has(type(value)) and not isinstance(value, ClusterSubnet):
        return {key_of(item.name): plain(getattr(value, item.name)) for item in attrs.fields(type(value))}
    if isinstance(value, tuple | list | frozenset | set):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return str(value)
