"""Role cluster: one word in the status for what all zones say, Events, and lines of zones that are gone."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ovnkit.api.config import Config
from ovnkit.api.errors import Reject
from ovnkit.api.hooks import Scope
from ovnkit.api.items import Event, Status
from ovnkit.api.renderers import Renderer, Role
from ovnkit.api.world import World
from ovnkit_egress_firewall import facts
from ovnkit_egress_firewall.models import EGRESS_FIREWALLS
from ovnkit_egress_firewall.status import APPLIED, NOT_APPLIED, faults, summary


@frozen
class FirewallStatus:
    """The renderer of the status of firewalls."""

    config: Config
    scope: Scope

    def renderers(self) -> Iterable[Renderer]:
        """One render per firewall."""
        yield Renderer("status", Role.CLUSTER, self.status, each=EGRESS_FIREWALLS)

    def status(self, world: World, key: str) -> Iterable[Status | Event]:
        """One word for all zones, and Events that say what is wrong. Lines of zones that are gone go."""
        firewall = world.get(EGRESS_FIREWALLS, key)
        if firewall is None:
            return
        if firewall.name != facts.NAME:
            raise Reject(f"an EgressFirewall must be named {facts.NAME}; this one has no effect")
        mine = summary(dict(faults(firewall.rules)))
        if mine:
            yield Event(EGRESS_FIREWALLS, key, "InvalidRule", mine)
        said = {zone: text.strip() for zone, _, text in (text.partition(":") for text in firewall.messages)}
        zones = frozenset(facts.zones(world, self.config, self.scope))
        answers = [said.get(zone, "") for zone in zones]
        for text in sorted(set(answers)):
            reason = text.removeprefix(f"{NOT_APPLIED}: ")
            if reason not in (text, mine):
                yield Event(EGRESS_FIREWALLS, key, "RuleNotApplied", reason)
        for zone in sorted(zone for zone in said.keys() - zones if said[zone].startswith((APPLIED, NOT_APPLIED))):
            yield Status(EGRESS_FIREWALLS, key, {}, manager=zone)
        if any(answer.startswith(NOT_APPLIED) for answer in answers):
            yield Status(EGRESS_FIREWALLS, key, {"status": NOT_APPLIED})
        elif answers and all(answer == APPLIED for answer in answers):
            yield Status(EGRESS_FIREWALLS, key, {"status": APPLIED})
