"""Rows that plugins name across their borders, as data. The plugin in front of each is its owner."""

from __future__ import annotations

from functools import lru_cache

from ovnkit.api.identity import PRIMARY_ID, RowId, hash_name, object_ids


def cluster_router() -> RowId:
    """Logical_Router `ovn_cluster_router`."""
    return RowId("topology", "cluster", "", "router")


def join_switch() -> RowId:
    """Logical_Switch `join`."""
    return RowId("topology", "cluster", "", "join-switch")


def transit_switch() -> RowId:
    """Logical_Switch `transit_switch` (zones per node only)."""
    return RowId("topology", "cluster", "", "transit-switch")


def copp() -> RowId:
    """Copp `ovnkube-default`."""
    return RowId("topology", "cluster", "", "copp")


def cluster_port_group() -> RowId:
    """Port_Group of the management ports (`clusterPortGroup`)."""
    return RowId("topology", "cluster", "", "cluster-port-group")


def cluster_router_port_group() -> RowId:
    """Port_Group of the switches' router ports (`clusterRtrPortGroup`)."""
    return RowId("topology", "cluster", "", "cluster-router-port-group")


def cluster_lb_group() -> RowId:
    """Load_Balancer_Group `clusterLBGroup`: switches and gateway routers."""
    return RowId("topology", "cluster", "", "cluster-lb-group")


def switch_lb_group() -> RowId:
    """Load_Balancer_Group `clusterSwitchLBGroup`: node switches."""
    return RowId("topology", "cluster", "", "switch-lb-group")


def router_lb_group() -> RowId:
    """Load_Balancer_Group `clusterRouterLBGroup`: gateway routers."""
    return RowId("topology", "cluster", "", "router-lb-group")


def node_switch(node: str) -> RowId:
    """Logical_Switch `<node>` of a node of this zone."""
    return RowId("topology", "node", node, "switch")


def node_switch_port(node: str) -> RowId:
    """Logical_Switch_Port `stor-<node>`."""
    return RowId("topology", "node", node, "switch-port")


def node_router_port(node: str) -> RowId:
    """Logical_Router_Port `rtos-<node>`."""
    return RowId("topology", "node", node, "router-port")


def management_switch_port(node: str) -> RowId:
    """Logical_Switch_Port `k8s-<node>`."""
    return RowId("management_port", "zone", node, "port")


@lru_cache(maxsize=16384)
def pod_port(pod: str) -> RowId:
    """Logical_Switch_Port of a pod on the default network; `pod` is `namespace/name`."""
    return RowId("pods", "port", pod, "port")


def namespace_address_set(namespace: str, family: int) -> RowId:
    """Address_Set of the addresses of a namespace's pods, of IP version `family`."""
    return RowId("pods", "namespace", namespace, f"v{family}")


def namespace_port_group(namespace: str) -> RowId:
    """Port_Group of the ports of a namespace's pods in this zone."""
    return RowId("pods", "namespace", namespace, "port-group")


def namespace_address_set_ids(namespace: str, family: int) -> dict[str, str]:
    """external_ids of `namespace_address_set`."""
    return object_ids("Namespace", ("k8s.ovn.org/name", namespace), ("ip-family", f"v{family}"))


def namespace_port_group_ids(namespace: str) -> dict[str, str]:
    """external_ids of `namespace_port_group`."""
    return object_ids("Namespace", ("k8s.ovn.org/name", namespace))


def cluster_group_ids(name: str) -> dict[str, str]:
    """external_ids of the port groups of the cluster, by their names in ids (`clusterPortGroup`)."""
    return object_ids("Cluster", ("k8s.ovn.org/name", name))


@lru_cache(maxsize=4096)
def namespace_address_set_name(namespace: str, family: int) -> str:
    """The name of `namespace_address_set`, by which a match refers to it (`$name`)."""
    return hash_name(namespace_address_set_ids(namespace, family)[PRIMARY_ID])


@lru_cache(maxsize=4096)
def namespace_port_group_name(namespace: str) -> str:
    """The name of `namespace_port_group`, by which a match refers to it (`@name`)."""
    return hash_name(namespace_port_group_ids(namespace)[PRIMARY_ID])


def gateway_router(node: str) -> RowId:
    """Logical_Router `GR_<node>`."""
    return RowId("gateway", "node", node, "router")
