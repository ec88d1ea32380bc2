"""What is known of a name after each round of queries, and when to ask again. Pure; times in seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum

from attrs import evolve, field, frozen

from ovnkit.api.backoff import doubled
from ovnkit.api.text import Address
from ovnkit_egress_firewall.dnsnames import DnsAnswer, by_family

ZERO_TTL = 5.0
"""Until the next look-up when the answer may not be kept at all."""
SHORTEST, LONGEST = 1.0, 1800.0
"""Bounds of the time to the next look-up."""
LONGEST_TTL = 86400.0
"""An address that is no longer given out is used for a day at most, whatever its TTL was."""
RETRY, RETRIES, LONGEST_RETRY = 5.0, 10, 120.0
"""After a failure: this soon, this often; then each wait is twice the one before, up to the longest."""


@frozen
class Found:
    """What all servers said to one question (one record type).

    `addresses` with their TTL; `ttl` is the smallest of any record on the way, aliases included, or without
    addresses how long that may be believed (RFC 2308). `answered` is whether any server could say something, be
    it that there is nothing; `fault` is what went wrong, or why there is nothing. `timed_out` is whether nothing
    came back at all.
    """

    addresses: Mapping[Address, float] = field(factory=dict)
    ttl: float = LONGEST
    answered: bool = True
    fault: str = ""
    timed_out: bool = False


class State(Enum):
    """How it stands with a name: nothing heard yet, addresses of the last round, older ones, or none."""

    PENDING = "pending"
    RESOLVED = "resolved"
    STALE = "stale"
    UNRESOLVED = "unresolved"


@frozen
class Knowledge:
    """What is known of a name: addresses with the time until which they may be used, and when to ask again.

    An address stays beyond its time while no server says anything about its IP version; a name that is known not
    to have it loses it when its time is over. `known` are the IP versions about which a server has said something.
    """

    expiry: Mapping[Address, float] = field(factory=dict)
    known: frozenset[int] = frozenset()
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

    def hear(self, family: int, found: Found, now: float) -> Knowledge:
        """In the middle of a round, when one server has given addresses: they count at once, and none goes."""
        if not found.addresses:
            return self
        fresh = _expiry([found], now)
        longest = {a: max(until, self.expiry.get(a, 0.0)) for a, until in fresh.items()}
        fault = self.fault if self.expiry and family in self.known else ""
        return evolve(self, expiry={**self.expiry, **longest}, known=self.known | {family}, fault=fault)

    def learn(self, found: Mapping[int, Found], now: float) -> Knowledge:
        """After another round; `found` is by IP version."""
        fresh = _expiry(found.values(), now)
        silent = {family for family, answer in found.items() if not answer.answered}
        kept = {
            address: until
            for address, until in self.expiry.items()
            if address not in fresh and (until > now or address.version in silent)
        }
        known = self.known.union(found.keys() - silent)
        failures = 0 if fresh and not silent else self.failures + 1
        ends = [until - now for address, until in kept.items() if address.version not in silent]
        if fresh:
            ends.append(min(answer.ttl or ZERO_TTL for answer in found.values() if answer.addresses))
        if failures:
            believed = 0.0 if silent else min(answer.ttl for answer in found.values())
            ends.append(max(retry_after(failures), min(believed, LONGEST_RETRY)))
        wait = max(SHORTEST, min([*ends, LONGEST]))
        return Knowledge({**fresh, **kept}, known, _fault(found, known, bool(fresh or kept)), failures, wait)


def _expiry(answers: Iterable[Found], now: float) -> dict[Address, float]:
    return {a: now + min(ttl, LONGEST_TTL) for answer in answers for a, ttl in answer.addresses.items()}


def _fault(found: Mapping[int, Found], known: Collection[int], resolved: bool) -> str:
    """Why there are no addresses; of a name that has some, why an IP version is not known."""
    concerned = [answer for family, answer in found.items() if not resolved or family not in known]
    return "; ".join(dict.fromkeys(answer.fault for answer in concerned if answer.fault))


def retry_after(failures: int) -> float:
    """Seconds to wait after this many failures in a row."""
    return doubled(RETRY, LONGEST_RETRY, failures - RETRIES)
