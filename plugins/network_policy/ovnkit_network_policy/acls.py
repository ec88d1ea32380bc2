"""Rows of the kinds that policies consist of: port groups and their ACLs."""

from __future__ import annotations

from collections.abc import Mapping

from ovnkit.api.hooks import AclLogging
from ovnkit.api.identity import PRIMARY_ID, RowId, hash_name
from ovnkit.api.items import Row, Slot, Value
from ovnkit.api.live import LiveSet
from ovnkit.api.matches import Match
from ovnkit.network.acl_logging import OFF
from ovnkit.network.acls import Action, acl
from ovnkit_network_policy.rules import EGRESS


def group_row(group: RowId, ids: Mapping[str, str], ports: LiveSet | None) -> Row:
    """A port group with these ports."""
    columns: dict[str, Value] = {
        "name": hash_name(ids[PRIMARY_ID]),
        "ports": ports or frozenset(),
        "external_ids": ids,
    }
    return Row("Port_Group", group.name, columns)


def acl_row(
    group: RowId,
    name: str,
    direction: str,
    priority: int,
    action: Action,
    match: Match | str,
    ids: Mapping[str, str],
    shown: str,
    logging: AclLogging = OFF,
) -> Row:
    """An ACL of a group; `shown` is its name in logs. What pods send is looked at after load balancing."""
    sent = direction == EGRESS
    return acl(
        name,
        Slot("Port_Group", group, "acls"),
        "from-lport" if sent else "to-lport",
        priority,
        action,
        match,
        ids,
        shown=shown,
        logging=logging,
        after_lb=sent,
    )
