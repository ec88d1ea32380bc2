"""Trimmed views of the Kubernetes objects that every cluster has, and their kinds."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from attrs import field, frozen

from ovnkit.api.errors import Reject
from ovnkit.api.kinds import Kind, Raw, Resource, View
from ovnkit.api.text import check_port, check_strings, quoted

__all__ = [
    "COMMON_KINDS",
    "NAMESPACES",
    "NODES",
    "PODS",
    "ContainerPort",
    "Namespace",
    "Node",
    "ObjectView",
    "Pod",
    "is_object_kind",
    "lasting_containers",
    "metadata",
]

_UNREAD_ANNOTATIONS = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
"""A DNS subdomain, near enough (RFC 1123)."""
_EMPTY: Mapping[str, str] = {}

SANDBOX_READY = "PodReadyToStartContainers"
"""Condition of a pod that has a sandbox with a network (Kubernetes 1.28 and later)."""


@frozen
class ObjectView:
    """The metadata every view has. `resource_version` takes no part in equality."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    deleting: bool
    finalizers: tuple[str, ...]
    resource_version: str = field(eq=False)

    @property
    def key(self) -> str:
        """`namespace/name`, or `name` of a cluster-wide object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def is_object_kind(kind: Kind[View]) -> TypeGuard[Kind[ObjectView]]:
    """Whether objects of a kind come from the Kubernetes API."""
    return isinstance(kind.source, Resource)


def strings(raw: Any) -> Mapping[str, str]:
    """A string map of an object with its keys interned; the shared empty map where there is none."""
    if not raw:
        return _EMPTY
    return {sys.intern(key): value for key, value in raw.items()}


def metadata(raw: Raw) -> dict[str, Any]:
    """The keyword arguments of `ObjectView` for a raw object."""
    meta = raw["metadata"]
    namespace, name = meta.get("namespace", ""), meta["name"]
    # Names become words of matches, paths and ids: what the API server ought to have refused goes no further.
    if not _NAME.fullmatch(name) or (namespace and not _NAME.fullmatch(namespace)):
        raise Reject(f"{quoted(name)} in namespace {quoted(namespace)} is not a name", reason="InvalidName")
    annotations = meta.get("annotations")
    if annotations and not _UNREAD_ANNOTATIONS.isdisjoint(annotations):
        annotations = {key: annotations[key] for key in annotations if key not in _UNREAD_ANNOTATIONS}
    return {
        "namespace": sys.intern(namespace),
        "name": name,
        "uid": meta.get("uid", ""),
        "labels": strings(meta.get("labels")),
        "annotations": strings(annotations),
        "deleting": "deletionTimestamp" in meta,
        "finalizers": tuple(meta.get("finalizers") or ()),
        "resource_version": meta.get("resourceVersion", ""),
    }


@frozen
class Namespace(ObjectView):
    """A namespace."""


@frozen
class Node(ObjectView):
    """A node; `addresses` are its InternalIP addresses as text, in order; `created` its creationTimestamp."""

    addresses: tuple[str, ...]
    created: str = ""


@frozen
class ContainerPort:
    """A port a container declares; `name` may be empty."""

    name: str
    port: int
    protocol: str


@frozen
class Pod(ObjectView):
    """A pod, as far as networking reads it.

    `node` is empty until it is scheduled. `addresses` is status.podIPs. `completed` is true in phase Succeeded
    or Failed. `ports` are those that its containers and sidecars declare. `created` is creationTimestamp.
    `sandbox_ready` is False once the kubelet says that the pod has no sandbox (condition
    PodReadyToStartContainers): `addresses` then are those of the last one.
    """

    node: str
    host_network: bool
    completed: bool
    ready: bool
    addresses: tuple[str, ...]
    ports: tuple[ContainerPort, ...]
    created: str = ""
    sandbox_ready: bool = True


def _namespace(raw: Raw) -> Namespace:
    return Namespace(**metadata(raw))


def _node(raw: Raw) -> Node:
    addresses = (raw.get("status") or {}).get("addresses") or ()
    return Node(
        **metadata(raw),
        addresses=tuple(
            check_strings([item["address"] for item in addresses if item.get("type") == "InternalIP"])
        ),
        created=raw["metadata"].get("creationTimestamp", ""),
    )


def lasting_containers(spec: Raw) -> Iterator[Raw]:
    """The containers that run as long as their pod does, and whose ports a name may stand for: its containers,
    then its sidecars (init containers with `restartPolicy: Always`)."""
    yield from spec.get("containers") or ()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container


def _container_ports(spec: Raw) -> Iterator[ContainerPort]:
    for container in lasting_containers(spec):
        for port in container.get("ports") or ():
            # What is no port can't be reached by its name; it is not worth losing the pod for.
            try:
                number = check_port(port.get("containerPort"))
            except ValueError:
                continue
            yield ContainerPort(port.get("name", ""), number, port.get("protocol", "TCP"))


def _pod(raw: Raw) -> Pod:
    spec = raw.get("spec") or {}
    status = raw.get("status") or {}
    conditions = [(item.get("type"), item.get("status")) for item in status.get("conditions") or ()]
    return Pod(
        **metadata(raw),
        node=sys.intern(spec.get("nodeName") or ""),
        host_network=bool(spec.get("hostNetwork")),
        completed=status.get("phase") in ("Succeeded", "Failed"),
        ready=("Ready", "True") in conditions,
        addresses=tuple(check_strings([item["ip"] for item in status.get("podIPs") or () if "ip" in item])),
        ports=tuple(_container_ports(spec)),
        created=raw["metadata"].get("creationTimestamp", ""),
        sandbox_ready=(SANDBOX_READY, "False") not in conditions,
    )


NAMESPACES: Kind[Namespace] = Kind(
    "namespaces", Resource("v1", "namespaces", "Namespace", namespaced=False), _namespace
)
NODES: Kind[Node] = Kind("nodes", Resource("v1", "nodes", "Node", False, annotated_by_status=True), _node)
PODS: Kind[Pod] = Kind(
    "pods",
    Resource("v1", "pods", "Pod", node_field="spec.nodeName", annotated_by_status=True),
    _pod,
    indexes={"node": lambda pod: (pod.node,), "namespace": lambda pod: (pod.namespace,)},
)

COMMON_KINDS: tuple[Kind[View], ...] = (NAMESPACES, NODES, PODS)
"""The kinds that every process observes, whether or not a plugin declares them."""
