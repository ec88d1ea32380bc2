"""How a name leaves `ovnkit.api`: it works for one more minor release, with a warning (docs/stability.md)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def deprecated_names(module: str, since: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a module that had `names`: each gives the object at the path it is mapped to, and warns.

        __getattr__ = deprecated_names(__name__, "0.2", {"Line": "ovnkit.api.items.Row", "x": "ovnkit.api.x._x"})

    `since` is the first release with the warning. A path to a private name means that there is no replacement.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, target = names[name].rpartition(".")
        advice = "it has no replacement" if target.startswith("_") else f"use {names[name]}"
        text = f"{module}.{name} is deprecated since ovnkit {since} and will be removed; {advice}"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(import_module(home), target)

    return find
