"""Role node: nftables. How the kernel brings to services what the node's own processes send, and in local
gateway mode what comes from outside. Names of chains, sets and maps are upstream's."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.identity import hash_name
from ovnkit.api.nft import (
    AddressType,
    ChainType,
    DnatChoice,
    DnatMap,
    Hook,
    Jump,
    Match,
    NftChain,
    NftElement,
    NftItem,
    NftRule,
    NftSet,
    NftType,
    Protocol,
    RedirectMap,
    Selector,
    SetMark,
    SetName,
    Statement,
    Verdict,
)
from ovnkit.api.text import parse_address
from ovnkit_services.endpoints import NOBODY, Endpoints
from ovnkit_services.exposures import IP, Exposure
from ovnkit_services.frontends import Frontend
from ovnkit_services.layout import Layout

ITP_MARK = 0x1745EC
"""Mark of packets that go to OVN by the management port, where only the node's own endpoints answer."""

DSTNAT, MANGLE, BEFORE_DSTNAT, FILTER = -100, -150, -110, 0

_ADDRESS = {4: NftType.IPV4, 6: NftType.IPV6}
_DESTINATION = {4: Selector.IPV4_DESTINATION, 6: Selector.IPV6_DESTINATION}
_SOURCE = {4: Selector.IPV4_SOURCE, 6: Selector.IPV6_SOURCE}
_PORT = (Selector.PROTOCOL, Selector.DESTINATION_PORT)
_LOCAL = Match((Selector.DESTINATION_TYPE,), AddressType.LOCAL)
_REFUSED = "services-no-endpoints"
_REFUSALS = {Protocol.TCP: Verdict.RESET, Protocol.SCTP: Verdict.REJECT}
"""How the node refuses. UDP it leaves to OVN, whose answer is an ICMP error that comes back unharmed."""

_PROTOCOL = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


def standing(families: Iterable[int]) -> Iterable[NftItem]:
    """Chains, sets and maps that all services share."""
    families = tuple(families)
    yield NftChain("services-prerouting", ChainType.NAT, Hook.PREROUTING, DSTNAT)
    yield NftChain("services-output", ChainType.NAT, Hook.OUTPUT, DSTNAT)
    yield NftChain("services-itp-mark", ChainType.ROUTE, Hook.OUTPUT, MANGLE)
    yield NftChain("services-sources-prerouting", ChainType.FILTER, Hook.PREROUTING, BEFORE_DSTNAT)
    yield NftChain("services-sources-output", ChainType.FILTER, Hook.OUTPUT, BEFORE_DSTNAT)
    yield NftChain("services-refused-output", ChainType.FILTER, Hook.OUTPUT, FILTER)
    yield NftChain("services-refused-forward", ChainType.FILTER, Hook.FORWARD, FILTER)
    for chain in (
        "services-etp",
        "services-etp-no-nodeport",
        "services",
        "services-itp",
        "services-sources",
        "services-refused",
    ):
        yield NftChain(chain)
    yield from _jumps("services-prerouting", "services-etp", "services-etp-no-nodeport", "services")
    yield from _jumps("services-output", "services-itp", "services")
    yield from _jumps("services-sources-prerouting", "services-sources")
    yield from _jumps("services-sources-output", "services-sources")
    yield from _jumps("services-refused-output", "services-refused")
    yield from _jumps("services-refused-forward", "services-refused")
    for family in families:
        yield from _maps(family)
        yield from _rules(family)


def _jumps(chain: str, *targets: str) -> Iterable[NftRule]:
    return (NftRule(chain, order, (Jump(target),)) for order, target in enumerate(targets))


def _maps(family: int) -> Iterable[NftSet]:
    address = _ADDRESS[family]
    at_port = (NftType.PROTOCOL, NftType.PORT)
    for name in ("nodeports", "nodeports-etp-local"):
        yield NftSet(f"{name}-v{family}", at_port, (address, NftType.PORT))
    for name in ("external-ips", "external-ips-etp-local"):
        yield NftSet(f"{name}-v{family}", (address, *at_port), (address, NftType.PORT))
    yield NftSet(f"itp-services-to-redirect-v{family}", (address, *at_port), (NftType.PORT,))
    yield NftSet(f"itp-services-to-mark-v{family}", (address, *at_port))
    yield NftSet(f"{_REFUSED}-v{family}", (address, *at_port))


def _rules(family: int) -> Iterable[NftRule]:
    whole = (_DESTINATION[family], *_PORT)
    for chain, suffix in (("services-etp", "-etp-local"), ("services", "")):
        yield NftRule(chain, 1, (DnatMap(family, whole, f"external-ips{suffix}-v{family}"),))
        yield NftRule(chain, 2, (_LOCAL, DnatMap(family, _PORT, f"nodeports{suffix}-v{family}")))
    for order, protocol in enumerate(_PROTOCOL.values()):
        # nft changes a port only after a match of one certain protocol.
        redirect = RedirectMap(whole, f"itp-services-to-redirect-v{family}")
        yield NftRule("services-itp", order, (Match((Selector.PROTOCOL,), protocol), redirect))
    marked = (Match(whole, SetName(f"itp-services-to-mark-v{family}")), SetMark(ITP_MARK))
    yield NftRule("services-itp-mark", 0, marked)
    nobody = Match(whole, SetName(f"{_REFUSED}-v{family}"))
    for protocol, verdict in _REFUSALS.items():
        yield NftRule("services-refused", 0, (Match((Selector.PROTOCOL,), protocol), nobody, verdict))


