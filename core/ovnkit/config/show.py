"""The effective configuration as rows to print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from attrs import frozen

from ovnkit.api.text import print_json
from ovnkit.config.load import Loaded, Origin, core_sections
from ovnkit.config.values import key_of, plain

_SECRETS = frozenset({"token"})


@frozen
class Row:
    """One option in effect; `value` as JSON and TOML can hold it."""

    section: str
    key: str
    value: Any
    origin: Origin

    @property
    def text(self) -> str:
        """The value in TOML."""
        return toml(self.value)


def rows(loaded: Loaded) -> Iterable[Row]:
    """Every option of the core and of the plugins; a secret's value is replaced."""
    sections = {name: getattr(loaded.config, name) for name in core_sections()}
    for section, options in {**sections, **loaded.config.plugin_options}.items():
        for item in attrs.fields(type(options)):
            if not item.init:
                continue
            key = key_of(item.name)
            value = plain(getattr(options, item.name))
            if key in _SECRETS and value:
                value = "(hidden)"
            yield Row(section, key, value, loaded.origin(section, key))


def toml(value: object) -> str:
    """A plain value in TOML (inline)."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml(str(key))} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if value is None:
        return '""'
    return print_json(value)  # strings, numbers and booleans are written as in JSON
