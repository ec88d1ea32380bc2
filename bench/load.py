"""The objects of a simulated cluster, as manifests."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any

import orjson
from attrs import frozen

Manifest = dict[str, Any]
CLUSTER = "10.128.0.0/10"
SERVICES = "172.16.0.0/16"
NAMESPACES = 50
ENDPOINTS = 5


@frozen
class Load:
    """How many objects there are; one in `apps` pods matches a policy's peer."""

    name: str
    nodes: int
    pods: int
    policies: int
    services: int
    apps: int = 1000

    def scaled(self, factor: float) -> Load:
        """The same shape, smaller or larger."""

        def times(number: int) -> int:
            return max(1, round(number * factor))

        return Load(
            self.name,
            times(self.nodes),
            times(self.pods),
            times(self.policies) if self.policies else 0,
            times(self.services),
            times(self.apps),
        )


def namespace(index: int) -> str:
    """Name of a namespace; they are used in turn."""
    return f"bench-{index % NAMESPACES}"


def subnet(node: int) -> IPv4Network:
    """A node's slice of the cluster network."""
    return IPv4Network((int(IPv4Network(CLUSTER).network_address) + (node << 9), 23))


def namespaces() -> Iterator[Manifest]:
    """The namespaces, that of leases included."""
    for name in ("ovn-kubernetes", *(namespace(index) for index in range(NAMESPACES))):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"name": name}}}


def node(index: int, zone: str = "") -> Manifest:
    """A node with the annotations that its own ovnkit and the cluster's would have written."""
    uplink = f"172.18.{index >> 8}.{index & 255}/16"
    gateway = {
        "mode": "shared", "bridge-id": "breth0", "interface-id": f"breth0_node-{index}",
        "mac-address": f"02:42:ac:12:{index >> 8:02x}:{index & 255:02x}", "ip-addresses": [uplink],
        "ip-address": uplink, "next-hops": ["172.18.255.254"], "next-hop": "172.18.255.254",
        "node-port-enable": "true", "vlan-id": "0",
    }  # fmt: skip
    annotations = {
        "k8s.ovn.org/node-subnets": _json({"default": [str(subnet(index))]}),
        "k8s.ovn.org/node-id": str(index + 2),
        "k8s.ovn.org/node-chassis-id": f"00000000-0000-4000-8000-{index:012d}",
        "k8s.ovn.org/node-primary-ifaddr": _json({"ipv4": uplink}),
        "k8s.ovn.org/host-cidrs": _json([uplink]),
        "k8s.ovn.org/l3-gateway-config": _json({"default": gateway}),
        "k8s.ovn.org/zone-name": zone.format(index=index) or "global",
    }
    if zone:
        annotations["k8s.ovn.org/node-transit-switch-port-ifaddr"] = _json(
            {"ipv4": f"100.88.{(index + 2) >> 8}.{(index + 2) & 255}/16"}
        )
        annotations["k8s.ovn.org/node-encap-ips"] = _json([uplink.partition("/")[0]])
    address = {"type": "InternalIP", "address": uplink.partition("/")[0]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{index}", "annotations": annotations},
        "status": {"addresses": [address]},
    }


def pod(index: int, load: Load, name: str = "pod", app: str = "") -> Manifest:
    """A scheduled pod without an annotation."""
    metadata = {
        "name": f"{name}-{index}",
        "namespace": namespace(index),
        "labels": {"app": app or f"app-{index % load.apps}"},
    }
    spec = {"nodeName": f"node-{index % load.nodes}", "containers": [{"name": "c", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def policy(index: int, load: Load, name: str = "policy", peer: str = "") -> Manifest:
    """A policy with two ingress peers and two ports; `peer` is the app that one of them selects everywhere."""
    app = f"app-{index % load.apps}"
    peers: list[Manifest] = [
        {"podSelector": {"matchLabels": {"app": peer or f"app-{(index + 1) % load.apps}"}}},
        {"namespaceSelector": {}, "podSelector": _select(peer, index) if peer else {"matchLabels": {"app": app}}},
    ]
    ports = [{"port": 80, "protocol": "TCP"}, {"port": 8000 + index % 1000, "protocol": "TCP"}]
    spec = {
        "podSelector": {"matchLabels": {"app": app}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": peers, "ports": ports}],
    }
    metadata = {"name": f"{name}-{index}", "namespace": namespace(index)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _select(app: str, index: int) -> Manifest:
    """The pods of an app, by a selector that no other policy has: nothing can be shared."""
    return {"matchExpressions": [{"key": "app", "operator": "In", "values": [app, f"{app}-{index}"]}]}


def service(index: int) -> Manifest:
    """A ClusterIP service of one port."""
    cluster_ip = f"172.16.{1 + index // 250}.{1 + index % 250}"
    spec = {
        "clusterIP": cluster_ip,
        "clusterIPs": [cluster_ip],
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
    }
    metadata = {"name": f"service-{index}", "namespace": namespace(index)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def endpoint_slice(index: int, load: Load, turn: int = 0) -> Manifest:
    """The service's endpoints; each `turn` has others."""
    endpoints = []
    for number in range(ENDPOINTS):
        place = (index + number) % load.nodes
        address = subnet(place)[20 + (index + turn) % 400]
        endpoints.append({"addresses": [str(address)], "nodeName": f"node-{place}", "conditions": {"ready": True}})
    labels = {"kubernetes.io/service-name": f"service-{index}"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"service-{index}", "namespace": namespace(index), "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def everything(load: Load) -> Iterator[Manifest]:
    """All objects, in an order that makes sense."""
    yield from namespaces()
    yield from (node(index) for index in range(load.nodes))
    yield from (service(index) for index in range(load.services))
    yield from (endpoint_slice(index, load) for index in range(load.services))
    yield from (policy(index, load) for index in range(load.policies))
    yield from (pod(index, load) for index in range(load.pods))


def collection(manifest: Manifest) -> str:
    """Path of the collection that an object is created in."""
    version, meta = manifest["apiVersion"], manifest["metadata"]
    scope = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    plural = {"NetworkPolicy": "networkpolicies"}.get(manifest["kind"], manifest["kind"].lower() + "s")
    return f"/{'apis' if '/' in version else 'api'}/{version}{scope}/{plural}"


def collection_of_all(manifest: Manifest) -> str:
    """Path of the collection over all namespaces."""
    everywhere = {**manifest, "metadata": {"name": manifest["metadata"]["name"]}}
    return collection(everywhere)


def path(manifest: Manifest) -> str:
    """Path of an object."""
    return f"{collection(manifest)}/{manifest['metadata']['name']}"


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
