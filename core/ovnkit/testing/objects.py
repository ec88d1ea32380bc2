"""Views of Kubernetes objects for tests, with everything that doesn't matter filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovnkit.api.models import Namespace, Node, Pod
from ovnkit.network.services import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort


def _meta(namespace: str, name: str, **more: object) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "uid": f"uid-{namespace}-{name}",
        "labels": {},
        "annotations": {},
        "deleting": False,
        "finalizers": (),
        "resource_version": "1",
    }
    return {"namespace": namespace, "name": name, **defaults, **more}


def node(
    name: str,
    annotations: Mapping[str, str] | None = None,
    *,
    addresses: tuple[str, ...] = (),
    created: str = "",
    labels: Mapping[str, str] | None = None,
) -> Node:
    """A node."""
    meta = _meta("", name, annotations=annotations or {}, labels=labels or {})
    return Node(**meta, addresses=addresses, created=created)


def namespace(name: str, labels: Mapping[str, str] | None = None, **more: object) -> Namespace:
    """A namespace."""
    return Namespace(**_meta("", name, labels=labels or {}, **more))


def pod(key: str, node: str = "", annotations: Mapping[str, str] | None = None, **more: object) -> Pod:
    """A pod by `namespace/name`; `more` are fields of the view."""
    namespace, _, name = key.partition("/")
    state: dict[str, Any] = {
        "node": node,
        "host_network": False,
        "completed": False,
        "ready": True,
        "addresses": (),
        "ports": (),
    }
    meta = _meta(namespace, name, annotations=annotations or {})
    return Pod(**{**meta, **state, **more})


def service(
    key: str, *ports: ServicePort, cluster_ips: tuple[str, ...] = ("172.16.1.10",), **more: object
) -> Service:
    """A service by `namespace/name`; TCP 80 unless ports are given. `more` are fields of the view."""
    namespace, _, name = key.partition("/")
    state: dict[str, Any] = {"type": "ClusterIP", "ports": ports or (ServicePort("", "TCP", 80),)}
    meta = {field: more.pop(field) for field in ("uid", "labels", "annotations", "deleting") if field in more}
    return Service(**_meta(namespace, name, **meta), cluster_ips=cluster_ips, **{**state, **more})


def endpoint_slice(
    key: str,
    *endpoints: Endpoint,
    service: str,
    ports: tuple[EndpointPort, ...] = (EndpointPort("", "TCP", 8080),),
    family: int = 4,
) -> EndpointSlice:
    """A slice by `namespace/name` of the service `namespace/name`."""
    namespace, _, name = key.partition("/")
    return EndpointSlice(
        **_meta(namespace, name),
        service=service,
        address_type=f"IPv{family}",
        endpoints=endpoints,
        ports=ports,
    )
