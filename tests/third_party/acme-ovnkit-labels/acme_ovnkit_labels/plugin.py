"""The whole plugin: an address set per namespace with the pods that carry a label."""

from __future__ import annotations

from collections.abc import Iterable

import click
from attrs import field, frozen
from attrs.validators import min_len

from acme_ovnkit_labels.zone import LabelledSets
from ovnkit.api.config import Config
from ovnkit.api.hooks import Columns, Declaration, hookimpl
from ovnkit.api.identity import RowId
from ovnkit.api.renderers import Renderer


@frozen
class LabelsOptions:
    """Section `[acme_labels]`: `label` is the key a pod must carry."""

    label: str = field(default="acme.example/team", validator=min_len(1))


class LabelsPlugin:
    """Address sets by label."""

    @hookimpl
    def ovnkit_options(self) -> type:
        """See `LabelsOptions`."""
        return LabelsOptions

    @hookimpl
    def ovnkit_declare(self) -> Declaration:
        """It needs nobody."""
        return Declaration(
            columns=(Columns("nb", "Address_Set", ("name", "addresses", "external_ids")),),
            summary="an address set per namespace with the pods that carry a label",
        )

    @hookimpl
    def ovnkit_renderers(self, config: Config) -> Iterable[Renderer]:
        """One per namespace."""
        return LabelledSets(config.options("acme_labels", LabelsOptions).label).renderers()

    @hookimpl
    def ovnkit_explain(self, row: RowId) -> str:
        """What a row is for."""
        return f"addresses of the labelled pods of namespace {row.key}"

    @hookimpl
    def ovnkit_commands(self) -> Iterable[click.Command]:
        """`ovnkit acme-labels`."""

        @click.command("acme-labels")
        def greet() -> None:
            """Say which plugin this is."""
            click.echo("acme-ovnkit-labels")

        return [greet]
