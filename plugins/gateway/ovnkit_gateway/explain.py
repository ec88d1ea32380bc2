"""One sentence for each row the gateway plugin owns."""

from __future__ import annotations

from ovnkit.api.identity import RowId

_SENTENCES = {
    "router": "the gateway router of node {node}: between the join switch and the network outside",
    "join-router-port": "connects the gateway router of node {node} to the join switch",
    "join-switch-port": "the join switch's side of the gateway router of node {node}",
    "external-switch": "the switch between the gateway router of node {node} and its external bridge",
    "external-router-port": "the outside port of the gateway router of node {node}; has the node's own addresses",
    "external-switch-port": "the external switch's side of the gateway router of node {node}",
    "localnet-port": "connects the external switch of node {node} to its external bridge",
    "route-cluster": "leads from the gateway router of node {node} to the pods",
    "route-masquerade": "leads masquerade addresses back to node {node} itself",
    "route-default": "the default route of node {node}'s gateway router",
    "route-join": "leads from the cluster router to the gateway router of node {node}",
    "route-out": "what pods of node {node} send outside leaves by this hop",
    "policy": "what pods of node {node} send to the node's own address goes to its management port",
    "snat-join": "gives the gateway router's own messages the address of node {node}",
    "snat-cluster": "gives what pods send outside the address of node {node}",
}


def explain(row: RowId) -> str | None:
    """What a row is for."""
    node, name = row.key, row.name
    if row.renderer == "pod-snat":
        return f"gives what pod {node} sends outside the address of its node"
    best = max((key for key in _SENTENCES if name.startswith(key)), key=len, default="")
    return _SENTENCES[best].format(node=node) if best else None
