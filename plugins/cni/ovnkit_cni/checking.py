"""What CHECK compares with: what a pod was plugged with, whatever it would get today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from ovnkit.api.text import Address, Network, parse_address, parse_network
from ovnkit.network.pod import PodNetwork
from ovnkit_cni.attachments import Plugged, addresses_of
from ovnkit_cni.wire import CHECK_FAILED, DECODE_FAILURE, CniError


def recorded(ids: Mapping[str, str], previous: Mapping[str, object]) -> PodNetwork:
    """What a pod was plugged with, by the `external_ids` of its port; raises CniError.

    A port of a former version has only addresses; the routes then come from the result of ADD (`prevResult`).
    """
    plugged = Plugged.of(ids)
    if plugged is not None:
        return plugged.network
    network = addresses_of(ids)
    if network is None:
        raise CniError(CHECK_FAILED, "the port's external_ids don't tell the pod's addresses")
    try:
        return _with_routes(network, previous.get("routes"))
    except (ValueError, TypeError, AttributeError) as error:
        raise CniError(DECODE_FAILURE, f"prevResult: {error}") from None


def _with_routes(network: PodNetwork, raw: Any) -> PodNetwork:
    gateways: list[Address] = []
    routes: list[tuple[Network, Address | None]] = []
    for item in raw or ():
        destination = parse_network(item.get("dst"))
        hop = parse_address(item["gw"]) if item.get("gw") else None
        if destination.prefixlen == 0 and hop is not None:
            gateways.append(hop)
        else:
            routes.append((destination, hop))
    return evolve(network, gateway_ips=tuple(gateways), routes=tuple(routes))
