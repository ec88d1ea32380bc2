"""OpenFlow items: flows and groups of a bridge, built from typed values only.

Nothing here takes free text: a match or an action is made of addresses, numbers and enumerated words, so what
an object says can't reach a flow unparsed. Field names are ovs-fields(7)'s, actions are ovs-actions(7)'s.
"""

from __future__ import annotations

import hashlib
import re
from enum import Enum
from functools import cached_property
from ipaddress import IPv6Address
from typing import Any

from attrs import field, frozen, validators

from ovnkit.api.text import Address, Network, no_zone_id

__all__ = [
    "INTEGRATION_BRIDGE",
    "Action",
    "CheckLarger",
    "Ct",
    "CtState",
    "Flow",
    "FlowItem",
    "Group",
    "Match",
    "Nat",
    "Output",
    "Port",
    "Protocol",
    "Resubmit",
    "SetEthernet",
    "SetVlan",
    "StripVlan",
    "SwapSource",
    "ToGroup",
    "plugin_mark",
]

INTEGRATION_BRIDGE = "br-int"
"""The bridge that ovn-controller programs."""

GROUP_MARK = 0x6F000000
"""Upper byte of the number of every group of ours."""

COOKIE_MARK = 0x6F
"""Top byte of every cookie of ours. The byte below it is the plugin's, the other six are the flow's own."""


def plugin_mark(plugin: str) -> int:
    """The upper 16 bits of the cookies of a plugin's flows.

    Flows that a plugin writes into OVN's bridge by itself have it too: it goes when the plugin is off.
    """
    return COOKIE_MARK << 8 | hashlib.blake2b(plugin.encode(), digest_size=1).digest()[0]


_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_BRIDGE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def _mac(_instance: object, _attribute: object, value: Any) -> None:
    if value is not None and not _MAC.fullmatch(value):
        raise ValueError(f"{value!r} is no MAC address")


def _bridge(_instance: object, _attribute: object, value: str) -> None:
    if not _BRIDGE.fullmatch(value):
        raise ValueError(f"{value!r} is no bridge name")


def _number(low: int, high: int) -> Any:
    return validators.optional(
        validators.and_(validators.instance_of(int), validators.ge(low), validators.le(high))
    )


class Port(Enum):
    """Reserved ports."""

    LOCAL = "LOCAL"
    IN_PORT = "IN_PORT"
    NORMAL = "NORMAL"
    FLOOD = "FLOOD"


OfPort = int | Port
"""A port number of the bridge, or a reserved port."""


class Protocol(Enum):
    """What a packet is: the shorthand of ovs-fields(7) for its Ethernet type and IP protocol."""

    ARP = "arp"
    IP = "ip"
    IPV6 = "ipv6"
    TCP = "tcp"
    TCP6 = "tcp6"
    UDP = "udp"
    UDP6 = "udp6"
    SCTP = "sctp"
    SCTP6 = "sctp6"
    ICMP = "icmp"
    ICMP6 = "icmp6"

    @property
    def is_ipv6(self) -> bool:
        """Whether addresses of this protocol are IPv6."""
        return self.value.endswith("6")


class CtState(Enum):
    """Connection states that are matched on, as ovs-fields(7) writes them."""

    ESTABLISHED = "+trk+est"
    RELATED = "+trk+rel"
    NEW = "+trk+new"
    UNTRACKED = "-trk"


def _transport(protocol: Protocol | None) -> bool:
    return protocol is not None and protocol.value.rstrip("6") in ("tcp", "udp", "sctp")


