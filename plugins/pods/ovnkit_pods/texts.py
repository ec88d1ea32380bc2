"""The usual annotation of a node's pods as a template: a whole parse and render for each pod would cost too much.

The template is cut from what `podnetwork.render` writes, so the two can't disagree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from ovnkit.api.text import Address, Network
from ovnkit.network.node import nth_interface
from ovnkit.network.pod import DEFAULT_NETWORK, PodNetwork, render

_MAC = "00:00:00:00:00:00"


@frozen
class AnnotationText:
    """Text of an annotation with one network: `pieces` are text, or the position of what goes there."""

    pieces: tuple[str | int, ...]

    @classmethod
    def of(
        cls, subnets: Sequence[Network], gateways: tuple[Address, ...], routes: tuple[tuple[Network, Address], ...]
    ) -> AnnotationText:
        """The template for pods with these subnets (the MAC is position 0), gateways and routes."""
        samples = tuple(nth_interface(network, 0) for network in subnets)
        text = render(None, DEFAULT_NETWORK, PodNetwork(samples, _MAC, gateways, routes))
        places = {f'"{_MAC}"': 0, **{f'"{sample}"': number for number, sample in enumerate(samples, start=1)}}
        parts = re.split("({})".format("|".join(map(re.escape, places))), text)
        return cls(tuple(places.get(part, part) for part in parts))

    def fill(self, mac: str, addresses: Sequence[str]) -> str:
        """The text for a MAC and addresses with prefix length, in the order of the subnets."""
        values = (mac, *addresses)
        return "".join([piece if type(piece) is str else f'"{values[piece]}"' for piece in self.pieces])  # type: ignore[index]
