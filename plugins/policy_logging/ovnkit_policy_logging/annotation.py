"""The annotation by which a namespace asks for its ACLs to be logged."""

from __future__ import annotations

from attrs import evolve, frozen

from ovnkit.api.hooks import AclLogging
from ovnkit.api.models import NAMESPACES
from ovnkit.api.text import parse_json, quoted
from ovnkit.api.world import World, derived
from ovnkit.network.acl_logging import OFF, SEVERITIES

ANNOTATION = "k8s.ovn.org/acl-logging"
VERDICTS = ("allow", "deny")


@frozen
class Levels:
    """What an annotation says, and what is wrong with it; what is wrong counts as off."""

    logging: AclLogging = OFF
    faults: tuple[str, ...] = ()


def parse(text: str) -> Levels:
    """The levels of an annotation's value; an empty one is off."""
    if not text.strip():
        return Levels()
    try:
        found = parse_json(text)
    except ValueError as error:
        return Levels(faults=(f"{quoted(text)} is {error}",))
    if not isinstance(found, dict):
        return Levels(faults=(f"{quoted(text)} is not a JSON object",))
    logging, faults = OFF, []
    for key, value in found.items():
        if key not in VERDICTS:
            faults.append(f"key {quoted(key)} is not one of {', '.join(VERDICTS)}")
        elif isinstance(value, str) and value in SEVERITIES:
            logging = evolve(logging, allow=value) if key == "allow" else evolve(logging, deny=value)
        elif value not in ("", None):
            faults.append(f"{key} is {quoted(value)}, which is not one of {', '.join(SEVERITIES)}")
    return Levels(logging, tuple(faults))


@derived
def levels(world: World, namespace: str) -> Levels | None:
    """What a namespace asks for; None without the annotation."""
    found = world.get(NAMESPACES, namespace)
    text = found.annotations.get(ANNOTATION) if found is not None else None
    return parse(text) if text is not None else None
