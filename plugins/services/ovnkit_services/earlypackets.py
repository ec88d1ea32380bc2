"""Role node: what a client sends before its first answer is translated like its first packet.

A gateway router gives what it balances its own address as the source (`lb_force_snat_ip`), so that answers come
back through it. OVN decides that for a connection's first packet, which goes to the service's address, and for
packets of an established one. One that comes before the first answer is neither: connection tracking has changed
its destination already, and it would leave with the client's address. Its answer goes another way; and when the
first packet was lost, the connection is never established, and the client is cut off for as long as it sends.
"""

from __future__ import annotations

import re

from attrs import frozen

_ESTABLISHED = re.compile(r"\bct_state=-new\+est-rel-rpl\+trk,ct_mark=0x(?:a/0xa|6/0x6)\b")
"""Established, and by ct_mark balanced (2) with a forced source (8) or one that is kept (4)."""


def may_be_established(line: str) -> bool:
    """Whether a line of a dump or an event tells of such a flow."""
    return _ESTABLISHED.search(line) is not None


@frozen
class EstablishedFlow:
    """A flow by which OVN chooses the source of established connections. `match` is as the bridge prints it."""

    table: int
    priority: int
    match: str
    actions: str

    @property
    def copy(self) -> str:
        """The same for connections that haven't been answered yet."""
        match = self.match.replace("ct_state=-new+est-rel-rpl+trk", "ct_state=+new-est-rel-rpl+trk")
        return f"table={self.table},priority={self.priority},{match},actions={self.actions}"
