"""Label and field selectors, parsed once per request into a predicate over stored records."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from . import errors
from .store import Record

_KEY = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"^\s*(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)\s*$")
_EQUAL = re.compile(rf"^\s*(?P<key>{_KEY})\s*(?P<op>==|=|!=|>|<)\s*(?P<value>[-A-Za-z0-9_.]*)\s*$")
_EXISTS = re.compile(rf"^\s*(?P<not>!?)\s*(?P<key>{_KEY})\s*$")
_FIELD = re.compile(r"^\s*(?P<key>[^=!]+?)\s*(?P<op>==|=|!=)(?P<value>.*)$")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^(]*\))")


@frozen
class Requirement:
    """One term: ``op`` is in, notin, exists, absent, gt or lt."""

    key: str
    op: str
    values: frozenset[str] = frozenset()

    def matches(self, values: Mapping[str, str]) -> bool:
        """Whether a set of labels (or fields) satisfies the term."""
        held = values.get(self.key)
        match self.op:
            case "in":
                return held is not None and held in self.values
            case "notin":
                return held is None or held not in self.values
            case "exists":
                return held is not None
            case "absent":
                return held is None
            case _:
                return self._compare(held)

    def _compare(self, held: str | None) -> bool:
        try:
            left, right = int(held or ""), int(next(iter(self.values)))
        except ValueError:
            return False
        return left > right if self.op == "gt" else left < right


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The terms of a ``labelSelector`` parameter; raises 400 when it cannot be parsed."""
    if not text.strip():
        return ()
    return tuple(_label_term(part) for part in _COMMA_OUTSIDE_PARENTHESES.split(text))


def _label_term(text: str) -> Requirement:
    if found := _SET.match(text):
        values = frozenset(v.strip() for v in found["values"].split(","))
        return Requirement(found["key"], found["op"], values)
    if found := _EXISTS.match(text):
        return Requirement(found["key"], "absent" if found["not"] else "exists")
    if found := _EQUAL.match(text):
        op = {"=": "in", "==": "in", "!=": "notin", ">": "gt", "<": "lt"}[found["op"]]
        return Requirement(found["key"], op, frozenset([found["value"]]))
    raise errors.bad_request(f"unable to parse requirement: found {text.strip()!r}, expected a label selector")


def parse_fields(text: str) -> tuple[Requirement, ...]:
    """The terms of a ``fieldSelector`` parameter; raises 400 when it cannot be parsed."""
    terms = []
    for part in text.split(","):
        if not part.strip():
            continue
        found = _FIELD.match(part)
        if not found:
            raise errors.bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
        value = found["value"].replace("\\=", "=").replace("\\,", ",")
        terms.append(Requirement(found["key"], "notin" if found["op"] == "!=" else "in", frozenset([value])))
    return tuple(terms)


@frozen
class Selection:
    """What a list or watch asks for: a namespace (empty: all), label terms and field terms."""

    namespace: str = ""
    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()
    read_field: Callable[[Record, str], str] | None = None

    @property
    def everything(self) -> bool:
        """Whether no object is left out."""
        return not (self.namespace or self.labels or self.fields)

    def matches(self, record: Record) -> bool:
        """Whether a record is asked for."""
        if self.namespace and record.namespace != self.namespace:
            return False
        if not all(term.matches(record.labels) for term in self.labels):
            return False
        return not self.fields or all(self._field(term, record) for term in self.fields)

    def _field(self, term: Requirement, record: Record) -> bool:
        if term.key == "metadata.name":
            held = record.name
        elif term.key == "metadata.namespace":
            held = record.namespace
        elif self.read_field is not None and term.key not in record.fields:
            held = self.read_field(record, term.key)
        else:
            held = record.fields.get(term.key, "")
        return (held in term.values) == (term.op == "in")


def check_fields(terms: Iterable[Requirement], known: Sequence[str]) -> None:
    """Refuse field terms the resource doesn't support, as kube-apiserver does."""
    for term in terms:
        if term.key not in known and term.key not in ("metadata.name", "metadata.namespace"):
            raise errors.bad_request(f"field label not supported: {term.key}")


_POD = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
)
_EVENT = (
    *(
        f"involvedObject.{f}"
        for f in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    ),
    "reason",
    "reportingComponent",
    "source",
    "type",
)
FIELD_LABELS: Mapping[str, tuple[str, ...]] = {
    "pods": _POD,
    "events": _EVENT,
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicasets.apps": ("status.replicas",),
    "jobs.batch": ("status.successful",),
}


def field_labels(collection: str, obj: Mapping[str, object]) -> Mapping[str, str]:
    """The selectable fields of an object, as text (``true``/``false`` for booleans, empty when absent)."""
    names = FIELD_LABELS.get(collection)
    if not names:
        return {}
    values = {name: read_path(obj, name) for name in names}
    if collection == "pods":
        values["spec.hostNetwork"] = values["spec.hostNetwork"] or "false"
    elif collection == "events":
        values["source"] = read_path(obj, "source.component") or values["reportingComponent"]
    elif collection == "nodes":
        values["spec.unschedulable"] = values["spec.unschedulable"] or "false"
    return values


def read_path(obj: Mapping[str, object], path: str) -> str:
    """The scalar at a dotted path, as text."""
    value: Any = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
