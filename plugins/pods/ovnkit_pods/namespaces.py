"""Role zone: an address set per namespace and IP family, with the addresses of its pods in all zones."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api import rows
from ovnkit.api.identity import PRIMARY_ID, hash_name, object_ids
from ovnkit.api.items import Row
from ovnkit.api.live import LiveSet
from ovnkit.api.models import NAMESPACES, PODS
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit_pods import annotated

PROJECTIONS = {4: annotated.ipv4, 6: annotated.ipv6}


@frozen
class NamespaceSets:
    """The renderer of namespaces' address sets; `families` are the cluster's IP versions."""

    families: tuple[int, ...]

    def renderers(self) -> Iterable[Renderer]:
        """One render per namespace."""
        yield Renderer("namespace", Role.ZONE, self.render, each=NAMESPACES)

    def render(self, _world: World, namespace: str) -> Iterable[Row]:
        """A set per family; the core keeps the addresses up to date."""
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
