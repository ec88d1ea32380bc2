"""The result object of ADD in the version that the runtime speaks."""

from __future__ import annotations

from typing import Any

from ovnkit_cni.netns import Plug


def make_result(version: str, plug: Plug, host_mac: str) -> dict[str, Any]:
    """Interfaces (node's end, pod's end), addresses with gateways, routes."""
    network = plug.network
    gateways = {gateway.version: str(gateway) for gateway in network.gateway_ips}
    ips = []
    for address in network.ip_addresses:
        item: dict[str, Any] = {"interface": 1, "address": str(address)}
        if address.version in gateways:
            item["gateway"] = gateways[address.version]
        if version.startswith("0."):
            item["version"] = str(address.version)
        ips.append(item)
    routes = [
        {"dst": str(destination), **({"gw": str(hop)} if hop else {})} for destination, hop in network.routes
    ]
    routes += [{"dst": "0.0.0.0/0" if hop.version == 4 else "::/0", "gw": str(hop)} for hop in network.gateway_ips]
    mtu = {"mtu": plug.mtu} if version == "1.1.0" else {}
    return {
        "cniVersion": version,
        "interfaces": [
            {"name": plug.host_name, "mac": host_mac, **mtu},
            {"name": plug.ifname, "mac": network.mac_address, "sandbox": plug.netns, **mtu},
        ],
        "ips": ips,
        "routes": routes,
        "dns": {},
    }
