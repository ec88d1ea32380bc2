"""Sets of pods that policies name: their identity, their text form, and their content."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from attrs import field, frozen

from ovnkit.api.identity import PRIMARY_ID, RowId, hash_name, object_ids
from ovnkit.api.live import LiveSet
from ovnkit.api.matches import Match, address_set
from ovnkit.api.models import PODS, Pod
from ovnkit.api.selectors import EVERYTHING, LabelSelector, Operator, Requirement
from ovnkit.network.pod_addresses import PROJECTIONS

LEGACY = "_LNM"
"""Ending of the id of a set that a peer without podSelector names (upstream's "legacy" mode)."""


@frozen(cache_hash=True)
class NamedPort:
    """A container port by name, with the number it has in some pods."""

    name: str
    protocol: str
    number: int

    def __call__(self, pod: Pod) -> bool:
        """Whether a pod has it."""
        return any(
            (port.name, port.protocol, port.port) == (self.name, self.protocol, self.number) for port in pod.ports
        )


@frozen(cache_hash=True)
class PodSet:
    """Pods of one namespace by name, or of namespaces by labels; with `port` only those that have that port.

    `key` is upstream's id of such a set. It holds everything (`parse` reads it back), so equal sets of all
    policies are one row, and whoever renders that row needs nothing else.
    """

    namespaces: str | LabelSelector
    pods: LabelSelector = EVERYTHING
    legacy: bool = False
    port: NamedPort | None = None
    key: str = field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        place = _name(self.namespaces) if isinstance(self.namespaces, str) else _encode(self.namespaces)
        port = f"_{self.port.name}.{self.port.protocol}.{self.port.number}" if self.port else ""
        object.__setattr__(self, "key", f"{place}_{_encode(self.pods)}{LEGACY if self.legacy else ''}{port}")

    @classmethod
    def parse(cls, key: str) -> PodSet:
        """The set with this key."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise ValueError(f"{key!r} is no key of a set of pods")
        place = match["place"]
        return cls(
            _decode(place) if place.startswith("LS{") else _unquoted(place),
            _decode(match["pods"]),
            bool(match["legacy"]),
            NamedPort(match["port"], match["protocol"], int(match["number"])) if match["port"] else None,
        )

    def ids(self, family: int) -> dict[str, str]:
        """The ids of the address set of an IP version."""
        return object_ids("PodSelector", ("k8s.ovn.org/name", self.key), ("ip-family", f"v{family}"))

    def name(self, family: int) -> str:
        """Name of the address set of an IP version: `a` and digits."""
        return hash_name(self.ids(family)[PRIMARY_ID])

    def row(self, family: int) -> RowId:
        """The address set of an IP version."""
        return RowId("network_policy", "peers", self.key, f"v{family}")

    def match(self, family: int) -> Match:
        """The name of the address set of an IP version, as a match has it."""
        return address_set(self.name(family), self.row(family))

    def addresses(self, family: int) -> LiveSet:
        """The addresses in it."""
        everywhere = isinstance(self.namespaces, LabelSelector) and not self.namespaces.requirements
        return LiveSet(
            PODS, PROJECTIONS[family], self.pods, None if everywhere else self.namespaces, where=self.port
        )


# -- text -----------------------------------------------------------------------------------------------------

_KEY = re.compile(
    r"(?P<place>LS\{.*?\}|[^_{}]*)_(?P<pods>LS\{.*\})(?P<legacy>_LNM)?"
    r"(?:_(?P<port>[a-z0-9-]+)\.(?P<protocol>[A-Z]+)\.(?P<number>\d+))?"
)
_LABEL = re.compile(r"([^ ,{}\[\]:]+): ([^ ,{}\[\]:]*),")
_REQUIREMENT = re.compile(r"LSR\{Key:([^,]*),Operator:(\w+),Values:\[([^\]]*)\],\}")
_SAFE = "/."
"""What labels may contain beside letters, digits, `-` and `_`; anything else is written as %XX."""


def _encode(selector: LabelSelector) -> str:
    """Upstream's text of a selector: `LS{ML:{a: b,},ME:{LSR{Key:c,Operator:In,Values:[d e],}},}`."""
    labels: dict[str, str] = {}
    others: list[str] = []
    for requirement in sorted(selector.requirements, key=_order):
        values = sorted(_quoted(value) for value in requirement.values)
        key = _quoted(requirement.key)
        if requirement.operator is Operator.IN and len(values) == 1 and key not in labels:
            labels[key] = values[0]
        else:
            others.append(f"LSR{{Key:{key},Operator:{requirement.operator.value},Values:[{' '.join(values)}],}}")
    text = "ML:{" + "".join(f"{key}: {value}," for key, value in sorted(labels.items())) + "}," if labels else ""
    if others:
        text += "ME:{" + ",".join(sorted(others)) + "},"
    return f"LS{{{text}}}"


def _order(requirement: Requirement) -> tuple[str, str, list[str]]:
    return requirement.key, requirement.operator.value, sorted(requirement.values)


def _quoted(text: str) -> str:
    # A value may be empty; in a list of values it must still be seen.
    return quote(text, safe=_SAFE) or "%"


def _name(namespace: str) -> str:
    return _quoted(namespace).replace("_", "%5F")


def _unquoted(text: str) -> str:
    return "" if text == "%" else unquote(text)


def _decode(text: str) -> LabelSelector:
    labels, _, others = text.partition("ME:{")
    found = {
        Requirement(_unquoted(key), Operator.IN, frozenset({_unquoted(value)}))
        for key, value in _LABEL.findall(labels.replace("ML:{", " "))
    }
    for key, operator, values in _REQUIREMENT.findall(others):
        listed = frozenset(_unquoted(value) for value in values.split())
        found.add(Requirement(_unquoted(key), Operator(operator), listed))
    return LabelSelector(frozenset(found))
