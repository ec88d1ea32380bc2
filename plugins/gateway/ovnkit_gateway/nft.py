"""nftables of local gateway mode: what pods send outside leaves the node's kernel with the node's address."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.nft import (
    ChainType,
    Hook,
    Jump,
    LinkName,
    Match,
    NftChain,
    NftItem,
    NftRule,
    Selector,
    Snat,
)
from ovnkit.network.masquerade import Masquerade
from ovnkit_gateway.flows import FamilyFacts

MASQUERADE_CHAIN = "ovn-kube-local-gw-masq"
PODS_CHAIN = "ovn-kube-pod-subnet-masq"
PRIORITY = 101
"""After the management port's translation (100), which must see packets first."""

SOURCE = {4: Selector.IPV4_SOURCE, 6: Selector.IPV6_SOURCE}


def local_mode_items(bridge: str, families: Iterable[FamilyFacts]) -> Iterable[NftItem]:
    """Chains and rules: packets of this node's pods, and of OVN itself, that go out by the bridge.

    Their source becomes the node's address of that family, which is what masquerading would choose there.
    """
    yield NftChain(MASQUERADE_CHAIN, ChainType.NAT, Hook.POSTROUTING, PRIORITY)
    yield NftChain(PODS_CHAIN)
    yield NftRule(MASQUERADE_CHAIN, 100, (Jump(PODS_CHAIN),))
    leaving = Match((Selector.OUT_LINK,), LinkName(bridge))
    for family in families:
        source = (SOURCE[family.family],)
        own = Snat(family.node)
        ovn = Match(source, family.masquerade_address(Masquerade.OVN))
        yield NftRule(MASQUERADE_CHAIN, family.family, (leaving, ovn, own))
        if family.node_subnet is not None:
            pods = Match(source, family.node_subnet)
            yield NftRule(PODS_CHAIN, family.family, (leaving, pods, own))
