"""The standing flows of the external bridge: who gets a packet, the node or OVN, and with which addresses.

The tables and priorities are upstream's. Table 0 sorts packets; 1 sends replies back to where their
connection began (ct_mark); 2 to 5 carry the node's own way to services through the gateway router; 11 decides
by size in local mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network

from attrs import frozen

from ovnkit.api.flows import (
    Action,
    CheckLarger,
    Ct,
    CtState,
    Flow,
    Match,
    Nat,
    Output,
    Port,
    Protocol,
    Resubmit,
    SetEthernet,
    SetVlan,
    StripVlan,
    SwapSource,
)
from ovnkit.api.text import Address, Network, host_network
from ovnkit.network.masquerade import Masquerade, masquerade_address
from ovnkit.network.node import port_mac

OVN_MARK, HOST_MARK = 1, 2
EGRESS_IP_MARK = 0x3F0
"""Packet mark of what an egress address makes leave with the node's own address."""

ETHERNET_HEADER = 14


class Zone(IntEnum):
    """Connection tracking zones, as offsets from `[default] conntrack-zone`."""

    DEFAULT = 0
    HOST_MASQUERADE = 1
    OVN_MASQUERADE = 2
    NODE_PORT = 3
    REASSEMBLY = 4


@frozen
class FamilyFacts:
    """The addresses of one IP family. `node` is the node's own on the bridge, `more` are its others.

    `services` and `node_subnet` are networks of that family.
    """

    node: Address
    more: tuple[Address, ...]
    masquerade: Network
    services: tuple[Network, ...]
    node_subnet: Network | None
    other_nodes: tuple[Address, ...]
    host_networks: tuple[Network, ...]

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.node.version

    def masquerade_address(self, place: Masquerade) -> Address:
        """An address of the masquerade subnet."""
        return masquerade_address(self.masquerade, place).ip


@frozen
class BridgeFacts:
    """What the flows of a bridge depend on. Ports are OpenFlow numbers."""

    bridge: str
    uplink: int
    patch: int
    mac: str
    vlan: int
    local_mode: bool
    check_size: bool
    disable_snat: bool
    mtu: int
    encap_port: int
    zone: int
    families: tuple[FamilyFacts, ...]


