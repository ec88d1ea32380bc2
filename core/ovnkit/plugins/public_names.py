"""The public names of `ovnkit.api` as a list, to compare with that of the last release."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import ovnkit.api
from ovnkit.api.hooks import Hooks
from ovnkit.plugins.calls import hook_names


def listing() -> str:
    """Lines `KIND PATH`, under the version they belong to: hooks, names in `__all__`, members of classes."""
    return (
        "\n".join(
            (f"# Public names of ovnkit {ovnkit.__version__}", *sorted(_names(), key=lambda line: line.split()[1]))
        )
        + "\n"
    )


def _names() -> Iterator[str]:
    for found in walk_packages(ovnkit.api.__path__, "ovnkit.api."):
        module = import_module(found.name)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            yield f"{_kind(value)} {found.name}.{name}"
            if inspect.isclass(value):
                members = {*vars(value), *inspect.get_annotations(value)}
                yield from (f"member {found.name}.{name}.{each}" for each in members if not each.startswith("_"))
    for hook in hook_names():
        yield f"hook {hook}"
        arguments = inspect.signature(getattr(Hooks, hook)).parameters
        yield from (f"argument {hook}.{argument}" for argument in arguments if argument != "self")


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "class"
    return "function" if inspect.isroutine(value) else "value"
