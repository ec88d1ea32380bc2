"""The fields and predicates of OVN's expression language (`lib/logical-fields.c` of OVN, ovn-sb(5))."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from attrs import frozen


class Level(Enum):
    """What a field can be compared with: ordinal ones also by order, nominal ones only for equality."""

    NOMINAL = 0
    BOOLEAN = 1
    ORDINAL = 2


@frozen
class Symbol:
    """A field `width` bits wide (0: a string), or a predicate."""

    name: str
    width: int
    level: Level = Level.ORDINAL
    predicate: bool = False


_ORDINAL: Mapping[int, str] = {
    1: "eth.mcast flags.loopback flags.force_snat_for_dnat flags.force_snat_for_lb flags.skip_snat_for_lb "
    "flags.use_snat_zone flags.localnet flags.icmp_snat flags.tunnel_rx flags.unsnat_new "
    "flags.unsnat_not_tracked flags.from_ctrl flags.igmp_loopback flags.pkt_sampled ct_mark.blocked "
    "ct_mark.natted ct_mark.skip_snat ct_mark.force_snat ct_mark.allow_established ct_label.blocked "
    "ct_label.natted ct_label.nf ct_label.tun_if ct.new ct.est ct.rel ct.rpl ct.inv ct.trk ct.snat ct.dnat",
    2: "ip.frag ct_mark.obs_stage",
    3: "vlan.pcp",
    4: "flags.network_id",
    8: "ct_mark.obs_collector_id ct_label.nf_id",
    12: "vlan.vid tcp.flags",
    16: "vlan.tci tcp.src tcp.dst udp.src udp.dst sctp.src sctp.dst ct_mark.ecmp_reply_port ct_label.acl_id "
    "ct_label.tun_if_id",
    20: "ip6.label",
    32: "__inport __outport flags ct_mark ct_state ip4.src ip4.dst arp.spa arp.tpa rarp.spa rarp.tpa pkt.mark "
    "ct_label.label ct_label.obs_point_id " + " ".join(f"reg{number}" for number in range(10)),
    48: "eth.src eth.dst arp.sha arp.tha rarp.sha rarp.tha nd.sll nd.tll ct_label.ecmp_reply_eth",
    64: " ".join(f"xreg{number}" for number in range(5)),
    96: "ct_label.obs_unused",
    128: "xxreg0 xxreg1 ct_label ip6.src ip6.dst nd.target",
}
_NOMINAL: Mapping[int, str] = {
    0: "inport outport remote_outport",
    2: "ip.ecn",
    6: "ip.dscp",
    8: "ip.proto ip.ttl icmp4.type icmp4.code icmp6.type icmp6.code",
    16: "eth.type arp.op rarp.op icmp4.frag_mtu",
    32: "icmp6.frag_mtu icmp4.inner_ip4.src",
}
_PREDICATES: Mapping[Level, str] = {
    Level.BOOLEAN: "eth.bcast eth.mcastv6 vlan.present ip4.src_mcast ip4.mcast ip6.mcast_rsvd "
    "ip6.mcast_all_nodes ip6.mcast_all_rtrs ip6.mcast_sol_node ip6.mcast_flood ip6.mcast ip.is_frag "
    "ip.later_frag ip.first_frag from_evpn_vtep to_evpn_vtep",
    Level.NOMINAL: "ip4 ip6 ip icmp4 icmp6 icmp igmp arp rarp nd nd_ns nd_ns_mcast nd_na nd_rs nd_ra mldv1 mldv2 "
    "tcp udp sctp",
}


def _symbols() -> Iterable[Symbol]:
    for level, listed in ((Level.ORDINAL, _ORDINAL), (Level.NOMINAL, _NOMINAL)):
        for width, names in listed.items():
            yield from (Symbol(name, width, level) for name in names.split())
    for level, names in _PREDICATES.items():
        yield from (Symbol(name, 1, level, predicate=True) for name in names.split())


SYMBOLS: Mapping[str, Symbol] = {symbol.name: symbol for symbol in _symbols()}
"""By name."""
