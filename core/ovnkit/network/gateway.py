"""The annotation by which a node tells the zone about its gateway, as a typed model."""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.models import NODES
from ovnkit.api.text import (
    Address,
    Interface,
    check_number,
    check_strings,
    parse_address,
    parse_interface,
    parse_json_object,
    parse_mac,
    parse_number,
    print_json,
    quoted,
)
from ovnkit.api.world import World, derived
from ovnkit.network.node import DEFAULT_NETWORK

L3_GATEWAY = "k8s.ovn.org/l3-gateway-config"
MAX_VLAN = 4094


@frozen
class L3Gateway:
    """What `l3-gateway-config` says of the default network. `mode` is `shared` or `local`.

    `bridge` is the external bridge, `interface` the name of its localnet port, `mac` the bridge's address;
    `addresses` are the gateway router's, IPv4 first; `next_hops` those of the default routes; `vlan` 0: none.
    """

    mode: str
    bridge: str
    interface: str
    mac: str
    addresses: tuple[Interface, ...]
    next_hops: tuple[Address, ...]
    node_port: bool
    vlan: int = 0

    def encode(self) -> str:
        """The annotation, as OVN-Kubernetes writes it: the singular keys only when there is exactly one."""
        found: dict[str, Any] = {
            "mode": self.mode,
            "bridge-id": self.bridge,
            "interface-id": self.interface,
            "mac-address": self.mac,
            "ip-addresses": [str(address) for address in self.addresses],
        }
        if len(self.addresses) == 1:
            found["ip-address"] = str(self.addresses[0])
        if self.next_hops:
            found["next-hops"] = [str(hop) for hop in self.next_hops]
        if len(self.next_hops) == 1:
            found["next-hop"] = str(self.next_hops[0])
        found["node-port-enable"] = "true" if self.node_port else "false"
        found["vlan-id"] = str(self.vlan)
        return print_json({DEFAULT_NETWORK: found})

    @classmethod
    def parse(cls, text: str) -> L3Gateway | None:
        """The gateway an annotation describes, None when it says disabled; raises ValueError."""
        found = parse_json_object(text).get(DEFAULT_NETWORK)
        if not isinstance(found, dict):
            raise ValueError(f"no network {DEFAULT_NETWORK!r}")
        mode = found.get("mode", "")
        if mode == "":
            return None
        if mode not in ("shared", "local"):
            raise ValueError(f"mode {quoted(mode)} is neither shared nor local")
        addresses = [parse_interface(item) for item in _listed(found, "ip-addresses", "ip-address")]
        if not addresses:
            raise ValueError("no ip-addresses")
        return cls(
            mode=mode,
            bridge=_name(found, "bridge-id"),
            interface=_name(found, "interface-id"),
            mac=parse_mac(found.get("mac-address"), unicast=True),
            addresses=tuple(sorted(addresses, key=lambda address: address.version)),
            next_hops=tuple(parse_address(item) for item in _listed(found, "next-hops", "next-hop")),
            node_port=found.get("node-port-enable") == "true",
            vlan=_vlan(found.get("vlan-id") or 0),
        )


_NAME = re.compile(r"[!-~]{0,255}")


def _name(found: dict[str, Any], key: str) -> str:
    name = found.get(key, "")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{key} {quoted(name)} is not a name")
    return name


def _vlan(value: object) -> int:
    return parse_number(value, 0, MAX_VLAN) if isinstance(value, str) else check_number(value, 0, MAX_VLAN)


def _listed(found: dict[str, Any], plural: str, singular: str) -> list[str]:
    try:
        return check_strings(found.get(plural) or ([found[singular]] if found.get(singular) else []))
    except ValueError as error:
        raise ValueError(f"{plural}: {error}") from None


@derived
def l3_gateway(world: World, node: str) -> L3Gateway | None:
    """The node's gateway; None while there is none. Raises Reject when the annotation is nonsense."""
    found = world.get(NODES, node)
    text = found.annotations.get(L3_GATEWAY) if found is not None else None
    if text is None:
        return None
    try:
        return L3Gateway.parse(text)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Reject(f"annotation {L3_GATEWAY} is {quoted(text)}: {error}", reason="InvalidAnnotation") from None
