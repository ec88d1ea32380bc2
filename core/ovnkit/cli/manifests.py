"""`ovnkit privileges` and `ovnkit crds`: manifests the enabled plugins need, ready for kubectl apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from ovnkit.cli.common import config_options, load, refuse_missing

_ROLES = ("cluster", "zone", "node")


def _yaml(documents: Iterable[Mapping[str, Any]]) -> None:
    import yaml

    click.echo(yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True), nl=False)


@click.command()
@click.option("--role", "roles", multiple=True, type=click.Choice(_ROLES), help="Roles (default: all).")
@click.option("--name", default="ovnkit", show_default=True, help="Name of both.")
@config_options
def privileges(roles: tuple[str, ...], name: str, path: str | None, sets: tuple[str, ...]) -> None:
    """Print the ClusterRole, and the Role for Leases, that the core and the enabled plugins need.

    As narrow as processes with these roles need it: give each kind of process a service account of its own.

    \b
    Example:
      ovnkit privileges --role cluster --name ovnkit-cluster | kubectl apply -f -
      ovnkit privileges --role zone --role node --name ovnkit-node | kubectl apply -f -
    """
    from ovnkit.api.renderers import Role
    from ovnkit.process.manifests import role_manifests

    plugins, loaded = load(path, sets)
    refuse_missing(plugins)
    _yaml(role_manifests(plugins, loaded.config, [Role(role) for role in roles or _ROLES], name))


@click.command()
@config_options
def crds(path: str | None, sets: tuple[str, ...]) -> None:
    """Print the CustomResourceDefinitions of the enabled plugins.

    \b
    Example:
      ovnkit crds | kubectl apply --server-side -f -
    """
    from ovnkit.process import manifests

    plugins, _loaded = load(path, sets)
    refuse_missing(plugins)
    documents = manifests.crds(plugins)
    if documents:
        _yaml(documents)
    else:
        click.echo("# the enabled plugins have none")
