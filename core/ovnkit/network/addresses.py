"""Sequences of addresses that are computed, not stored: candidates of address pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import overload

from attrs import frozen

from ovnkit.api.text import Address

IPV6_CAP = 65_536
"""Most addresses used of an IPv6 subnet, as upstream."""


@frozen
class AddressRange(Sequence[Address]):
    """The usable addresses of a subnet: after `skip` leading ones (the network address counts as the first),
    without an IPv4 broadcast address, at most `IPV6_CAP` of an IPv6 subnet. Costs nothing until it is indexed.
    """

    network: IPv4Network | IPv6Network
    skip: int

    def __len__(self) -> int:
        size = self.network.num_addresses
        size = size - 1 if self.network.version == 4 else min(size, IPV6_CAP)
        return max(0, size - self.skip)

    @overload
    def __getitem__(self, index: int) -> Address: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Address]: ...
    def __getitem__(self, index: int | slice) -> Address | Sequence[Address]:
        """The address at a position, or a tuple for a slice."""
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.network[self.skip + index]

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, IPv4Address | IPv6Address) or address.version != self.network.version:
            return False
        if getattr(address, "scope_id", None) is not None:
            return False  # it equals no address of the range, yet it would be the same one to everybody else
        offset = int(address) - int(self.network.network_address) - self.skip
        return 0 <= offset < len(self)

    def __iter__(self) -> Iterator[Address]:
        return (self[position] for position in range(len(self)))