def items(service: str, found: Iterable[Exposure], layout: Layout, *, local_mode: bool) -> Iterable[NftItem]:
    """Rules and elements of one service."""
    restricted = False
    for exposure in found:
        yield from _node_port(exposure, layout, local_mode)
        for address in exposure.addresses:
            yield from _external(exposure, address, layout)
        if exposure.internal_local:
            yield _internal(exposure)
        if exposure.allowed is not None and exposure.ingress:
            restricted = True
            yield from _guard(service, exposure)
    if restricted:
        yield from _sources(service, found, layout)


def refused(items: Iterable[Frontend], endpoints: Endpoints) -> Iterable[NftElement]:
    """Cluster IPs and ports without an endpoint anywhere. NodePorts and external addresses lead there.

    OVN refuses these too, but translates the source of its reset, so that it finds no way back to the node's own
    processes.
    """
    for item in items:
        if _PROTOCOL[item.port.protocol] not in _REFUSALS:
            continue
        for family, address in item.cluster:
            if not endpoints.get(((item.port.protocol, item.port.name), family), NOBODY).eligible():
                key = (parse_address(address), _PROTOCOL[item.port.protocol], item.port.port)
                yield NftElement(f"{_REFUSED}-v{family}", key)


def _key(exposure: Exposure, port: int) -> tuple[Protocol, int]:
    return _PROTOCOL[exposure.protocol], port


def _node_port(exposure: Exposure, layout: Layout, local_mode: bool) -> Iterable[NftElement]:
    port = exposure.node_port
    if not port:
        return
    key = _key(exposure, port)
    yield NftElement(f"nodeports-v{exposure.family}", key, (exposure.cluster, exposure.port))
    if exposure.external_local and not exposure.hosted:
        yield NftElement("mgmtport-no-snat-nodeports", key)
        if local_mode:
            yield NftElement(f"nodeports-etp-local-v{exposure.family}", key, (_etp_local(exposure, layout), port))


def _external(exposure: Exposure, address: IP, layout: Layout) -> Iterable[NftItem]:
    family = exposure.family
    key = (address, *_key(exposure, exposure.port))
    yield NftElement(f"external-ips-v{family}", key, (exposure.cluster, exposure.port))
    if not exposure.external_local or exposure.hosted:
        return
    if exposure.node_port:
        value = (_etp_local(exposure, layout), exposure.node_port)
        yield NftElement(f"external-ips-etp-local-v{family}", key, value)
        return
    targets = tuple((parse_address(target.address), target.port) for target in exposure.here)
    action: Statement = DnatChoice(targets, by_source=exposure.affinity) if targets else Verdict.DROP
    yield NftRule("services-etp-no-nodeport", 0, (*_to(exposure, address), action))
    for target in targets:
        element = (target[0], *_key(exposure, target[1]))
        yield NftElement(f"mgmtport-no-snat-services-v{family}", element)


def _internal(exposure: Exposure) -> NftElement:
    """The node's own processes: to its own endpoint of them, else to its own pods through OVN."""
    key = (exposure.cluster, *_key(exposure, exposure.port))
    if exposure.hosted:
        return NftElement(f"itp-services-to-redirect-v{exposure.family}", key, (exposure.hosted[0].port,))
    return NftElement(f"itp-services-to-mark-v{exposure.family}", key)


def _etp_local(exposure: Exposure, layout: Layout) -> IP:
    return parse_address(layout.etp_local[exposure.family])


def _to(exposure: Exposure, address: IP) -> tuple[Match, ...]:
    return (
        Match((_DESTINATION[exposure.family],), address),
        Match((Selector.PROTOCOL,), _PROTOCOL[exposure.protocol]),
        Match((Selector.DESTINATION_PORT,), exposure.port),
    )


def _set_of_sources(service: str, family: int) -> str:
    return f"services-sources-{hash_name(service)}-v{family}"


def _guard(service: str, exposure: Exposure) -> Iterable[NftRule]:
    """loadBalancerSourceRanges: who isn't named is dropped before any address is changed."""
    allowed = SetName(_set_of_sources(service, exposure.family))
    for address in exposure.ingress:
        outside = Match((_SOURCE[exposure.family],), allowed, negate=True)
        to = _to(exposure, address)
        yield NftRule("services-sources", 0, (*to, outside, Verdict.DROP), otherwise=(*to, Verdict.DROP))


def _sources(service: str, found: Iterable[Exposure], layout: Layout) -> Iterable[NftItem]:
    allowed = next(exposure.allowed for exposure in found if exposure.allowed is not None)
    for family in layout.families:
        name = _set_of_sources(service, family)
        yield NftSet(name, (_ADDRESS[family],), interval=True)
        yield from (NftElement(name, (network,)) for network in allowed if network.version == family)
