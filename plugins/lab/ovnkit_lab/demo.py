"""`ovnkit lab demo`."""

from __future__ import annotations

import click


@click.command()
def demo(**_options: object) -> None:
    """A lab, the manifests of examples/, and who reaches whom."""
