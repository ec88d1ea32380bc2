"""The hooks of the lab: it only adds commands."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

import click

from ovnkit.api.errors import OvnkitError
from ovnkit.api.hooks import Declaration, hookimpl

_NEEDED = ("cryptography", "google.protobuf", "httptools", "jsonpatch", "trustme", "uvicorn", "uvloop")
"""What the extra `ovnkit[lab]` installs, by the names under which it is imported."""


class LabPlugin:
    """Adds `ovnkit lab`."""

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """Nothing of the lab runs in a cluster."""
        return Declaration(summary="ovnkit lab: a whole cluster on one machine", unavailable=unavailable())

    @hookimpl
    def ovnkit_commands(self) -> Iterable[click.Command]:
        """The group `lab`, or what says why it isn't there."""
        return [lab_command()]


def unavailable() -> str:
    """Why the lab can't be used in this installation, and what to do; empty when it can."""
    missing = [name for name in _NEEDED if not _importable(name)]
    if not missing:
        return ""
    return f"the lab is not installed ({', '.join(missing)} missing): pip install 'ovnkit[lab]'"


def lab_command() -> click.Command:
    """The command `lab`: without its dependencies, one that fails with what to install."""
    why = unavailable()
    if not why:
        from ovnkit_lab.cli import lab

        return lab

    def fail() -> None:
        raise OvnkitError(why)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        "lab", callback=fail, context_settings=anything, add_help_option=False, help=f"Not available: {why}."
    )


def _importable(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that the module would be in
        return False
