"""`ovnkit run`: the network plugin itself."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from ovnkit.api.hooks import Hooks
from ovnkit.cli.common import config_options, load, refuse_missing
from ovnkit.cli.errors import EXIT_CONFIG, Failure

if TYPE_CHECKING:
    from ovnkit.config.load import Loaded
    from ovnkit.plugins.registry import Plugins


@click.command()
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice(("cluster", "zone", "node")),
    help="What this process does; may be repeated.",
)
@config_options
@click.option("--node-name", envvar="NODE_NAME", default="", help="Name of this node [NODE_NAME].")
@click.option("--zone", default="", help="Same as --set default.zone=ZONE.")
@click.option("--kubeconfig", default="", help="Same as --set kubernetes.kubeconfig=FILE.")
@click.option("--log-level", default="", help="Same as --set logging.level=LEVEL.")
@click.option("--log-format", default="", help="Same as --set logging.format=FORMAT.")
@click.option("--identity", default="", help="Name in leader elections (default: POD_NAME, node or host name).")
@click.option("--allow-mass-delete", is_flag=True, help="Let a change delete more than half of the owned rows.")
def run(
    roles: tuple[str, ...],
    path: str | None,
    sets: tuple[str, ...],
    node_name: str,
    zone: str,
    kubeconfig: str,
    log_level: str,
    log_format: str,
    identity: str,
    allow_mass_delete: bool,
) -> None:
    """Run until stopped, in one or several roles.

    \b
    cluster  assigns node ids and subnets; one process at a time does (Lease ovn-kubernetes-master)
    zone     writes the northbound database of a zone
    node     configures Open vSwitch and the host of a node, and serves CNI

    \b
    Examples:
      ovnkit run --role cluster
      ovnkit run --role zone --role node --node-name worker-1
      ovnkit run --role zone --set default.zone-mode=central --set ovnnorth.address=tcp:10.0.0.1:6641

    Exit code: 0 stopped, 1 failure, 2 configuration, 3 lost the lease.
    """
    from ovnkit.config.load import Override

    flags = (
        ("default", "zone", zone, "--zone"),
        ("kubernetes", "kubeconfig", kubeconfig, "--kubeconfig"),
        ("logging", "level", log_level, "--log-level"),
        ("logging", "format", log_format, "--log-format"),
    )
    extra = tuple(Override(section, key, value, flag) for section, key, value, flag in flags if value)
    plugins, loaded = load(path, sets, extra)
    refuse_missing(plugins)
    sys.exit(_run(plugins, loaded, roles, node_name, identity, allow_mass_delete))


def _run(
    plugins: Plugins,
    loaded: Loaded,
    roles: tuple[str, ...],
    node_name: str,
    identity: str,
    allow_mass_delete: bool,
) -> int:
    import structlog

    from ovnkit.api.errors import ConfigError, HostError, OvnkitError
    from ovnkit.api.renderers import Role
    from ovnkit.process import logs
    from ovnkit.process.databases import read_fact
    from ovnkit.process.run import Process
    from ovnkit.process.scope import make_scope

    try:
        scope = make_scope(loaded.config, map(Role, roles), node_name)
        logs.setup(loaded.config.logging, node=node_name)
        log = structlog.get_logger()
        for plugin in plugins.all.values():
            if plugin.state.value == "failed" or (
                plugin.why and plugin.name in loaded.config.plugins.enabled and plugin.state.value != "enabled"
            ):
                log.error("plugin does not run", plugin=plugin.name, state=plugin.state.value, why=plugin.why)
        plugins.calls.each(
            Hooks.ovnkit_check_host, config=loaded.config, scope=scope, facts=partial(read_fact, loaded.config)
        )
        return Process(loaded, plugins, scope, allow_mass_delete=allow_mass_delete, identity=identity).run()
    except ConfigError as error:
        raise Failure(str(error), EXIT_CONFIG) from None
    except HostError as error:
        raise Failure(str(error), advice=error.advice) from None
    except OvnkitError as error:
        raise Failure(str(error)) from None
