"""Flows and groups by which a bridge is known: marks, claims of owners, and what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, field, frozen

from ovnkit.api.flows import COOKIE_MARK, GROUP_MARK, Flow, FlowItem, Match, Output, Port, plugin_mark
from ovnkit.engine.refusals import Refusals
from ovnkit.engine.sink import Owner
from ovnkit.sinks.host.flowworker import FlowChange, Verb, Worker


def cookie_of(plugin: str, text: str) -> int:
    """The cookie of a flow: it tells the plugin and stands for the flow's whole text."""
    own = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")
    return plugin_mark(plugin) << 48 | own


def is_our_group(number: int) -> bool:
    """Whether a group's number carries our mark."""
    return number >> 24 == GROUP_MARK >> 24


def is_ours(cookie: int) -> bool:
    """Whether a cookie carries our mark."""
    return cookie >> 56 == COOKIE_MARK


def switching(bridge: str) -> Flow:
    """The flow that a bridge has of itself, with cookie 0. One of ours may take its place, and gives it back."""
    return Flow(bridge, 0, 0, Match(), (Output(Port.NORMAL),))


@frozen
class Claim:
    """What one owner wants at one place: the text, and a flow's cookie or a group's number."""

    text: str
    cookie: int


@define
class BridgeState:
    """A bridge: what is wanted by place, and what it has. `flows` is None while that is not known.

    `places` and `dropped` know the flows of this process only: where they are, and which nobody wants any more.
    """

    worker: Worker
    refused: Refusals[FlowChange]
    flows_wanted: dict[Any, dict[Owner, Claim]] = field(factory=dict)
    groups_wanted: dict[int, dict[Owner, Claim]] = field(factory=dict)
    flows: set[int] | None = None
    last: int | None = None
    groups: set[int] = field(factory=set)
    places: dict[int, Any] = field(factory=dict)
    dropped: set[FlowChange] = field(factory=set)
    leaving: frozenset[int] = frozenset()
    """Cookies of the flows that the bundle under way deletes or replaces."""
    dirty: bool = False
    busy: bool = False
    look_again: bool = False
    missed: int = 0
    """Flows that others have deleted and that no log line has told of yet."""
    told_at: float = float("-inf")
    error: str = ""

    def replaced(self, cookie: int) -> bool:
        """Whether another flow is wanted where this one is."""
        return self.places.get(cookie) in self.flows_wanted


def winners(wanted: Mapping[Any, Mapping[Owner, Claim]]) -> Iterator[tuple[Any, Claim]]:
    """What holds at each place: of several owners that want it, the first by name decides."""
    return ((place, claims[min(claims, key=str)]) for place, claims in wanted.items())


def adding(item: FlowItem, claim: Claim) -> FlowChange:
    """The change that makes what an owner wants."""
    return (Verb.ADD_FLOW if isinstance(item, Flow) else Verb.ADD_GROUP), claim.cookie
