"""Names of the DNS, and where knowledge of them comes from: resolver, DNSNameResolver objects, address sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.identity import PRIMARY_ID, RowId, hash_name, object_ids
from ovnkit.api.kinds import Answers, Kind, Raw, Resource, Table
from ovnkit.api.matches import Match, address_set
from ovnkit.api.models import ObjectView, metadata
from ovnkit.api.text import Address, parse_address, quoted, readable

OWNER_TYPE = "EgressFirewallDNS"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST = 253
"""Characters of a name without its last dot (RFC 1035 allows 255 octets on the wire)."""


@frozen
class DnsName:
    """A name: lower case, no dot at the end. In front of a wildcard is `*.`, which stands for one label."""

    text: str

    @classmethod
    def parse(cls, text: object) -> DnsName:
        """The name an object gives, in whatever case; raises Reject."""
        if isinstance(text, str) and text.isascii():
            name = text.lower().removesuffix(".")
            labels = name.removeprefix("*.").split(".")
            if len(name) <= _LONGEST and all(_LABEL.fullmatch(label) for label in labels):
                return cls(name)
        raise Reject(f"dnsName {quoted(text)} is not a name")

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for many names; no resolver can look it up."""
        return self.text.startswith("*.")

    def set_ids(self, family: int) -> dict[str, str]:
        """The ids of its address set of an IP version."""
        return object_ids(OWNER_TYPE, ("k8s.ovn.org/name", self.text), ("ip-family", f"v{family}"))

    def set_name(self, family: int) -> str:
        """The name of its address set of an IP version."""
        return hash_name(self.set_ids(family)[PRIMARY_ID])

    def match(self, family: int) -> Match:
        """The name of its address set of an IP version, as a match has it."""
        return address_set(self.set_name(family), RowId("egress_firewall", "name", self.text, f"v{family}"))


@frozen
class DnsAnswer:
    """What the resolver found. `known` are the IP versions about which a server could say something, be it that
    there is nothing; `fault` says why there are no addresses, or why a version is not known."""

    name: str
    addresses: tuple[Address, ...] = ()
    known: frozenset[int] = frozenset((4, 6))
    fault: str = ""

    @property
    def key(self) -> str:
        """The name as in `DnsName.text`."""
        return self.name


DNS_ANSWERS: Kind[DnsAnswer] = Kind("dns-answers", Answers(), lambda raw: DnsAnswer(**raw))


@frozen
class DnsSet:
    """An address set of a name, as it is in the northbound now."""

    name: str
    addresses: tuple[Address, ...]

    @property
    def key(self) -> str:
        """Name of the row."""
        return self.name


def _set(raw: Raw) -> DnsSet:
    return DnsSet(str(raw["name"]), _addresses(raw["addresses"]))


DNS_SETS: Kind[DnsSet] = Kind(
    "dns-sets",
    Table("nb", "Address_Set", ("name", "addresses", "external_ids"), (("k8s.ovn.org/owner-type", OWNER_TYPE),)),
    _set,
)


@frozen
class DnsNameResolver(ObjectView):
    """A DNSNameResolver: a name that the cluster's DNS server watches, and the addresses it has given out."""

    dns_name: str = ""
    addresses: tuple[Address, ...] = ()


def _resolver(raw: Raw) -> DnsNameResolver:
    meta = {**metadata(raw), "labels": {}, "annotations": {}}
    name = DnsName.parse((raw.get("spec") or {}).get("name"))
    found: list[Any] = []
    for resolved in (raw.get("status") or {}).get("resolvedNames") or ():
        entries = resolved.get("resolvedAddresses") if isinstance(resolved, Mapping) else ()
        found += [entry.get("ip") for entry in entries or () if isinstance(entry, Mapping)]
    return DnsNameResolver(**meta, dns_name=name.text, addresses=_addresses(found))


def _addresses(texts: Any) -> tuple[Address, ...]:
    """What can be read as addresses, in order; anything else is left out."""
    return tuple(sorted(set(readable(parse_address, texts)), key=by_family))


def by_family(address: Address) -> tuple[int, int]:
    """Sorting key: IPv4 first."""
    return address.version, int(address)


DNS_NAME_RESOLVERS: Kind[DnsNameResolver] = Kind(
    "dnsnameresolvers",
    Resource("network.openshift.io/v1alpha1", "dnsnameresolvers", "DNSNameResolver", optional=True),
    _resolver,
    indexes={"name": lambda view: (view.dns_name,)},
)
