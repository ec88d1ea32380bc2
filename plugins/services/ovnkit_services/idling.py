"""Idled services: no endpoints, and a client that calls is to bring them back instead of being refused.

An annotation `*/idled-at` says that a service is idled. Its load balancers then tell of packets for which they
have no target, by rows of the southbound's Controller_Event; each becomes an Event `NeedPods` and goes. Whoever
scales services up hears that, and takes the annotation away.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import frozen

from ovnkit.api.identity import OWNER_KEY, RowId
from ovnkit.api.kinds import Kind, Raw, Table
from ovnkit.api.text import parse_moment
from ovnkit.api.world import World
from ovnkit.network.services import Service
from ovnkit_services.layout import Layout

IDLED = "/idled-at"
"""What the annotation of an idled service ends with."""

UNIDLED = "k8s.ovn.org/unidled-at"
"""Annotation: when a service ceased to be idled."""

SEEN = "ovnkit.io/idled"
"""Annotation that an idled service carries, so that its end is noticed whoever leads by then."""

GRACE = timedelta(seconds=30)
"""For this long after idling ends its clients are not refused: the pods are on their way (as upstream)."""


@frozen
class EmptyBalancer:
    """A packet came to a load balancer without targets. `balancer` is the UUID of its row in the northbound."""

    uuid: str
    balancer: str

    @property
    def key(self) -> str:
        """UUID of the row in the southbound."""
        return self.uuid


@frozen
class BalancerOwner:
    """Whose a load balancer is: the service, empty when the row is not ours."""

    uuid: str
    service: str

    @property
    def key(self) -> str:
        """The row's UUID."""
        return self.uuid


def _empty_balancer(raw: Raw) -> EmptyBalancer:
    return EmptyBalancer(raw["_uuid"], raw["event_info"].get("load_balancer", ""))


def _owner(raw: Raw) -> BalancerOwner:
    ids = raw["external_ids"]
    ours = RowId.parse(ids.get(OWNER_KEY, "")).plugin == "services"
    return BalancerOwner(raw["_uuid"], ids.get("k8s.ovn.org/owner", "") if ours else "")


EMPTY_BALANCERS: Kind[EmptyBalancer] = Kind(
    "empty-load-balancers", Table("sb", "Controller_Event", ("event_type", "event_info")), _empty_balancer
)
BALANCERS: Kind[BalancerOwner] = Kind("load-balancers", Table("nb", "Load_Balancer", ("external_ids",)), _owner)
KINDS = (EMPTY_BALANCERS, BALANCERS)


def is_idled(service: Service) -> bool:
    """Whether a service is idled now."""
    return any(name.endswith(IDLED) for name in service.annotations)


def clients_wait(world: World, service: Service, layout: Layout) -> bool:
    """Whether clients of a service without endpoints are to wait: it is idled, or was until a moment ago.

    Between the end of idling and the note of when that was, `SEEN` is still there.
    """
    if not layout.empty_lb_events:
        return False
    if is_idled(service) or SEEN in service.annotations:
        return True
    ended = _moment(service.annotations.get(UNIDLED, ""))
    return ended is not None and not world.passed(ended + GRACE)


def _moment(text: str) -> datetime | None:
    try:
        return parse_moment(text)
    except ValueError:
        return None
