"""Role zone: a namespace's address set per IP family (its pods in all zones), and the group of its ports here."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.hooks import Scope
from ovnkit.api.identity import PRIMARY_ID, hash_name, object_ids
from ovnkit.api.items import Ref, Row
from ovnkit.api.live import LiveSet
from ovnkit.api.models import NAMESPACES, PODS, Pod
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network import rows
from ovnkit.network.pod_addresses import PROJECTIONS, has_own_network


def port(pod: Pod) -> Iterable[Ref]:
    """A pod's port, for live sets; elements whose row does not exist (yet) wait."""
    return (Ref.to(rows.pod_port(pod.key)),) if has_own_network(pod) else ()


@frozen(cache_hash=True)
class InZone:
    """Whether a pod runs on a node of this zone."""

    scope: Scope

    def __call__(self, pod: Pod) -> bool:
        """True for pods whose ports are in this zone's northbound."""
        return self.scope.is_local(pod.node)


@frozen
class NamespaceSets:
    """The renderer of namespaces' address sets and port groups; `families` are the cluster's IP versions."""

    families: tuple[int, ...]
    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """One render per namespace."""
        yield Renderer("namespace", Role.ZONE, self.render, each=NAMESPACES)

    def render(self, _world: World, namespace: str) -> Iterable[Row]:
        """A set per family and a group; the core keeps addresses and ports up to date."""
        for family in self.families:
            ids = object_ids("Namespace", ("k8s.ovn.org/name", namespace), ("ip-family", f"v{family}"))
            yield Row(
                "Address_Set",
                rows.namespace_address_set(namespace, family).name,
                {
                    "name": hash_name(ids[PRIMARY_ID]),
                    "addresses": LiveSet(PODS, PROJECTIONS[family], namespaces=namespace),
                    "external_ids": ids,
                },
            )
        ids = object_ids("Namespace", ("k8s.ovn.org/name", namespace))
        yield Row(
            "Port_Group",
            rows.namespace_port_group(namespace).name,
            {
                "name": hash_name(ids[PRIMARY_ID]),
                "ports": LiveSet(PODS, port, namespaces=namespace, where=InZone(self.scope)),
                "external_ids": ids,
            },
        )
