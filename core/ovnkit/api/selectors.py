"""Label selectors (all operators of Kubernetes) as hashable values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Generic, TypeVar

from attrs import frozen

from ovnkit.api.errors import Reject
from ovnkit.api.kinds import Raw
from ovnkit.api.text import quoted

__all__ = [
    "EVERYTHING",
    "LabelSelector",
    "Operator",
    "Requirement",
    "SelectorIndex",
]

X = TypeVar("X")


class Operator(Enum):
    """Operators of a label requirement (k8s.io/apimachinery LabelSelectorRequirement)."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@frozen(order=False)
class Requirement:
    """One requirement on one label key; `values` is sorted and empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` satisfy this requirement; a missing key satisfies NotIn, as in Kubernetes."""
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value is not None and value in self.values
        if self.operator is Operator.NOT_IN:
            return value is None or value not in self.values
        return (value is not None) is (self.operator is Operator.EXISTS)


@frozen
class LabelSelector:
    """A conjunction of requirements; the empty selector matches everything."""

    requirements: frozenset[Requirement] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` satisfy every requirement."""
        for requirement in self.requirements:  # noqa: SIM110 (all() takes twice the time, and this runs often)
            if not requirement.matches(labels):
                return False
        return True

    @classmethod
    def parse(cls, raw: Raw | None) -> LabelSelector:
        """The selector of a `metav1.LabelSelector` object; raises Reject on an unknown operator or bad values."""
        raw = raw or {}
        found = {
            Requirement(key, Operator.IN, frozenset({value}))
            for key, value in (raw.get("matchLabels") or {}).items()
        }
        for expression in raw.get("matchExpressions") or ():
            try:
                operator = Operator(expression.get("operator"))
            except ValueError:
                raise Reject(f"unknown selector operator {quoted(expression.get('operator'))}") from None
            values = frozenset(expression.get("values") or ())
            takes_values = operator in (Operator.IN, Operator.NOT_IN)
            if bool(values) is not takes_values:
                raise Reject(
                    f"selector operator {operator.value} of key {quoted(expression.get('key'))}: wrong values"
                )
            found.add(Requirement(expression["key"], operator, values))
        return cls(frozenset(found))

    @classmethod
    def from_text(cls, text: str) -> LabelSelector:
        """The selector that kubectl writes (`a=b,c!=d,e in (f,g),!h`); raises Reject on anything else."""
        return cls(frozenset(_requirement(part) for part in _PART_SEPARATOR.split(text.strip()) if text.strip()))


_PART_SEPARATOR = re.compile(r",(?![^(]*\))")
"""A comma outside parentheses."""

_KEY = r"(?P<key>[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?)"
_VALUE = r"(?:[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_EQUALITY = re.compile(rf"\s*{_KEY}\s*(?P<sign>==|=|!=)\s*(?P<value>{_VALUE})\s*")
_MEMBERSHIP = re.compile(rf"\s*{_KEY}\s+(?P<verb>in|notin)\s*\((?P<values>[^()]*)\)\s*")
_EXISTENCE = re.compile(rf"\s*(?P<absent>!?)\s*{_KEY}\s*")


def _requirement(text: str) -> Requirement:
    if match := _EQUALITY.fullmatch(text):
        operator = Operator.NOT_IN if match["sign"] == "!=" else Operator.IN
        return Requirement(match["key"], operator, frozenset({match["value"]}))
    if match := _MEMBERSHIP.fullmatch(text):
        values = frozenset(value.strip() for value in match["values"].split(","))
        if all(re.fullmatch(_VALUE, value) for value in values):
            return Requirement(match["key"], Operator.IN if match["verb"] == "in" else Operator.NOT_IN, values)
    if match := _EXISTENCE.fullmatch(text):
        return Requirement(match["key"], Operator.DOES_NOT_EXIST if match["absent"] else Operator.EXISTS)
    raise Reject(f"{text.strip()!r} is not a label selector")


EVERYTHING = LabelSelector()


# -- many selectors -------------------------------------------------------------------------------------------


class SelectorIndex(Generic[X]):
    """Things with a label selector, found by the labels of an object without trying each selector.

    A selector is filed under one of its requirements that names values or a key; one that has only negative
    requirements is tried for every object.
    """

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str], dict[X, LabelSelector]] = {}
        self._by_key: dict[str, dict[X, LabelSelector]] = {}
        self._rest: dict[X, LabelSelector] = {}

    def add(self, selector: LabelSelector, thing: X) -> None:
        """File a thing under its selector."""
        for place in self._places(selector):
            place[thing] = selector

    def remove(self, selector: LabelSelector, thing: X) -> None:
        """Take a thing out again."""
        for place in self._places(selector):
            place.pop(thing, None)

    def _places(self, selector: LabelSelector) -> list[dict[X, LabelSelector]]:
        chosen = most_selective(selector)
        if chosen is None:
            return [self._rest]
        if chosen.operator is Operator.EXISTS:
            return [self._by_key.setdefault(chosen.key, {})]
        return [self._by_label.setdefault((chosen.key, value), {}) for value in chosen.values]

    def matching(self, labels: Mapping[str, str]) -> Iterable[X]:
        """Every thing whose selector matches these labels, once."""
        places = [self._rest]
        for key, value in labels.items():
            for place in (self._by_label.get((key, value)), self._by_key.get(key)):
                if place:
                    places.append(place)
        for place in places:
            for thing, selector in list(place.items()):
                if selector.matches(labels):
                    yield thing


def most_selective(selector: LabelSelector) -> Requirement | None:
    """The requirement that fewest objects are likely to meet; None when all of them are negative."""
    positive = [
        requirement
        for requirement in selector.requirements
        if requirement.operator in (Operator.IN, Operator.EXISTS)
    ]
    if not positive:
        return None
    return min(positive, key=lambda item: (item.operator is Operator.EXISTS, len(item.values), item.key))
