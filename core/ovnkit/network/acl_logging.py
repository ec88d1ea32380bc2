"""How ACLs are logged: the seam between plugins that write a namespace's ACLs and the one that knows its levels.

A plugin that renders ACLs for a namespace asks `acl_logging(hooks, world, namespace)` and adds
`acl_columns(...)`; the answer comes from the hook `ovnkit_acl_logging`, so without a plugin that implements it
nothing is logged.
"""

from __future__ import annotations

from collections.abc import Mapping

from ovnkit.api.hooks import AclLogging, HookCalls, Hooks
from ovnkit.api.items import Value
from ovnkit.api.matches import Match
from ovnkit.api.world import World

SEVERITIES = ("alert", "warning", "notice", "info", "debug")
"""Severities of OVN (ACL.severity)."""

METER = "acl-logging"
"""Name of the meter that limits log lines; the plugin that knows the levels writes it."""

LOG_COLUMNS = ("name", "meter", "log", "severity")
"""The columns of an ACL that `acl_columns` gives, to be declared by who writes it."""

NAME_LENGTH = 63
"""Longest name of an ACL (OVN schema)."""


OFF = AclLogging()


def acl_logging(hooks: HookCalls, world: World, namespace: str) -> AclLogging:
    """How ACLs of a namespace are to be logged."""
    found = hooks.first(Hooks.ovnkit_acl_logging, world=world, namespace=namespace)
    return found[1] if found is not None and isinstance(found[1], AclLogging) else OFF


def acl_columns(name: str, action: str, logging: AclLogging = OFF) -> Mapping[str, Value]:
    """Columns name, meter, log and severity of an ACL with this action.

    The name is what log lines show, cut at `NAME_LENGTH`. An ACL that is never logged has none (empty), and the
    meter all the same: as in OVN-Kubernetes, whoever switches its log on by hand gets it limited.
    """
    severity = logging.deny if action in ("drop", "reject") else logging.allow
    return {
        "name": name[:NAME_LENGTH] or None,
        "meter": Match(METER, frozenset((logging.meter.uuid,))) if severity and logging.meter else METER,
        "log": bool(severity),
        "severity": severity or None,
    }
