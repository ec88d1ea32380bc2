"""Role node: flows of the external bridge. In shared gateway mode what comes from outside goes straight to OVN;
endpoints that are processes of the node are reached without OVN, so that they see who calls."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from attrs import frozen

from ovnkit.api.flows import (
    Action,
    Ct,
    Flow,
    FlowItem,
    Group,
    Match,
    Nat,
    Output,
    Port,
    Protocol,
    SetVlan,
    StripVlan,
    ToGroup,
)
from ovnkit.api.text import host_network
from ovnkit_services.exposures import IP, Exposure, OwnNode

PRIORITY, REFUSED = 110, 109
NODE_PORT_ZONE = 3
"""Offset of the conntrack zone for endpoints on the node itself."""

TO_NODE, TO_UPLINK = 6, 7
"""Tables (of the gateway plugin) that end at the node and at the uplink."""

_PROTOCOLS = {
    (name, family): Protocol[name + ("6" if family == 6 else "")]
    for name in ("TCP", "UDP", "SCTP")
    for family in (4, 6)
}


@frozen
class BridgeFacts:
    """The external bridge: its name, the OpenFlow ports of uplink and patch port, the first conntrack zone."""

    bridge: str
    uplink: int
    patch: int
    zone: int


@frozen
class ServiceFlows:
    """Makes the flows of services on one bridge."""

    facts: BridgeFacts
    node: OwnNode

    def flows(self, found: Iterable[Exposure]) -> Iterable[FlowItem]:
        """The flows of one service."""
        for exposure in found:
            if exposure.node_port:
                yield from self._reach(exposure, None, exposure.node_port)
            for address in exposure.addresses:
                yield from self._bypass(address)
                yield from self._reach(exposure, address, exposure.port)
            if exposure.external_local and exposure.hosted and (exposure.node_port or exposure.addresses):
                yield from self._answers(exposure)

    def _flow(self, priority: int, match: Match, *actions: Action) -> Flow:
        return Flow(self.facts.bridge, 0, priority, match, actions)

    @property
    def _vlan(self) -> int | None:
        return self.node.gateway.vlan or None

    def _reach(self, exposure: Exposure, address: IP | None, port: int) -> Iterable[FlowItem]:
        """From outside to the service at an address (None: any of the node's) and port, and back."""
        protocol = _PROTOCOLS[exposure.protocol, exposure.family]
        target = host_network(address) if address is not None else None
        sources = exposure.allowed if address in exposure.ingress else None
        restricted = [source for source in sources or () if source.version == exposure.family]
        for source in restricted if sources is not None else (None,):
            match = Match(
                in_port=self.facts.uplink,
                protocol=protocol,
                source=source,
                target=target,
                target_port=port,
                vlan=self._vlan,
            )
            yield from self._inwards(exposure, match)
        in_ovn = self.node.gateway.mode == "shared" and not self._direct(exposure)
        if sources is not None and (in_ovn or self._direct(exposure)):
            refused = Match(in_port=self.facts.uplink, protocol=protocol, target=target, target_port=port)
            yield self._flow(REFUSED, refused)
        if in_ovn:
            yield from self._back(exposure, protocol, target, port)

    def _direct(self, exposure: Exposure) -> bool:
        return exposure.external_local and bool(exposure.hosted)

    def _inwards(self, exposure: Exposure, match: Match) -> Iterable[FlowItem]:
        if self._direct(exposure):
            own = self.node.address(exposure.family)
            if own is None:
                return
            actions = [(*self._untag(), self._to_endpoint(target.port, own)) for target in exposure.hosted]
            if len(actions) == 1:
                yield self._flow(PRIORITY, match, *actions[0])
                return
            group = Group(self.facts.bridge, tuple(actions), by_source=exposure.affinity)
            yield group
            yield self._flow(PRIORITY, match, ToGroup(group.number))
        elif self.node.gateway.mode == "shared":
            yield self._flow(PRIORITY, match, Output(self.facts.patch))

    def _to_endpoint(self, port: int, own: IP) -> Ct:
        nat = Nat(target=own, port=port)
        return Ct(zone=self.facts.zone + NODE_PORT_ZONE, commit=True, table=TO_NODE, nat=nat)

    def _untag(self) -> tuple[Action, ...]:
        return (StripVlan(),) if self._vlan else ()

    def _back(
        self, exposure: Exposure, protocol: Protocol, source: IPv4Network | IPv6Network | None, port: int
    ) -> Iterable[Flow]:
        facts, mac = self.facts, self.node.gateway.mac
        tag: tuple[Action, ...] = (SetVlan(self._vlan),) if self._vlan else ()
        match = Match(in_port=facts.patch, protocol=protocol, eth_src=mac, source=source, source_port=port)
        yield self._flow(PRIORITY, match, *tag, Output(facts.uplink))
        if source is not None:
            icmp = Protocol.ICMP if exposure.family == 4 else Protocol.ICMP6
            kind, code = (3, 4) if exposure.family == 4 else (2, 0)
            too_big = Match(
                in_port=facts.uplink, protocol=icmp, target=source, icmp_type=kind, icmp_code=code, vlan=self._vlan
            )
            yield self._flow(PRIORITY, too_big, Output(facts.patch))

    def _bypass(self, address: IP) -> Iterable[Flow]:
        """Who has the address is for the node (or what announces it there) to say, not for OVN."""
        facts = self.facts
        if isinstance(address, IPv6Address):
            match = Match(
                in_port=facts.uplink, protocol=Protocol.ICMP6, icmp_type=135, nd_target=address, vlan=self._vlan
            )
        else:
            target = host_network(address)
            match = Match(
                in_port=facts.uplink, protocol=Protocol.ARP, arp_operation=1, target=target, vlan=self._vlan
            )
        yield self._flow(PRIORITY, match, *self._untag(), Output(Port.LOCAL))

    def _answers(self, exposure: Exposure) -> Iterable[Flow]:
        """What an endpoint on the node answers gets back the address it was called at."""
        protocol = _PROTOCOLS[exposure.protocol, exposure.family]
        zone = self.facts.zone + NODE_PORT_ZONE
        for port in sorted({target.port for target in exposure.hosted}):
            match = Match(in_port=Port.LOCAL, protocol=protocol, source_port=port)
            yield self._flow(PRIORITY, match, Ct(zone=zone, table=TO_UPLINK, nat=Nat()))
