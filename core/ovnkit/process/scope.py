"""Which roles, node and zone this process has."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.config import Config
from ovnkit.api.errors import ConfigError
from ovnkit.api.hooks import Scope
from ovnkit.api.renderers import Role

CENTRAL_ZONE = "global"
"""Name of the one zone of a central set-up, as upstream's default `--zone`."""


def make_scope(config: Config, roles: Iterable[Role], node: str) -> Scope:
    """The scope of a process; raises ConfigError if a role needs a node's name and there is none."""
    held = frozenset(roles)
    if not held:
        raise ConfigError("command line: no role is given: --role cluster, zone, node (may be repeated)")
    per_node = config.default.zone_mode == "per-node"
    zone = config.default.zone or (node if per_node else CENTRAL_ZONE)
    if Role.NODE in held and not node:
        raise ConfigError("command line: the node role needs --node-name (or NODE_NAME in the environment)")
    if Role.ZONE in held and not zone:
        raise ConfigError("command line: a zone per node needs --node-name (or NODE_NAME in the environment)")
    return Scope(held, node, zone, per_node)