@frozen(kw_only=True)
class Match:
    """What a flow matches; unset fields match anything. `source` and `target` are IP or ARP addresses.

    `broadcast` asks for the Ethernet broadcast address; `fragment` for any IP fragment. Raises ValueError when
    fields contradict each other (an IPv6 address in an IPv4 match, a port without a transport protocol).
    """

    in_port: OfPort | None = None
    protocol: Protocol | None = None
    eth_src: str | None = field(default=None, validator=_mac)
    eth_dst: str | None = field(default=None, validator=_mac)
    source: Network | None = None
    target: Network | None = None
    source_port: int | None = field(default=None, validator=_number(0, 65535))
    target_port: int | None = field(default=None, validator=_number(0, 65535))
    icmp_type: int | None = field(default=None, validator=_number(0, 255))
    icmp_code: int | None = field(default=None, validator=_number(0, 255))
    nd_target: IPv6Address | None = field(default=None, validator=lambda _match, _field, value: no_zone_id(value))
    arp_operation: int | None = field(default=None, validator=_number(1, 2))
    vlan: int | None = field(default=None, validator=_number(1, 4095))
    ct_state: CtState | None = None
    ct_mark: int | None = field(default=None, validator=_number(0, 0xFFFFFFFF))
    packet_mark: int | None = field(default=None, validator=_number(0, 0xFFFFFFFF))
    reg0: int | None = field(default=None, validator=_number(0, 0xFFFFFFFF))
    broadcast: bool = False
    fragment: bool = False

    def __attrs_post_init__(self) -> None:
        for prefix in (self.source, self.target):
            if prefix is None:
                continue
            no_zone_id(prefix)
            if self.protocol is None or self.protocol.is_ipv6 != (prefix.version == 6):
                raise ValueError(f"address {prefix} does not fit protocol {self.protocol}")
        if (self.source_port, self.target_port) != (None, None) and not _transport(self.protocol):
            raise ValueError(f"a port needs tcp, udp or sctp, not {self.protocol}")
        if self.icmp_type is not None and self.protocol not in (Protocol.ICMP, Protocol.ICMP6):
            raise ValueError(f"an ICMP type needs icmp or icmp6, not {self.protocol}")

    def __str__(self) -> str:
        parts = [] if self.protocol is None else [self.protocol.value]
        if self.in_port is not None:
            parts.append(f"in_port={_port(self.in_port)}")
        if self.broadcast:
            parts.append("dl_dst=ff:ff:ff:ff:ff:ff")
        if self.fragment:
            parts.append("nw_frag=yes")
        if self.ct_state is not None:
            parts.append(f"ct_state={self.ct_state.value}")
        for attribute, name in self._names().items():
            value = getattr(self, attribute)
            if value is not None:
                parts.append(f"{name}={value}")
        return ",".join(parts)

    def _names(self) -> dict[str, str]:
        if self.protocol is Protocol.ARP:
            source, target = "arp_spa", "arp_tpa"
        elif self.protocol is not None and self.protocol.is_ipv6:
            source, target = "ipv6_src", "ipv6_dst"
        else:
            source, target = "nw_src", "nw_dst"
        return {
            "vlan": "dl_vlan",
            "eth_src": "dl_src",
            "eth_dst": "dl_dst",
            "source": source,
            "target": target,
            "source_port": "tp_src",
            "target_port": "tp_dst",
            "icmp_type": "icmp_type",
            "icmp_code": "icmp_code",
            "nd_target": "nd_target",
            "arp_operation": "arp_op",
            "ct_mark": "ct_mark",
            "packet_mark": "pkt_mark",
            "reg0": "reg0",
        }


def _port(port: OfPort) -> str:
    return port.value if isinstance(port, Port) else str(int(port))


@frozen
class Output:
    """Send to a port; `Port.NORMAL` switches as a plain bridge would, `Port.FLOOD` to all."""

    port: OfPort

    def __str__(self) -> str:
        return self.port.value if isinstance(self.port, Port) else f"output:{int(self.port)}"


@frozen
class Nat:
    """Address translation of a ct action: to `source`, to `target` (with `port`), or undo (neither)."""

    source: Address | None = None
    target: Address | None = None
    port: int = 0

    def __attrs_post_init__(self) -> None:
        for address in (self.source, self.target):
            no_zone_id(address)

    def __str__(self) -> str:
        address = self.source or self.target
        if address is None:
            return "nat"
        text = f"[{address}]" if address.version == 6 and self.port else str(address)
        return f"nat({'src' if self.source else 'dst'}={text}{f':{int(self.port)}' if self.port else ''})"


