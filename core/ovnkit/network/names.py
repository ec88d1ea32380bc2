"""Names of the default network's interfaces, groups and ports, as OVN-Kubernetes gives them."""

from __future__ import annotations

MANAGEMENT_LINK = "ovn-k8s-mp0"
"""The interface by which a node reaches the cluster network."""

CLUSTER_ROUTER = "ovn_cluster_router"
JOIN_SWITCH = "join"
TRANSIT_SWITCH = "transit_switch"

CLUSTER_PORT_GROUP = "clusterPortGroup"
CLUSTER_ROUTER_PORT_GROUP = "clusterRtrPortGroup"
CLUSTER_LB_GROUP = "clusterLBGroup"
SWITCH_LB_GROUP = "clusterSwitchLBGroup"
ROUTER_LB_GROUP = "clusterRouterLBGroup"


def gateway_router(node: str) -> str:
    """A node's gateway router."""
    return f"GR_{node}"


def external_switch(node: str) -> str:
    """The switch between a node's gateway router and its external bridge."""
    return f"ext_{node}"


def router_to_switch(switch: str) -> str:
    """The cluster router's port to a node's switch."""
    return f"rtos-{switch}"


def switch_to_router(switch: str) -> str:
    """The port of a node's switch to the cluster router."""
    return f"stor-{switch}"


def router_to_transit(node: str) -> str:
    """The cluster router's port to the transit switch, at a node."""
    return f"rtots-{node}"


def transit_to_router(node: str) -> str:
    """The transit switch's port to the cluster router of a node."""
    return f"tstor-{node}"


def router_to_join(router: str) -> str:
    """A router's port to the join switch."""
    return f"rtoj-{router}"


def join_to_router(router: str) -> str:
    """The join switch's port to a router."""
    return f"jtor-{router}"


def router_to_external(router: str) -> str:
    """A gateway router's port to its external switch."""
    return f"rtoe-{router}"


def external_to_router(router: str) -> str:
    """An external switch's port to its gateway router."""
    return f"etor-{router}"


def management_port(node: str) -> str:
    """The port of a node's switch to the node itself."""
    return f"k8s-{node}"
