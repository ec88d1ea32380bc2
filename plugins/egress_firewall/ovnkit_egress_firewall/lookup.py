"""One round of queries for a name, with dnspython."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from ovnkit.api.text import Address, parse_address, readable
from ovnkit_egress_firewall.options import Server
from ovnkit_egress_firewall.schedule import Found

ATTEMPTS, TIMEOUT = 2, 2.5
"""Queries over UDP to one server, and the seconds that each may take."""

_PAYLOAD = 1232
"""Octets of a UDP answer that never need fragments (DNS Flag Day 2020); longer ones come over TCP."""

_TYPES = {4: dns.rdatatype.A, 6: dns.rdatatype.AAAA}
_SAYS_SOMETHING = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
_NO_EDNS = (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS)
"""What a server says that doesn't understand EDNS (RFC 6891, section 7): it is asked again without."""

Heard = Callable[[Server, int, Found], None]
"""Takes what one server said to the question of one IP version, at once."""


async def look_up(name: str, servers: Sequence[Server], families: Sequence[int], heard: Heard) -> dict[int, Found]:
    """What the servers say, all of them asked at the same time, by IP version. Never raises for what they do.

    It returns when the last server has answered or had its time; `heard` gets each answer as it comes.
    """

    async def ask(server: Server, family: int) -> Found:
        found = await _ask(name, server, family)
        heard(server, family, found)
        return found

    async def everywhere(family: int) -> Found:
        return _merge(await asyncio.gather(*(ask(server, family) for server in servers)))

    answers = await asyncio.gather(*map(everywhere, families))
    return dict(zip(families, answers, strict=True))


def _merge(answers: Sequence[Found]) -> Found:
    """Everything that any server said to one question."""
    good = [answer for answer in answers if answer.answered]
    addresses: dict[Address, float] = {}
    for answer in good:
        for address, ttl in answer.addresses.items():
            addresses[address] = max(ttl, addresses.get(address, 0.0))
    faults = dict.fromkeys(answer.fault for answer in good or answers if answer.fault)
    ttl = min((answer.ttl for answer in good if answer.addresses or not addresses), default=Found().ttl)
    return Found(addresses, ttl, bool(good), "" if addresses else ", ".join(faults))


async def _ask(name: str, server: Server, family: int) -> Found:
    record = _TYPES[family]
    fault, timed_out = "", False
    for attempt in range(ATTEMPTS):
        edns = 0 if attempt == 0 else False
        query = dns.message.make_query(dns.name.from_text(name), record, use_edns=edns, payload=_PAYLOAD)
        try:
            response, _ = await dns.asyncquery.udp_with_fallback(
                query, server.address, timeout=TIMEOUT, port=server.port, ignore_unexpected=True
            )
            code = response.rcode()
            if code not in _SAYS_SOMETHING:
                fault = f"{server} says {dns.rcode.to_text(code)}"
                if code in _NO_EDNS:
                    continue
                return Found(answered=False, fault=fault)
            if not isinstance(response, dns.message.QueryMessage):
                raise ValueError("it is no answer to a query")
            chain = response.resolve_chaining()
        except dns.exception.Timeout:
            fault, timed_out = f"{server} does not answer", True
            continue
        except dns.exception.FormError as error:
            fault = f"{server}: {_one_line(error)}"
            continue
        except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
            return Found(answered=False, fault=f"{server}: {_one_line(error)}")
        if chain.answer is None:
            said = "there is no such name" if code == dns.rcode.NXDOMAIN else f"it has no {record.name} record"
            may_be_kept = any(record.rdtype == dns.rdatatype.SOA for record in response.authority)
            return Found(ttl=float(chain.minimum_ttl) if may_be_kept else 0.0, fault=said)
        ttl = float(chain.minimum_ttl)
        # An IPv4-mapped address, at which nobody can be reached, is left out.
        addresses = readable(parse_address, (item.address for item in chain.answer))
        found = dict.fromkeys(addresses, ttl)
        return Found(found, ttl, fault="" if found else f"its {record.name} records are no addresses")
    return Found(answered=False, fault=fault, timed_out=timed_out)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