@frozen(kw_only=True)
class Ct:
    """Connection tracking in `zone`; goes on in `table` when given. `mark` is set on commit."""

    zone: int
    commit: bool = False
    table: int | None = None
    nat: Nat | None = None
    mark: int | None = None

    def __str__(self) -> str:
        parts = ["commit"] if self.commit else []
        parts.append(f"zone={int(self.zone)}")
        if self.table is not None:
            parts.append(f"table={int(self.table)}")
        if self.nat is not None:
            parts.append(str(self.nat))
        if self.mark is not None:
            parts.append(f"exec(set_field:{int(self.mark):#x}->ct_mark)")
        return f"ct({','.join(parts)})"


@frozen
class SetEthernet:
    """Set the Ethernet source or destination."""

    mac: str = field(validator=_mac)
    destination: bool = True

    def __str__(self) -> str:
        return f"set_field:{self.mac}->eth_{'dst' if self.destination else 'src'}"


@frozen
class SwapSource:
    """Make the packet's destination MAC its source MAC."""

    def __str__(self) -> str:
        return "move:NXM_OF_ETH_DST[]->NXM_OF_ETH_SRC[]"


@frozen
class StripVlan:
    """Remove the VLAN tag."""

    def __str__(self) -> str:
        return "strip_vlan"


@frozen
class SetVlan:
    """Set the VLAN tag."""

    vlan: int

    def __str__(self) -> str:
        return f"mod_vlan_vid:{int(self.vlan)}"


@frozen
class CheckLarger:
    """reg0[0] = whether the packet is larger than `length` bytes with its Ethernet header."""

    length: int

    def __str__(self) -> str:
        return f"check_pkt_larger({int(self.length)})->NXM_NX_REG0[0]"


@frozen
class Resubmit:
    """Go on in another table."""

    table: int

    def __str__(self) -> str:
        return f"resubmit(,{int(self.table)})"


@frozen
class ToGroup:
    """Go on in a group of the same bridge."""

    group: int

    def __str__(self) -> str:
        return f"group:{int(self.group)}"


Action = Output | Ct | SetEthernet | SwapSource | StripVlan | SetVlan | CheckLarger | Resubmit | ToGroup


@frozen
class Flow:
    """One flow of a bridge. No actions means drop. The core gives it a cookie with its plugin's mark."""

    bridge: str = field(validator=_bridge)
    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...] = ()

    @cached_property
    def text(self) -> str:
        """The flow as ovs-ofctl takes it, without cookie."""
        match = str(self.match)
        return (
            f"table={int(self.table)},priority={int(self.priority)}{',' if match else ''}{match}"
            f",actions={','.join(map(str, self.actions)) or 'drop'}"
        )

    @property
    def place(self) -> tuple[str, int, int, str]:
        """Two flows of one place exclude each other."""
        return (self.bridge, self.table, self.priority, str(self.match))


@frozen
class Group:
    """A select group: one of `buckets` (each a list of actions) per connection, or with `by_source` per client.

    Its number is made from its content, under our mark, so that equal groups are one and a changed group is
    another: `ToGroup(group.number)`.
    """

    bridge: str = field(validator=_bridge)
    buckets: tuple[tuple[Action, ...], ...]
    by_source: bool = False

    @cached_property
    def content(self) -> str:
        """Type and buckets as ovs-ofctl takes them."""
        buckets = ",".join(f"bucket=actions={','.join(map(str, bucket))}" for bucket in self.buckets)
        method = "selection_method=hash,fields(ip_src,ipv6_src)," if self.by_source else ""
        return f"type=select,{method}{buckets}"

    @property
    def number(self) -> int:
        """The group's number: `GROUP_MARK` and 24 bits of its content's hash."""
        return GROUP_MARK | int.from_bytes(hashlib.blake2b(self.content.encode(), digest_size=3).digest(), "big")

    @property
    def text(self) -> str:
        """The group as ovs-ofctl takes it."""
        return f"group_id={self.number},{self.content}"


FlowItem = Flow | Group
