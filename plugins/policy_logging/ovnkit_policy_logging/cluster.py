"""Role cluster: Events on namespaces whose annotation is wrong."""

from __future__ import annotations

from collections.abc import Iterable

from ovnkit.api.items import Event
from ovnkit.api.models import NAMESPACES
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit_policy_logging.annotation import ANNOTATION, levels


def renderers() -> Iterable[Renderer]:
    """One render per namespace."""
    yield Renderer("namespace", Role.CLUSTER, check, each=NAMESPACES)


def check(world: World, key: str) -> Iterable[Event]:
    """What is wrong with a namespace's annotation."""
    found = levels(world, key)
    if found is not None and found.faults:
        message = f"annotation {ANNOTATION}: {'; '.join(found.faults)}"
        yield Event(NAMESPACES, key, "InvalidAnnotation", message)
