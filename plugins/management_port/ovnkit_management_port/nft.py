"""Traffic that enters the pod network through the management port gets the port's address as its source.

Without it a pod would answer to an address that only this node's kernel knows. Exceptions are listed in sets,
which the services plugin fills (`mgmtport-no-snat-nodeports`, `mgmtport-no-snat-services-v4` and `-v6`), and
by the node's annotation `k8s.ovn.org/node-ingress-snat-exclude-subnets`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.errors import Reject
from ovnkit.api.models import NODES
from ovnkit.api.nft import (
    ChainType,
    Hook,
    LinkName,
    Match,
    NftChain,
    NftElement,
    NftItem,
    NftRule,
    NftSet,
    NftType,
    Selector,
    SetName,
    Snat,
    Statement,
    Verdict,
)
from ovnkit.api.text import Network, parse_json_strings, parse_network, quoted
from ovnkit.api.world import World, derived
from ovnkit.network.node import management_address

CHAIN = "mgmtport-snat"
NODEPORTS = "mgmtport-no-snat-nodeports"
SERVICES = "mgmtport-no-snat-services-v{}"
SUBNETS = "mgmtport-no-snat-subnets-v{}"
EXCLUDE = "k8s.ovn.org/node-ingress-snat-exclude-subnets"

_SOURCE = {4: Selector.IPV4_SOURCE, 6: Selector.IPV6_SOURCE}
_DESTINATION = {4: Selector.IPV4_DESTINATION, 6: Selector.IPV6_DESTINATION}
_ADDRESS = {4: NftType.IPV4, 6: NftType.IPV6}
_SERVICE = (Selector.PROTOCOL, Selector.DESTINATION_PORT)


def snat_items(world: World, node: str, port: str, subnets: tuple[Network, ...]) -> Iterable[NftItem]:
    """Chain, sets, rules and elements for a node with these subnets."""
    excluded = excluded_subnets(world, node)
    rules: list[tuple[Statement, ...]] = [
        (Match((Selector.OUT_LINK,), LinkName(port), negate=True), Verdict.RETURN),
        (Match(_SERVICE, SetName(NODEPORTS)), Verdict.RETURN),
    ]
    # Priority of srcnat.
    yield NftChain(CHAIN, ChainType.NAT, Hook.POSTROUTING, 100)
    yield NftSet(NODEPORTS, (NftType.PROTOCOL, NftType.PORT))
    for subnet in subnets:
        version = subnet.version
        own = management_address(subnet).ip
        services, networks = SERVICES.format(version), SUBNETS.format(version)
        yield NftSet(services, (_ADDRESS[version], NftType.PROTOCOL, NftType.PORT))
        yield NftSet(networks, (_ADDRESS[version],), interval=True)
        rules += [
            (Match((_SOURCE[version],), own), Verdict.RETURN),
            (Match((_DESTINATION[version], *_SERVICE), SetName(services)), Verdict.RETURN),
            (Match((_SOURCE[version],), SetName(networks)), Verdict.RETURN),
            (Snat(own),),
        ]
        yield from (NftElement(networks, (network,)) for network in excluded if network.version == version)
    yield from (NftRule(CHAIN, order, statements) for order, statements in enumerate(rules))


@derived
def excluded_subnets(world: World, node: str) -> tuple[Network, ...]:
    """Networks whose packets keep their source, as the node's annotation says; raises Reject on nonsense."""
    found = world.get(NODES, node)
    text = found.annotations.get(EXCLUDE) if found is not None else None
    if not text:
        return ()
    try:
        return tuple(parse_network(item, strict=True) for item in parse_json_strings(text))
    except ValueError as error:
        raise Reject(f"annotation {EXCLUDE} is {quoted(text)}: {error}", reason="InvalidAnnotation") from None
