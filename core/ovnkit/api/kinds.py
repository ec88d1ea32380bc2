"""What can be observed: kinds, where they come from, and how a raw object becomes a trimmed view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from attrs import field, frozen

__all__ = [
    "Answers",
    "Changes",
    "HostFacts",
    "Kind",
    "Raw",
    "Resource",
    "Source",
    "Table",
    "View",
]

Raw = Mapping[str, Any]
"""A decoded JSON object as the API server sent it, or the column values of an OVSDB row by column name."""


class View(Protocol):
    """What the core needs of a view: the key it is stored under and value equality."""

    @property
    def key(self) -> str:
        """`namespace/name`, `name`, or a row's UUID."""


V = TypeVar("V", bound=View)
V_co = TypeVar("V_co", bound=View, covariant=True)


Changes = Sequence[tuple[str, View | None]]
"""Objects that came or changed, each with its key and its new view, or went (None)."""


@frozen
class Resource:
    """A Kubernetes resource as a source of views.

    `node_field` is the field selector path (`spec.nodeName`) by which a process that holds only the node role
    may narrow its watch to its own node; None when there is none. An `optional` resource is one that clusters may
    well be without (its CRD comes with something else): that it is missing is worth no warning.
    `annotated_by_status` says that annotations and labels are written through the status subresource, as built-in
    kinds allow: who may patch `pods/status` alone can't touch the spec.
    """

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True
    node_field: str | None = None
    optional: bool = False
    annotated_by_status: bool = False

    @property
    def path(self) -> str:
        """REST path of the collection over all namespaces, e.g. `/api/v1/pods`."""
        prefix = "/apis" if "/" in self.api_version else "/api"
        return f"{prefix}/{self.api_version}/{self.plural}"

    def object_path(self, key: str) -> str:
        """REST path of one object; `key` is `namespace/name` or `name`."""
        prefix = "/apis" if "/" in self.api_version else "/api"
        if not self.namespaced:
            return f"{prefix}/{self.api_version}/{self.plural}/{key}"
        namespace, _, name = key.partition("/")
        return f"{prefix}/{self.api_version}/namespaces/{namespace}/{self.plural}/{name}"


@frozen
class Table:
    """An OVSDB table as a source of views: `db` is `nb`, `sb` or `ovs`; only `columns` are monitored.

    The view receives the row's columns as Python values (sets as tuples, maps as dicts, references as UUID
    strings) and `_uuid`. `having` leaves out rows whose `external_ids` (one of the columns) lack these pairs.
    """

    db: str
    table: str
    columns: tuple[str, ...]
    having: tuple[tuple[str, str], ...] = ()


@frozen
class HostFacts:
    """Facts of the node's kernel as a source of views: `what` is `links`, `addresses` or `routes`."""

    what: str


@frozen
class Answers:
    """What a plugin's own service finds out about the world outside (names in the DNS, whether a host answers).

    Nothing is observed until a renderer yields an `Ask` for a key; the plugin's `ovnkit_answerers` then finds
    out. Until it has an answer, and for keys that nobody asks for, there is no view.
    """


Source = Resource | Table | HostFacts | Answers


@frozen(eq=False)
class Kind(Generic[V_co]):
    """One kind of observed thing. Define it once, at module level; identity is the object itself.

    `view` turns a raw object into a frozen attrs view. Two views that are equal cause no work, so a view must
    leave out what nobody reads (heartbeats, managedFields). It may raise `Reject`: the object then keeps its
    last good view and gets an Event.

    `indexes` name functions from a view to the values it is listed under (`{"node": lambda pod: [pod.node]}`).
    """

    name: str
    source: Source
    view: Callable[[Raw], V_co]
    indexes: Mapping[str, Callable[[V_co], Iterable[str]]] = field(factory=dict)

    @property
    def resource(self) -> Resource:
        """The Kubernetes resource behind this kind; raises TypeError for other sources."""
        if not isinstance(self.source, Resource):
            raise TypeError(f"{self.name} does not come from the Kubernetes API")
        return self.source
