"""The pod annotation `k8s.ovn.org/pod-networks`: one network's addresses of a pod, read and written strictly.

The plugin that allocates writes it, the one that plugs reads it. The text is a JSON object keyed by network
(`default` or a network attachment `namespace/name`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.host import Address, Interface, Prefix

ANNOTATION = "k8s.ovn.org/pod-networks"
"""Name of the annotation."""

DEFAULT_NETWORK = "default"
"""Key of the cluster network inside the annotation."""

INVALID = "InvalidPodNetworks"
"""Reason of the Event that a pod with a bad annotation gets."""

ROLES = ("primary", "infrastructure-locked", "secondary")

_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")


@frozen
class PodNetwork:
    """What a pod has on one network.

    `ip_addresses` carry the prefix length of the node's subnet, one or two of them, one per family.
    `gateway_ips` are the default next hops, at most one per family; `routes` pairs of destination and next
    hop (None: on-link). `role` is one of ROLES.
    """

    ip_addresses: tuple[Interface, ...]
    mac_address: str
    gateway_ips: tuple[Address, ...] = ()
    routes: tuple[tuple[Prefix, Address | None], ...] = ()
    role: str = "primary"


def parse(text: str | None, network: str = DEFAULT_NETWORK) -> PodNetwork | None:
    """The network's part of the annotation; None when the annotation or that network is not there.

    Raises Reject when the text is not what this module writes: bad JSON, wrong types, addresses that are not
    addresses, two of one family, next hops of a family the pod lacks, a default route among `routes`.
    """
    if not text:
        return None
    networks = _networks(text)
    if network not in networks:
        return None
    try:
        return _network(networks[network])
    except ValueError as error:
        raise _reject(f"{network}: {error}") from None


def render(existing: str | None, network: str, value: PodNetwork) -> str:
    """The annotation's text with this network's part set; the parts of other networks are kept as they are.

    Equal input gives equal text. Raises Reject when `existing` is no JSON object.
    """
    networks = dict(_networks(existing)) if existing else {}
    networks[network] = _encode(value)
    return json.dumps({name: networks[name] for name in sorted(networks)}, separators=(",", ":"))


def without(existing: str | None, network: str) -> str | None:
    """The annotation's text without this network's part; None when nothing is left. Raises Reject as `render`."""
    networks = dict(_networks(existing)) if existing else {}
    networks.pop(network, None)
    if not networks:
        return None
    return json.dumps({name: networks[name] for name in sorted(networks)}, separators=(",", ":"))


def _reject(message: str) -> Reject:
    return Reject(f"annotation {ANNOTATION}: {message}", reason=INVALID)


def _networks(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _reject(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise _reject("not a JSON object keyed by network")
    return found


def _network(raw: Any) -> PodNetwork:
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    addresses = tuple(_address(text) for text in _texts(raw, "ip_addresses", "ip_address"))
    if not addresses:
        raise ValueError("ip_addresses is empty")
    _one_each("ip_addresses", addresses)
    gateways = tuple(ip_address(text) for text in _texts(raw, "gateway_ips", "gateway_ip"))
    _one_each("gateway_ips", gateways)
    for gateway in gateways:
        _check_next_hop("gateway_ips", gateway, addresses)
    return PodNetwork(addresses, _mac(raw), gateways, tuple(_routes(raw, addresses)), _role(raw))


def _texts(raw: Mapping[str, Any], plural: str, singular: str) -> list[str]:
    """The strings under `plural`, or the one under `singular` (written by old versions alone)."""
    found = raw.get(plural)
    if found is None:
        found = [raw[singular]] if raw.get(singular) else []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{plural} is not a list of strings")
    return found


def _one_each(what: str, found: Sequence[Address]) -> None:
    if len({address.version for address in found}) != len(found):
        raise ValueError(f"{what} has two addresses of one family")


def _address(text: str) -> Interface:
    if "/" not in text:
        raise ValueError(f"address {text!r} has no prefix length")
    address = ip_interface(text)
    ip = address.ip
    if ip.is_unspecified or ip.is_multicast or ip.is_loopback or getattr(ip, "scope_id", None):
        raise ValueError(f"{address} is no address for a pod")
    return address


def _check_next_hop(what: str, hop: Address, addresses: tuple[Interface, ...]) -> None:
    own = next((address for address in addresses if address.version == hop.version), None)
    if own is None:
        raise ValueError(f"{what}: {hop} is of a family the pod has no address in")
    if hop.is_unspecified or hop.is_multicast or hop.is_loopback or getattr(hop, "scope_id", None):
        raise ValueError(f"{what}: {hop} is no next hop")
    if hop == own.ip:
        raise ValueError(f"{what}: {hop} is the pod's own address")
    if hop not in own.network and not hop.is_link_local:
        raise ValueError(f"{what}: {hop} is not in {own.network}")


def _mac(raw: Mapping[str, Any]) -> str:
    mac = raw.get("mac_address")
    if not isinstance(mac, str) or not _MAC.fullmatch(mac.lower()):
        raise ValueError(f"mac_address {mac!r} is no MAC address")
    if int(mac[:2], 16) & 1 or not mac.strip("0:"):
        raise ValueError(f"mac_address {mac} is no unicast address")
    return mac.lower()


def _routes(raw: Mapping[str, Any], addresses: tuple[Interface, ...]) -> list[tuple[Prefix, Address | None]]:
    found = raw.get("routes") or []
    if not isinstance(found, list):
        raise ValueError("routes is not a list")
    return [_route(route, addresses) for route in found]


def _route(raw: Any, addresses: tuple[Interface, ...]) -> tuple[Prefix, Address | None]:
    if not isinstance(raw, dict) or not isinstance(raw.get("dest"), str):
        raise ValueError("a route without dest")
    destination = ip_network(raw["dest"])
    if not destination.prefixlen:
        raise ValueError("a default route among routes; it belongs in gateway_ips")
    hop = raw.get("nextHop") or None
    if hop is None:
        return destination, None
    if not isinstance(hop, str):
        raise ValueError(f"route to {destination}: nextHop is not a string")
    next_hop = ip_address(hop)
    if next_hop.version != destination.version:
        raise ValueError(f"route to {destination}: next hop {next_hop} is of the other family")
    _check_next_hop(f"route to {destination}", next_hop, addresses)
    return destination, next_hop


def _role(raw: Mapping[str, Any]) -> str:
    role = raw.get("role") or "primary"
    if role not in ROLES:
        raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
    return str(role)


def _encode(value: PodNetwork) -> dict[str, Any]:
    """The JSON form, keys in upstream's order; the singular keys only for one family, as upstream does."""
    found: dict[str, Any] = {
        "ip_addresses": [str(address) for address in value.ip_addresses],
        "mac_address": value.mac_address,
    }
    if value.gateway_ips:
        found["gateway_ips"] = [str(gateway) for gateway in value.gateway_ips]
    if value.routes:
        found["routes"] = [
            {"dest": str(destination), "nextHop": str(hop) if hop is not None else ""}
            for destination, hop in value.routes
        ]
    if len(value.ip_addresses) == 1:
        found["ip_address"] = str(value.ip_addresses[0])
    if len(value.gateway_ips) == 1:
        found["gateway_ip"] = str(value.gateway_ips[0])
    found["role"] = value.role
    return found
