"""One sentence on each row of this plugin, for `ovnkit explain`."""

from __future__ import annotations

from ovnkit.api.identity import RowId

_CLUSTER = {
    "router": "routes between the nodes' switches, the join switch and the transit switch",
    "join-switch": "joins the cluster router and the gateway routers",
    "join-router-port": "is the cluster router's port on the join switch",
    "join-switch-port": "is the join switch's port to the cluster router",
    "transit-switch": "joins the cluster routers of all zones through tunnels",
    "copp": "limits what OVN punts to ovn-controller",
    "cluster-port-group": "holds the management ports of the zone's nodes",
    "cluster-router-port-group": "holds the switches' router ports when multicast is on",
}
_NODE = {
    "switch": "is the switch of node {node}: its pods and its management port",
    "switch-port": "connects the switch of node {node} to the cluster router",
    "router-port": "is the gateway of the pods of node {node}",
    "gateway-chassis": "pins the router port of node {node} to its chassis",
    "allow-v4": "lets node {node} reach its own pods over IPv4 whatever policies say",
    "allow-v6": "lets node {node} reach its own pods over IPv6 whatever policies say",
    "transit-router-port": "is the cluster router's port on the transit switch, at node {node}",
    "transit-switch-port": "is the transit switch's port to the router at node {node}",
}
_REMOTE = {
    "port": "is node {node}, in another zone, as seen on the transit switch",
    "route-subnet-v4": "routes to the IPv4 pods of node {node} in another zone",
    "route-subnet-v6": "routes to the IPv6 pods of node {node} in another zone",
    "route-gateway-v4": "routes to the gateway router of node {node} in another zone (IPv4)",
    "route-gateway-v6": "routes to the gateway router of node {node} in another zone (IPv6)",
    "chassis": "tells ovn-controller where the tunnels to node {node} go",
}


def explain(row: RowId) -> str | None:
    """What a row is for."""
    node, name = row.key, row.name
    if row.renderer == "cluster" and name.startswith("meter-"):
        return "The meter limits packets per second."
    if name.startswith("encap-"):
        return f"It is a tunnel endpoint of node {node}."
    words = {"cluster": _CLUSTER, "node": _NODE, "remote": _REMOTE}.get(row.renderer, {}).get(name)
    return f"It {words.format(node=node)}." if words else None