@frozen
class StandingFlows:
    """Makes the flows of one bridge."""

    facts: BridgeFacts

    def flows(self) -> Iterable[Flow]:
        """All of them."""
        yield from self._tunnels()
        yield from self._plain()
        for family in self.facts.families:
            yield from self._host_and_ovn(family)
            yield from self._services(family)
            yield from self._leaving(family)
            yield from self._arriving(family)
        yield from self._last_tables()

    # -- helpers ----------------------------------------------------------------------------------------------

    def flow(self, table: int, priority: int, match: Match, *actions: Action) -> Flow:
        """A flow of this bridge."""
        return Flow(self.facts.bridge, table, priority, match, actions)

    def ct(
        self, zone: Zone, *, commit: bool = False, table: int | None = None, nat: Nat | None = None, mark: int = 0
    ) -> Ct:
        """A ct action in one of our zones."""
        return Ct(zone=self.facts.zone + zone, commit=commit, table=table, nat=nat, mark=mark or None)

    def _tag(self) -> tuple[Action, ...]:
        return (SetVlan(self.facts.vlan),) if self.facts.vlan else ()

    def _untag(self) -> tuple[Action, ...]:
        return (StripVlan(),) if self.facts.vlan else ()

    @property
    def _vlan(self) -> int | None:
        return self.facts.vlan or None

    @property
    def _next_hop_mac(self) -> str:
        """The MAC of nobody by which the gateway router reaches the node's masquerade addresses."""
        return port_mac(family.masquerade_address(Masquerade.NEXT_HOP) for family in self.facts.families)

    # -- table 0: tunnels and what is only switched -----------------------------------------------------------

    def _tunnels(self) -> Iterable[Flow]:
        """Geneve is between the node and the network; OVN's side of the bridge never sees it."""
        facts = self.facts
        for protocol in {Protocol.UDP if item.family == 4 else Protocol.UDP6 for item in facts.families}:
            port = facts.encap_port
            to_node = Match(in_port=facts.uplink, protocol=protocol, eth_dst=facts.mac, target_port=port)
            yield self.flow(0, 205, to_node, Output(Port.LOCAL))
            yield self.flow(
                0, 200, Match(in_port=facts.uplink, protocol=protocol, target_port=port), Output(Port.NORMAL)
            )
            yield self.flow(
                0, 200, Match(in_port=Port.LOCAL, protocol=protocol, target_port=port), Output(facts.uplink)
            )

    def _plain(self) -> Iterable[Flow]:
        facts = self.facts
        # The node and its gateway router share a MAC: switching by what was learned would give an ARP reply to
        # whichever has sent last, so both get it.
        ours = Match(eth_dst=facts.mac, vlan=self._vlan)
        yield self.flow(0, 10, ours, Output(facts.patch), *self._untag(), Output(Port.LOCAL))
        yield self.flow(0, 10, Match(in_port=facts.patch, eth_src=facts.mac), Output(Port.NORMAL))
        yield self.flow(0, 9, Match(in_port=facts.patch))
        yield self.flow(0, 0, Match(), Output(Port.NORMAL))

    # -- table 0: between the node and OVN ----------------------------------------------------------------------

    def _host_and_ovn(self, family: FamilyFacts) -> Iterable[Flow]:
        facts, ip = self.facts, _ip(family)
        to_node = _host(family.masquerade_address(Masquerade.HOST))
        node = _host(family.node)
        hairpin = Match(in_port=facts.patch, protocol=ip, source=node, target=to_node)
        nat = Nat(target=family.node)
        yield self.flow(0, 500, hairpin, self.ct(Zone.HOST_MASQUERADE, commit=True, table=4, nat=nat))
        for own in family.more:
            match = Match(in_port=facts.patch, protocol=ip, source=node, target=_host(own))
            yield self.flow(0, 500, match, self.ct(Zone.HOST_MASQUERADE, commit=True, table=4))
        back = Match(in_port=Port.LOCAL, protocol=ip, target=_host(family.masquerade_address(Masquerade.OVN)))
        yield self.flow(0, 500, back, self.ct(Zone.OVN_MASQUERADE, table=5, nat=Nat()))
        snat = Nat(source=family.masquerade_address(Masquerade.OVN))
        yield self.flow(4, 0, Match(protocol=ip), self.ct(Zone.OVN_MASQUERADE, commit=True, table=3, nat=snat))
        undo = self.ct(Zone.HOST_MASQUERADE, commit=True, table=2, nat=Nat())
        yield self.flow(5, 0, Match(protocol=ip), undo)

    def _services(self, family: FamilyFacts) -> Iterable[Flow]:
        """The node's own way to services: out through OVN with a masquerade address, and back."""
        facts, ip = self.facts, _ip(family)
        masquerade = family.masquerade_address(Masquerade.HOST)
        for services in family.services:
            out = Match(in_port=Port.LOCAL, protocol=ip, target=services)
            nat = Nat(source=masquerade)
            yield self.flow(0, 500, out, self.ct(Zone.HOST_MASQUERADE, commit=True, table=2, nat=nat))
            back = Match(in_port=facts.patch, protocol=ip, source=services, target=_host(masquerade))
            yield self.flow(0, 500, back, self.ct(Zone.HOST_MASQUERADE, table=3, nat=Nat()))
            # An address of a service that OVN has not translated must not leave the node.
            yield self.flow(0, 115, Match(in_port=facts.patch, protocol=ip, target=services))

    # -- table 0: leaving the node ------------------------------------------------------------------------------

    def _leaving(self, family: FamilyFacts) -> Iterable[Flow]:
        facts, ip = self.facts, _ip(family)
        ovn = Match(in_port=facts.patch, protocol=ip, eth_src=facts.mac)
        out = Output(facts.uplink)
        marked = Match(in_port=facts.patch, protocol=ip, eth_src=facts.mac, packet_mark=EGRESS_IP_MARK)
        own = Nat(source=family.node)
        yield self.flow(
            0, 105, marked, self.ct(Zone.DEFAULT, commit=True, nat=own, mark=OVN_MARK), *self._tag(), out
        )
        if facts.disable_snat and family.node_subnet is not None:
            pods = Match(in_port=facts.patch, protocol=ip, eth_src=facts.mac, source=family.node_subnet)
            yield self.flow(0, 104, pods, *self._tag(), out)
            to_pods = Match(in_port=facts.uplink, protocol=ip, target=family.node_subnet)
            yield self.flow(0, 300, to_pods, *self._untag(), Output(facts.patch))
        inside = Port.LOCAL if facts.local_mode else facts.patch
        mark = HOST_MARK if facts.local_mode else OVN_MARK
        for network in family.host_networks:
            near = Match(in_port=inside, protocol=ip, eth_src=facts.mac, target=network)
            yield self.flow(0, 102, near, self.ct(Zone.DEFAULT, commit=True, mark=mark), Output(Port.NORMAL))
        if family.family == 6:
            for kind in (135, 136):
                solicit = Match(in_port=inside, protocol=Protocol.ICMP6, eth_src=facts.mac, icmp_type=kind)
                yield self.flow(0, 102, solicit, Output(Port.NORMAL))
        if facts.local_mode:
            for protocol in _transports(family):
                reply = Match(in_port=facts.patch, protocol=protocol, source=_host(family.node))
                yield self.flow(0, 175, reply, self.ct(Zone.HOST_MASQUERADE, table=4))
        yield self.flow(0, 100, ovn, self.ct(Zone.DEFAULT, commit=True, mark=OVN_MARK), *self._tag(), out)
        host = Match(in_port=Port.LOCAL, protocol=ip)
        yield self.flow(0, 100, host, self.ct(Zone.DEFAULT, commit=True, mark=HOST_MARK), *self._tag(), out)

    # -- arriving -----------------------------------------------------------------------------------------------

    def _arriving(self, family: FamilyFacts) -> Iterable[Flow]:
        facts, ip = self.facts, _ip(family)
        to_us = Match(protocol=ip, eth_dst=facts.mac, vlan=self._vlan)
        yield self.flow(0, 50, to_us, self.ct(Zone.DEFAULT, table=1, nat=Nat()))
        if not facts.local_mode:
            fragments = Match(in_port=facts.uplink, protocol=ip, fragment=True)
            yield self.flow(0, 110, fragments, self.ct(Zone.REASSEMBLY, table=0))
        yield from self._too_big(family)
        for state in (CtState.ESTABLISHED, CtState.RELATED):
            ours = Match(protocol=ip, ct_state=state, ct_mark=OVN_MARK)
            yield self.flow(1, 100, ours, *self._to_ovn())
            hosts = Match(protocol=ip, ct_state=state, ct_mark=HOST_MARK)
            yield self.flow(1, 100, hosts, *self._untag(), Output(Port.LOCAL))
        if family.family == 6:
            for kind in (134, 136):
                yield self.flow(1, 14, Match(protocol=Protocol.ICMP6, icmp_type=kind), Output(Port.FLOOD))

    def _too_big(self, family: FamilyFacts) -> Iterable[Flow]:
        """OVN's "too big" about a tunnel must not change the node's idea of the path to another node.

        One from outside about what a NodePort has answered is for OVN, which alone knows the connection: such
        answers leave without an entry here. So what isn't known here goes to both.
        """
        facts = self.facts
        if facts.local_mode:
            return
        protocol, kind, code = (Protocol.ICMP, 3, 4) if family.family == 4 else (Protocol.ICMP6, 2, 0)
        unknown = Match(in_port=facts.uplink, protocol=protocol, eth_dst=facts.mac, icmp_type=kind, icmp_code=code)
        yield self.flow(1, 12, unknown, Output(facts.patch), *self._untag(), Output(Port.LOCAL))
        for other in family.other_nodes:
            match = Match(
                in_port=facts.patch, protocol=protocol, target=_host(other), icmp_type=kind, icmp_code=code
            )
            yield self.flow(0, 700, match)

    def _to_ovn(self) -> tuple[Action, ...]:
        if self.facts.local_mode and self.facts.check_size:
            return (CheckLarger(self.facts.mtu + ETHERNET_HEADER), Resubmit(11))
        return (Output(self.facts.patch),)

    def _last_tables(self) -> Iterable[Flow]:
        facts = self.facts
        yield self.flow(1, 10, Match(eth_dst=facts.mac), *self._untag(), Output(Port.LOCAL))
        yield self.flow(1, 0, Match(), Output(Port.NORMAL))
        # The node and its gateway router share a MAC. A refusal by OVN goes back to the MAC that the packet came
        # from, and were that the router's own, OVN would not send it out.
        to_router = (SetEthernet(facts.mac), SetEthernet(self._next_hop_mac, destination=False), *self._tag())
        yield self.flow(2, 100, Match(), *to_router, Output(facts.patch))
        yield self.flow(3, 0, Match(), *self._untag(), SwapSource(), SetEthernet(facts.mac), Output(Port.LOCAL))
        if facts.local_mode and facts.check_size:
            yield self.flow(11, 10, Match(reg0=1), Output(Port.LOCAL))
            yield self.flow(11, 1, Match(), Output(facts.patch))
        # What a node port's endpoint on this very node receives and answers (the service flows lead here).
        yield self.flow(6, 110, Match(), Output(Port.LOCAL))
        yield self.flow(7, 110, Match(), Output(facts.uplink))


def _ip(family: FamilyFacts) -> Protocol:
    return Protocol.IP if family.family == 4 else Protocol.IPV6


def _transports(family: FamilyFacts) -> tuple[Protocol, ...]:
    if family.family == 4:
        return (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
    return (Protocol.TCP6, Protocol.UDP6, Protocol.SCTP6)


def _host(address: Address) -> IPv4Network | IPv6Network:
    return host_network(address)
