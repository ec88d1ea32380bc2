"""Role zone: an address set per namespace with the pods that carry a label."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from acme_ovnkit_labels import rows
from ovnkit.api.items import Row
from ovnkit.api.live import LiveSet
from ovnkit.api.models import NAMESPACES, PODS, Pod
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.selectors import LabelSelector
from ovnkit.api.world import World


def addresses(pod: Pod) -> Iterable[str]:
    """What a pod contributes."""
    return pod.addresses


@frozen
class LabelledSets:
    """The renderer."""

    label: str

    def renderers(self) -> Iterable[Renderer]:
        """One render per namespace."""
        yield Renderer("namespace", Role.ZONE, self.render, each=NAMESPACES)

    def render(self, world: World, key: str) -> Iterable[Row]:
        """The set; the core keeps the addresses in it up to date."""
        if world.get(NAMESPACES, key) is None:
            return
        selector = LabelSelector.from_text(self.label)
        yield Row(
            "Address_Set",
            rows.labelled_set(key).name,
            {
                "name": rows.labelled_set_name(key),
                "addresses": LiveSet(PODS, addresses, labels=selector, namespaces=key),
                "external_ids": {"acme.example/namespace": key},
            },
        )
