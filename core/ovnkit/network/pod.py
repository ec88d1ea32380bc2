"""The pod annotation `k8s.ovn.org/pod-networks`: one network's addresses of a pod, read and written strictly.

The plugin that allocates writes it, the one that plugs reads it. The text is a JSON object keyed by network
(`default` or a network attachment `namespace/name`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.text import (
    Address,
    Interface,
    JsonMembers,
    Network,
    json_member,
    parse_address,
    parse_host,
    parse_interface,
    parse_mac,
    parse_network,
    quoted,
    readable,
)

ANNOTATION = "k8s.ovn.org/pod-networks"
"""Name of the annotation."""

DEFAULT_NETWORK = "default"
"""Key of the cluster network inside the annotation."""

INVALID = "InvalidPodNetworks"
"""Reason of the Event that a pod with a bad annotation gets."""

_MISSING = object()

ROLES = ("primary", "infrastructure-locked", "secondary")


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
    routes: tuple[tuple[Network, Address | None], ...] = ()
    role: str = "primary"


def parse(text: str | None, network: str = DEFAULT_NETWORK) -> PodNetwork | None:
    """The network's part of the annotation; None when the annotation or that network is not there.

    Raises Reject when the text is not what this module writes: bad JSON, wrong types, addresses that are not
    addresses, two of one family, next hops of a family the pod lacks, a default route among `routes`.
    """
    if not text:
        return None
    try:
        found = json_member(text, network, _MISSING)
    except ValueError as error:
        raise _reject(str(error)) from None
    if found is _MISSING:
        return None
    try:
        return _network(found)
    except ValueError as error:
        raise _reject(f"{network}: {error}") from None


def held(text: str, network: str = DEFAULT_NETWORK) -> tuple[tuple[Address, ...], str]:
    """The addresses and the MAC (or empty) in the network's part, each as far as it can be read.

    For whoever must not hand them out a second time: what else is wrong with the annotation doesn't free them.
    """
    try:
        found = json_member(text, network)
        texts = found.get("ip_addresses") or [found["ip_address"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        return (), ""
    try:
        mac = parse_mac(found.get("mac_address"))
    except ValueError:
        mac = ""
    return tuple(readable(parse_host, texts if isinstance(texts, list) else ())), mac


def render(existing: str | None, network: str, value: PodNetwork) -> str:
    """The annotation's text with this network's part set; those of other networks are kept letter for letter.

    Equal input gives equal text. Raises Reject when `existing` is no JSON object.
    """
    return str(_members(existing).having(network, _encode(value)))


def without(existing: str | None, network: str) -> str | None:
    """The annotation's text without this network's part; None when nothing is left. Raises Reject as `render`."""
    left = _members(existing).without(network)
    return str(left) if left.texts else None


def _reject(message: str) -> Reject:
    return Reject(f"annotation {ANNOTATION}: {message}", reason=INVALID)


def _members(text: str | None) -> JsonMembers:
    try:
        return JsonMembers.parse(text or "{}")
    except ValueError as error:
        raise _reject(str(error)) from None


def _network(raw: object) -> PodNetwork:
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    addresses = tuple(_address(text) for text in _texts(raw, "ip_addresses", "ip_address"))
    if not addresses:
        raise ValueError("ip_addresses is empty")
    _one_each("ip_addresses", addresses)
    gateways = tuple(parse_address(text) for text in _texts(raw, "gateway_ips", "gateway_ip"))
    _one_each("gateway_ips", gateways)
    for gateway in gateways:
        _check_next_hop("gateway_ips", gateway, addresses)
    return PodNetwork(addresses, _mac(raw), gateways, tuple(_routes(raw, addresses)), _role(raw))


def _texts(raw: Mapping[str, object], plural: str, singular: str) -> list[str]:
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
    address = parse_interface(text)
    ip = address.ip
    if ip.is_unspecified or ip.is_multicast or ip.is_loopback:
        raise ValueError(f"{address} is no address for a pod")
    return address


def _check_next_hop(what: str, hop: Address, addresses: tuple[Interface, ...]) -> None:
    own = next((address for address in addresses if address.version == hop.version), None)
    if own is None:
        raise ValueError(f"{what}: {hop} is of a family the pod has no address in")
    if hop.is_unspecified or hop.is_multicast or hop.is_loopback:
        raise ValueError(f"{what}: {hop} is no next hop")
    if hop == own.ip:
        raise ValueError(f"{what}: {hop} is the pod's own address")
    if hop not in own.network and not hop.is_link_local:
        raise ValueError(f"{what}: {hop} is not in {own.network}")


def _mac(raw: Mapping[str, object]) -> str:
    try:
        return parse_mac(raw.get("mac_address"), unicast=True)
    except ValueError as error:
        raise ValueError(f"mac_address: {error}") from None


def _routes(raw: Mapping[str, object], addresses: tuple[Interface, ...]) -> list[tuple[Network, Address | None]]:
    found = raw.get("routes") or []
    if not isinstance(found, list):
        raise ValueError("routes is not a list")
    return [_route(route, addresses) for route in found]


def _route(raw: object, addresses: tuple[Interface, ...]) -> tuple[Network, Address | None]:
    if not isinstance(raw, dict) or not isinstance(raw.get("dest"), str):
        raise ValueError("a route without dest")
    destination = parse_network(raw["dest"], strict=True)
    if not destination.prefixlen:
        raise ValueError("a default route among routes; it belongs in gateway_ips")
    hop = raw.get("nextHop") or None
    if hop is None:
        return destination, None
    if not isinstance(hop, str):
        raise ValueError(f"route to {destination}: nextHop is not a string")
    next_hop = parse_address(hop)
    if next_hop.version != destination.version:
        raise ValueError(f"route to {destination}: next hop {next_hop} is of the other family")
    _check_next_hop(f"route to {destination}", next_hop, addresses)
    return destination, next_hop


def _role(raw: Mapping[str, object]) -> str:
    role = raw.get("role") or "primary"
    if role not in ROLES:
        raise ValueError(f"role {quoted(role)} is not one of {', '.join(ROLES)}")
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
