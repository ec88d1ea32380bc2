"""Role zone: a namespace's address set per IP family (its pods in all zones), and the group of its ports here."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.hooks import Scope
from ovnkit.api.items import Row
from ovnkit.api.live import LiveSet
from ovnkit.api.models import NAMESPACES, PODS
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit.network import rows
from ovnkit.network.pod_addresses import PROJECTIONS, InZone, port_references


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
            yield Row(
                "Address_Set",
                rows.namespace_address_set(namespace, family).name,
                {
                    "name": rows.namespace_address_set_name(namespace, family),
                    "addresses": LiveSet(PODS, PROJECTIONS[family], namespaces=namespace),
                    "external_ids": rows.namespace_address_set_ids(namespace, family),
                },
            )
        yield Row(
            "Port_Group",
            rows.namespace_port_group(namespace).name,
            {
                "name": rows.namespace_port_group_name(namespace),
                "ports": LiveSet(PODS, port_references, namespaces=namespace, where=InZone(self.scope)),
                "external_ids": rows.namespace_port_group_ids(namespace),
            },
        )
