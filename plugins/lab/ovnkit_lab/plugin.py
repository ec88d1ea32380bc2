"""The hooks of the lab: it only adds commands."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ovnkit.api.hooks import Declaration, hookimpl


class LabPlugin:
    """Adds `ovnkit lab`."""

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """Nothing of the lab runs in a cluster."""
        return Declaration(summary="ovnkit lab: a whole cluster on one machine")

    @hookimpl
    def ovnkit_commands(self) -> Iterable[click.Command]:
        """The group `lab`."""
        from ovnkit_lab.cli import lab

        return [lab]
