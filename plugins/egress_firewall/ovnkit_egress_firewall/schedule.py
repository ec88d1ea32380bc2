"""What is known of a name after each round of queries, and when to ask again. Pure; times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen

from ovnkit.api.nodenetwork import Address
from ovnkit_egress_firewall.dnsnames import DnsAnswer, by_family

ZERO_TTL = 5.0
"""Until the next look-up when the answer may not be kept at all."""
SHORTEST, LONGEST = 1.0, 1800.0
"""Bounds of the time to the next look-up."""
RETRY, RETRIES, LONGEST_RETRY = 5.0, 10, 120.0
"""After a failure: this soon, this often; then each wait is twice the one before, up to the longest."""


@frozen
class Found:
    """What all servers said to one question (one record type).

    `addresses` with their TTL; `ttl` is the smallest of any record on the way, aliases included. `answered` is
    whether any server could say something, be it that there is nothing; `fault` is what went wrong, or why
    there is nothing.
    """

    addresses: Mapping[Address, float] = field(factory=dict)
    ttl: float = LONGEST
    answered: bool = True
    fault: str = ""


class State(Enum):
    """How it stands with a name: nothing heard yet, addresses of the last round, older ones, or none."""

    PENDING = "pending"
    RESOLVED = "resolved"
    STALE = "stale"
    UNRESOLVED = "unresolved"


@frozen
class Knowledge:
    """What is known of a name: addresses with the time until which they may be used, and when to ask again.

    An address stays beyond its time while no server tells anything better.
    """

    expiry: Mapping[Address, float] = field(factory=dict)
    known: bool = False
    fault: str = ""
    failures: int = 0
    wait: float = 0.0

    @property
    def state(self) -> State:
        """In a word, for operators."""
        if self.expiry:
            return State.STALE if self.failures else State.RESOLVED
        return State.UNRESOLVED if self.failures else State.PENDING

    def answer(self, name: str) -> DnsAnswer:
        """As the world sees it."""
        return DnsAnswer(name, tuple(sorted(self.expiry, key=by_family)), self.known, self.fault)

    def learn(self, found: Mapping[int, Found], now: float) -> Knowledge:
        """After another round; `found` is by IP version."""
        addresses = {a: now + ttl for answer in found.values() for a, ttl in answer.addresses.items()}
        silent = {family for family, answer in found.items() if not answer.answered}
        if not addresses:
            return self._failed(found, all_answered=not silent)
        for address, until in self.expiry.items():
            if address not in addresses and (until > now or address.version in silent):
                addresses[address] = until
        ends = [min(answer.ttl or ZERO_TTL for answer in found.values() if answer.addresses), LONGEST]
        ends += [until - now for a, until in addresses.items() if until > now and a not in _fresh(found)]
        failures = self.failures + 1 if silent else 0
        if silent:
            ends.append(retry_after(failures))
        return Knowledge(addresses, True, "", failures, max(SHORTEST, min(ends)))

    def _failed(self, found: Mapping[int, Found], *, all_answered: bool) -> Knowledge:
        """No server gave any address: what was good stays."""
        failures = self.failures + 1
        faults = dict.fromkeys(answer.fault for answer in found.values() if answer.fault)
        fault = "" if self.expiry else "; ".join(faults)
        return Knowledge(self.expiry, self.known or all_answered, fault, failures, retry_after(failures))


def _fresh(found: Mapping[int, Found]) -> set[Address]:
    return {address for answer in found.values() for address in answer.addresses}


def retry_after(failures: int) -> float:
    """Seconds to wait after this many failures in a row."""
    return float(min(LONGEST_RETRY, RETRY * 2 ** max(0, min(failures - RETRIES, 10))))
