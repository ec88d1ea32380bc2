"""One round of queries for a name, with dnspython."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from ovnkit.api.nodenetwork import Address
from ovnkit.api.text import parse_address, readable
from ovnkit_egress_firewall.options import Server
from ovnkit_egress_firewall.schedule import Found

ATTEMPTS, TIMEOUT = 2, 2.5
"""Queries over UDP to one server, and the seconds that each may take."""

_PAYLOAD = 1232
"""Octets of a UDP answer that never need fragments (DNS Flag Day 2020); longer ones come over TCP."""

_TYPES = {4: dns.rdatatype.A, 6: dns.rdatatype.AAAA}
_SAYS_SOMETHING = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


async def look_up(name: str, servers: Sequence[Server], families: Sequence[int]) -> dict[int, Found]:
    """What the servers say, all of them asked at the same time, by IP version. Never raises for what they do."""
    answers = await asyncio.gather(*(_merged(name, servers, family) for family in families))
    return dict(zip(families, answers, strict=True))


async def _merged(name: str, servers: Sequence[Server], family: int) -> Found:
    """Everything that any server said to one question."""
    answers = await asyncio.gather(*(_ask(name, server, family) for server in servers))
    good = [answer for answer in answers if answer.answered]
    addresses: dict[Address, float] = {}
    for answer in good:
        for address, ttl in answer.addresses.items():
            addresses[address] = max(ttl, addresses.get(address, 0.0))
    faults = dict.fromkeys(answer.fault for answer in good or answers if answer.fault)
    ttl = min((answer.ttl for answer in good if answer.addresses), default=Found().ttl)
    return Found(addresses, ttl, bool(good), "" if addresses else ", ".join(faults))


async def _ask(name: str, server: Server, family: int) -> Found:
    record = _TYPES[family]
    fault = ""
    for _ in range(ATTEMPTS):
        query = dns.message.make_query(dns.name.from_text(name), record, use_edns=0, payload=_PAYLOAD)
        try:
            response, _ = await dns.asyncquery.udp_with_fallback(
                query, server.address, timeout=TIMEOUT, port=server.port, ignore_unexpected=True
            )
            code = response.rcode()
            if code not in _SAYS_SOMETHING:
                return Found(answered=False, fault=f"{server} says {dns.rcode.to_text(code)}")
            if not isinstance(response, dns.message.QueryMessage):
                raise ValueError("it is no answer to a query")
            chain = response.resolve_chaining()
        except dns.exception.Timeout:
            fault = f"{server} does not answer"
            continue
        except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
            return Found(answered=False, fault=f"{server}: {_one_line(error)}")
        if chain.answer is None:
            said = "there is no such name" if code == dns.rcode.NXDOMAIN else f"it has no {record.name} record"
            return Found(fault=said)
        ttl = float(min([chain.answer.ttl, *(alias.ttl for alias in chain.cnames)]))
        # An IPv4-mapped address, at which nobody can be reached, is left out.
        addresses = readable(parse_address, (item.address for item in chain.answer))
        return Found(dict.fromkeys(addresses, ttl), ttl)
    return Found(answered=False, fault=fault)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
