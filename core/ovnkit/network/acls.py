"""Rows of ACLs: their columns as every plugin declares and writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ovnkit.api.hooks import AclLogging, Columns
from ovnkit.api.items import Row, Slot
from ovnkit.api.matches import Match
from ovnkit.network.acl_logging import LOG_COLUMNS, OFF, acl_columns

TIER = 2
"""Where upstream has ACLs of policies; administrators' go before it."""

ACL_COLUMNS = (
    Columns("nb", "ACL", ("direction", "priority", "action", "match", "options", "external_ids", *LOG_COLUMNS)),
    Columns("nb", "ACL", ("tier",), "23.06", optional=True),
)
"""For the declaration of a plugin that writes ACLs."""

Direction = Literal["from-lport", "to-lport"]
Action = Literal["allow", "allow-related", "allow-stateless", "drop", "reject", "pass"]


def acl(
    name: str,
    parent: Slot,
    direction: Direction,
    priority: int,
    action: Action,
    match: Match | str,
    ids: Mapping[str, str],
    *,
    shown: str = "",
    logging: AclLogging = OFF,
    after_lb: bool = False,
    tier: int | None = TIER,
) -> Row:
    """An ACL of a switch or port group (`parent`). `name` is the row's, `shown` the one in log lines.

    With `after_lb` it sees packets from ports after load balancing. `tier` is left out where the schema has none;
    None is OVN's default, the first.
    """
    return Row(
        "ACL",
        name,
        {
            "direction": direction,
            "priority": priority,
            "action": action,
            "match": match,
            "options": {"apply-after-lb": "true"} if after_lb else {},
            "external_ids": ids,
            **({"tier": tier} if tier is not None else {}),
            **acl_columns(shown, action, logging),
        },
        parent=parent,
        optional=frozenset({"tier"}) if tier is not None else frozenset(),
    )
