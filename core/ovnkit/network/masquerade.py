"""Addresses of the masquerade subnets: link-local stand-ins that node and OVN use among themselves."""

from __future__ import annotations

from enum import IntEnum

from ovnkit.api.text import Interface, Network
from ovnkit.network.node import nth_interface


class Masquerade(IntEnum):
    """Places in a masquerade subnet, upstream's."""

    OVN = 1
    """The gateway router, as the node sees it."""
    HOST = 2
    """The node, as its gateway router sees it."""
    ETP_LOCAL = 3
    """Where external traffic goes that must stay on the node (externalTrafficPolicy Local)."""
    NEXT_HOP = 4
    """A next hop that doesn't exist, towards which traffic leaves by the external bridge."""
    HAIRPIN = 5
    """What a pod that reaches itself through a service sees as its client."""


def masquerade_address(subnet: Network, place: Masquerade) -> Interface:
    """An address of a masquerade subnet (`Config.masquerade_subnet`), with the subnet's prefix length."""
    return nth_interface(subnet, place)
