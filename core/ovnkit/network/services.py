"""Trimmed views of Services and EndpointSlices, and their kinds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache

from attrs import field, frozen

from ovnkit.api.kinds import Kind, Raw, Resource
from ovnkit.api.models import ObjectView, metadata
from ovnkit.api.text import Address, check_number, check_port, check_strings
from ovnkit.api.text import parse_address as _parse_address

SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service, of the same namespace, whose endpoints it holds."""

AFFINITY_TIMEOUT = 10_800
"""Default of sessionAffinityConfig.clientIP.timeoutSeconds (Kubernetes API)."""

MAX_AFFINITY_TIMEOUT = 86_400
"""Greatest value that the API server accepts for it."""

_READ_PREFIXES = ("k8s.ovn.org/", "ovnkit.io/")
_READ_SUFFIX = "/idled-at"


@lru_cache(maxsize=65536)
def parse_address(text: str) -> Address | None:
    """An address, or None when the text is none; remembered, because the same ones come again and again."""
    try:
        return _parse_address(text)
    except ValueError:
        return None


# -- Services -------------------------------------------------------------------------------------------------


@frozen
class ServicePort:
    """A port of a service. `name` is empty when there is only one; `node_port` is 0 when it has none."""

    name: str
    protocol: str
    port: int
    node_port: int = 0


@frozen
class Service(ObjectView):
    """A service, as far as networking reads it.

    Addresses are as written, checked by whoever uses them. `cluster_ips` is empty for headless services and
    those of type ExternalName. `ingress_ips` are the addresses of status.loadBalancer that are ours to serve
    (`ipMode` VIP). `affinity_timeout` is in seconds, 0 without session affinity. Of the annotations only those
    of OVN-Kubernetes, idling and our own are kept.
    """

    type: str
    cluster_ips: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    external_ips: tuple[str, ...] = ()
    ingress_ips: tuple[str, ...] = ()
    affinity_timeout: int = 0
    internal_local: bool = False
    external_local: bool = False
    publish_not_ready: bool = False
    source_ranges: tuple[str, ...] = ()
    health_check_node_port: int = 0
    created: str = ""


def _service(raw: Raw) -> Service:
    spec = raw.get("spec") or {}
    meta = metadata(raw)
    meta["annotations"] = {
        key: value
        for key, value in meta["annotations"].items()
        if key.startswith(_READ_PREFIXES) or key.endswith(_READ_SUFFIX)
    }
    kind = spec.get("type") or "ClusterIP"
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    return Service(
        **meta,
        type=kind,
        cluster_ips=()
        if kind == "ExternalName"
        else tuple(a for a in check_strings(addresses) if a and a != "None"),
        ports=tuple(_service_port(port) for port in spec.get("ports") or ()),
        external_ips=tuple(check_strings(spec.get("externalIPs") or [])),
        ingress_ips=tuple(check_strings(list(_ingress(raw)))) if kind == "LoadBalancer" else (),
        affinity_timeout=_affinity(spec),
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=spec.get("externalTrafficPolicy") == "Local",
        publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
        source_ranges=tuple(check_strings(spec.get("loadBalancerSourceRanges") or []))
        if kind == "LoadBalancer"
        else (),
        health_check_node_port=check_port(spec["healthCheckNodePort"]) if spec.get("healthCheckNodePort") else 0,
        created=raw["metadata"].get("creationTimestamp") or "",
    )


def _service_port(raw: Raw) -> ServicePort:
    return ServicePort(
        sys.intern(raw.get("name") or ""),
        sys.intern(raw.get("protocol") or "TCP"),
        check_port(raw["port"]),
        check_port(raw["nodePort"]) if raw.get("nodePort") else 0,
    )


def _ingress(raw: Raw) -> Iterable[str]:
    status = (raw.get("status") or {}).get("loadBalancer") or {}
    return (
        item["ip"] for item in status.get("ingress") or () if item.get("ip") and item.get("ipMode", "VIP") == "VIP"
    )


def _affinity(spec: Raw) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    configured = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return check_number(configured, 1, MAX_AFFINITY_TIMEOUT) if configured else AFFINITY_TIMEOUT


def _vips(service: Service) -> set[str]:
    texts = (*service.cluster_ips, *service.external_ips, *service.ingress_ips)
    return {str(address) for text in texts if (address := parse_address(text)) is not None}


# -- EndpointSlices -------------------------------------------------------------------------------------------


@frozen
class Endpoint:
    """One endpoint. `node` is empty when unknown. A condition the API leaves out has its default here."""

    addresses: tuple[str, ...]
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False


@frozen
class EndpointPort:
    """A port all endpoints of a slice have; `name` is that of the service's port."""

    name: str
    protocol: str
    port: int


@frozen
class EndpointSlice(ObjectView):
    """A slice of a service's endpoints. `service` is the service's key, empty when it belongs to none.

    Annotations are left out: they hold the time of the last change, which nobody reads.
    """

    service: str
    address_type: str
    endpoints: tuple[Endpoint, ...] = field(default=())
    ports: tuple[EndpointPort, ...] = field(default=())


def _endpoint_slice(raw: Raw) -> EndpointSlice:
    meta = metadata(raw)
    meta["annotations"] = {}
    name = meta["labels"].get(SERVICE_NAME)
    return EndpointSlice(
        **meta,
        service=sys.intern(f"{meta['namespace']}/{name}") if name else "",
        address_type=sys.intern(raw.get("addressType") or ""),
        endpoints=tuple(_endpoint(item) for item in raw.get("endpoints") or ()),
        ports=tuple(_endpoint_port(port) for port in raw.get("ports") or () if port.get("port")),
    )


def _endpoint_port(raw: Raw) -> EndpointPort:
    protocol = sys.intern(raw.get("protocol") or "TCP")
    return EndpointPort(sys.intern(raw.get("name") or ""), protocol, check_port(raw["port"]))


def _endpoint(raw: Raw) -> Endpoint:
    conditions = raw.get("conditions") or {}
    ready = conditions.get("ready")
    ready = True if ready is None else ready
    serving = conditions.get("serving")
    return Endpoint(
        addresses=tuple(check_strings(raw.get("addresses") or [])),
        node=sys.intern(raw.get("nodeName") or ""),
        ready=ready,
        serving=ready if serving is None else serving,
        terminating=bool(conditions.get("terminating")),
    )


SERVICES: Kind[Service] = Kind(
    "services",
    Resource("v1", "services", "Service", annotated_by_status=True),
    _service,
    indexes={"namespace": lambda service: (service.namespace,), "address": _vips},
)
"""Index `address`: every address the service claims, in canonical form."""

ENDPOINT_SLICES: Kind[EndpointSlice] = Kind(
    "endpoint-slices",
    Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice"),
    _endpoint_slice,
    indexes={"service": lambda found: (found.service,) if found.service else ()},
)
"""Index `service`: the key of the service."""
