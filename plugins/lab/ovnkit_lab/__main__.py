"""`python -m ovnkit_lab`: the commands of `ovnkit lab`."""

from __future__ import annotations

import sys

import click

from ovnkit.api.errors import OvnkitError
from ovnkit_lab.plugin import lab_command

if __name__ == "__main__":
    try:
        lab_command().main(prog_name="ovnkit lab")
    except OvnkitError as error:
        click.echo(f"ovnkit: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
