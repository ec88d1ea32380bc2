"""What the host sink compares: desired items by key, and the same keys of what is there."""

from __future__ import annotations

from ovnkit.api.host import ROUTE_PROTOCOL, HostItem, Link, LinkAddress, Neighbour, Route, Rule
from ovnkit.sinks.host.decode import Fact

Key = tuple[str, str]
"""Kind of fact (`links`, `addresses`, ..., `sysctls`) and key of the thing that an item settles."""


def key_of(item: HostItem) -> Key:
    """The key of an item. Two items of one key contradict each other unless they are equal."""
    if isinstance(item, Link):
        return "links", item.name
    if isinstance(item, LinkAddress):
        return "addresses", f"{item.link}/{item.address}"
    if isinstance(item, Route):
        return "routes", f"{item.table}/{item.destination}"
    if isinstance(item, Rule):
        return "rules", f"{item.family}/{item.priority}/{item.table}/{item.fwmark}"
    if isinstance(item, Neighbour):
        return "neighbours", f"{item.link}/{item.address}"
    return "sysctls", "/".join(item.path)


def key_of_fact(fact: Fact) -> Key:
    """The key that a fact has among desired items."""
    if fact.what == "routes":
        return "routes", f"{fact.view.table}/{fact.view.destination}"
    return fact.what, fact.key


def link_of(item: HostItem) -> str:
    """The link an item needs; empty when it needs none."""
    if isinstance(item, Link):
        return item.name
    return item.link if isinstance(item, LinkAddress | Route | Neighbour) else ""


def satisfies(fact: Fact, item: HostItem) -> bool:
    """Whether what is there is what is wanted."""
    view = fact.view
    if isinstance(item, Link):
        right_mac = not item.mac or view.mac == item.mac.lower()
        return bool(view.up and right_mac and item.mtu in (0, view.mtu))
    if isinstance(item, LinkAddress):
        return bool(view.deprecated == item.deprecated)
    if isinstance(item, Route):
        hop = view.hops[0] if len(view.hops) == 1 else None
        return bool(
            hop is not None
            and (hop.link, hop.via) == (item.link, item.via)
            and (view.source, view.mtu) == (item.source, item.mtu)
        )
    if isinstance(item, Neighbour):
        return bool(view.mac == item.mac.lower())
    return True


def ours(fact: Fact) -> bool:
    """Whether a fact carries our mark, so that it may go when nobody wants it."""
    return fact.what not in ("links", "sysctls") and fact.protocol == ROUTE_PROTOCOL


def as_item(fact: Fact) -> HostItem | None:
    """The item whose removal takes away a fact of ours."""
    view = fact.view
    if fact.what == "addresses":
        return LinkAddress(view.link, view.address)
    if fact.what == "routes":
        hop = view.hops[0] if view.hops else None
        return Route(view.destination, hop.link, hop.via, table=view.table) if hop else None
    return view if isinstance(view, Rule | Neighbour) else None
