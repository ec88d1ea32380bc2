"""`ovnkit docs`: pages of the manual that are made from the code."""

from __future__ import annotations

import click


@click.group()
def docs() -> None:
    """Print pages of the manual that are made from the code.

    \b
    Example:
      ovnkit docs hooks > docs/hooks.md
    """


@docs.command()
def api() -> None:
    """The page on what plugins import (docs/api.md)."""
    from ovnkit.plugins.api_page import page

    click.echo(page(), nl=False)


@docs.command()
def hooks() -> None:
    """The page on hooks (docs/hooks.md)."""
    from ovnkit.plugins.hook_page import page

    click.echo(page(), nl=False)


@docs.command()
def names() -> None:
    """The public names of ovnkit.api (docs/public-names.txt), to be written at each release."""
    from ovnkit.plugins.public_names import listing

    click.echo(listing(), nl=False)
